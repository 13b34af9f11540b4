// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tugline/core/metrics/sink.hpp"
#include "tugline/core/metrics/waiting.hpp"

namespace tugline {

/// Who pulls and who does not: adds up what each rank did, and tells it as a table of one row per rank, with a sentence below
/// that names the rank the others wait for (docs/metrics.md explains the columns).
class RankTable final : public Sink {
 public:
  /// `hosts`: of each rank, shown where there are several; may be empty.
  explicit RankTable(std::vector<std::string> hosts = {}) : hosts_(std::move(hosts)) {}

  void step(const StepRecord&) override;
  void evaluation(const EvalRecord&) override {}
  void event(std::string_view, const boost::json::object&) override {}
  /// Forgets all steps; those of another number of ranks do so too.
  void reset();

  /// The ranks spend a notable part of their time waiting for others.
  bool somebody_waits() const;
  /// Lines indented by two, no newline at the end. Empty with fewer than two ranks.
  std::string text() const;

 private:
  struct Rank {
    double samples = 0, data_seconds = 0, compute_seconds = 0, cpu_seconds = 0;

    double busy_seconds() const { return data_seconds + compute_seconds; }
    double speed() const;          // samples per second of its own work; 0: it had none
    double data_part() const;      // of its own work: waiting for the loader
    double cpu_part() const;       // of its computing: having a core
  };
  double fastest() const;
  std::string why(std::size_t rank) const;
  std::string row(std::size_t rank, std::size_t host_width) const;
  std::string verdict() const;
  std::vector<std::size_t> by_speed() const;
  bool names_hosts() const;

  std::vector<std::string> hosts_;
  std::vector<Rank> ranks_;
  Waiting waiting_;
  double steps_ = 0, samples_ = 0, seconds_ = 0, exposed_seconds_ = 0;
};

}  // namespace tugline
