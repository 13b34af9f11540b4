// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/successive_halving.hpp"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

namespace tugline::sweep {

int SuccessiveHalving::rungs() const {
  int rung = 0;
  while (epochs_at(rung) < settings_.max) ++rung;
  return rung + 1;
}

std::int64_t SuccessiveHalving::epochs_at(int rung) const {
  std::int64_t epochs = settings_.min;
  for (int r = 0; r < rung && epochs < settings_.max; ++r) epochs = epochs > settings_.max / settings_.eta ? settings_.max : epochs * settings_.eta;
  return std::min(epochs, settings_.max);
}

std::optional<SuccessiveHalving::Promotion> SuccessiveHalving::promotion(std::span<const JobRecord> jobs, std::size_t known) const {
  for (int rung = rungs() - 2; rung >= 0; --rung) {
    std::vector<std::pair<double, std::int64_t>> arrived;   // value and trial
    std::set<std::int64_t> promoted;
    for (std::size_t j = 0; j < jobs.size(); ++j) {
      const JobRecord& job = jobs[j];
      if (job.decision.rung > rung) promoted.insert(job.decision.trial);
      if (job.decision.rung == rung && j < known && job.outcome() != nullptr) {
        arrived.emplace_back(score(objectives_, *job.outcome()), job.decision.trial);
      }
    }
    std::sort(arrived.begin(), arrived.end());
    const std::size_t places = arrived.size() / static_cast<std::size_t>(settings_.eta);
    for (std::size_t place = 0; place < places; ++place) {
      const auto& [value, trial] = arrived[place];
      if (std::isfinite(value) && !promoted.contains(trial)) return Promotion{trial, rung + 1};
    }
  }
  return std::nullopt;
}

}  // namespace tugline::sweep
