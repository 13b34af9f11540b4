// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <memory>

#include "tugline/core/metrics/append_file.hpp"
#include "tugline/core/metrics/sink.hpp"

namespace tugline {

/// Appends one JSON line per fact to a run's metrics.jsonl; docs/metrics.md has the schema. Every line has "time" (unix
/// seconds) and "event". A line torn by a crash is ended before the next one is written, so it can't spoil that.
class EventLog final : public Sink {
 public:
  /// `now` gives unix seconds; null: the machine's clock. Throws IoError when the file cannot be opened.
  explicit EventLog(const std::filesystem::path& file, std::function<double()> now = nullptr);
  void step(const StepRecord&) override;
  void evaluation(const EvalRecord&) override;
  void event(std::string_view name, const boost::json::object& fields) override;

 private:
  AppendFile file_;
  std::function<double()> now_;
  bool torn_ = false;
};

/// Unix seconds by the machine's clock.
double unix_seconds();

}  // namespace tugline
