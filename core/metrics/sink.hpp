// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/fwd.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tugline/core/metrics/rank_step.hpp"
#include "tugline/core/metrics/staleness.hpp"

namespace tugline {

/// One training step as rank 0 knows it. Epochs and steps count from 1: the first step of a run is epoch 1, step 1.
struct StepRecord {
  struct Seconds {
    double data = 0;     ///< waiting for the loader
    double compute = 0;  ///< forward and backward
    double exposed = 0;  ///< communication that compute did not hide
    double wait = 0;     ///< waiting for other ranks
    double optimizer = 0;
  };
  std::int64_t epoch = 0;
  std::int64_t step = 0;
  std::int64_t total_steps = 0;  ///< of the whole run; 0: not known
  double loss = 0;               ///< mean over the global batch
  std::optional<double> accuracy;
  double lr = 0;
  std::optional<double> gradient_norm;
  std::int64_t samples = 0;  ///< of the global batch
  double samples_per_second = 0;
  Seconds seconds;
  std::int64_t bytes_sent = 0;
  std::vector<RankStep> ranks;   ///< each rank's part, in rank order
  std::optional<Staleness> staleness;   ///< of its gradients, where they may be computed on old parameters
};

/// One evaluation of a split, exact over all ranks.
struct EvalRecord {
  std::string split;  ///< "train", "validation", "test"
  std::int64_t epoch = 0;
  std::int64_t step = 0;  ///< steps done before it
  double loss = 0;
  std::optional<double> accuracy;
  std::int64_t samples = 0;
  double seconds = 0;
};

/// Takes the facts of a run and shows or stores them; computes none of its own. Called by one thread. After construction a
/// sink never throws: what cannot be written costs a warning, not the run.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual void step(const StepRecord&) = 0;
  virtual void evaluation(const EvalRecord&) = 0;
  /// Everything else: "start", "checkpoint", "resume", "warning", "end" with their fields (docs/metrics.md).
  virtual void event(std::string_view name, const boost::json::object& fields) = 0;
};

/// Hands every fact to all its sinks. A run has one, on rank 0; the other ranks have an empty one.
class RunLog final : public Sink {
 public:
  /// `every_steps` > 1 gives this sink every so many steps only, and the first and last one seen.
  void add(std::unique_ptr<Sink> sink, std::int64_t every_steps = 1);
  void step(const StepRecord&) override;
  void evaluation(const EvalRecord&) override;
  void event(std::string_view name, const boost::json::object& fields) override;

 private:
  struct Entry {
    std::unique_ptr<Sink> sink;
    std::int64_t every_steps;
    bool started = false;
  };
  std::vector<Entry> entries_;
};

}  // namespace tugline
