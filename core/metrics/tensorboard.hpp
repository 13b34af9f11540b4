// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tugline/core/metrics/append_file.hpp"
#include "tugline/core/metrics/sink.hpp"

namespace tugline {

/// Writes scalars that `tensorboard --logdir RUN` shows: train/loss, train/accuracy, train/lr, train/gradient_norm,
/// train/samples_per_second, seconds/<phase>, <split>/loss, <split>/accuracy.
class TensorBoardWriter final : public Sink {
 public:
  /// A new events.out.tfevents.<time>.<host>.<pid> in `folder`; TensorBoard joins those of several attempts. `now` gives
  /// unix seconds; null: the machine's clock. Throws IoError.
  explicit TensorBoardWriter(const std::filesystem::path& folder, std::function<double()> now = nullptr);
  void step(const StepRecord&) override;
  void evaluation(const EvalRecord&) override;
  void event(std::string_view, const boost::json::object&) override {}

  using Scalars = std::vector<std::pair<std::string, double>>;
  void write(std::int64_t step, const Scalars& scalars);

 private:
  std::function<double()> now_;
  AppendFile file_;
};

/// CRC-32C (Castagnoli) of `bytes`, rotated and offset as TensorFlow's record files want it.
std::uint32_t masked_crc32c(std::string_view bytes);

}  // namespace tugline
