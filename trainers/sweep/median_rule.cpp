// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/median_rule.hpp"

#include <algorithm>

namespace tugline::sweep {

bool is_below_median(const StopSettings& settings, std::span<const Curve> others, const Curve& mine) {
  if (mine.empty() || mine.back().epochs < static_cast<double>(settings.min)) return false;
  std::vector<double> means;
  for (const Curve& curve : others) {
    double sum = 0;
    int count = 0;
    for (const auto& [epochs, value] : curve) {
      if (epochs > mine.back().epochs) break;
      sum += value;
      ++count;
    }
    if (count > 0) means.push_back(sum / count);
  }
  if (means.empty() || means.size() < static_cast<std::size_t>(std::max<std::int64_t>(settings.warmup_trials, 1))) return false;
  const auto middle = means.begin() + static_cast<std::ptrdiff_t>(means.size() / 2);
  std::nth_element(means.begin(), middle, means.end());
  const auto best = std::min_element(mine.begin(), mine.end(), [](const auto& a, const auto& b) { return a.value < b.value; });
  return best->value > *middle;
}

}  // namespace tugline::sweep
