// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <iostream>
#include <string>
#include <vector>

#include <boost/json.hpp>

namespace tugline {

inline double percentile(std::vector<double> values, double fraction) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(std::lround(fraction * static_cast<double>(values.size() - 1)))];
}

/// One line of scripts/bench.sh's table: ratios to `peer`. `goal` 0: none.
inline void print_row(const std::string& bench, const std::string& what, const std::vector<double>& ratios, const char* peer, double goal,
                      const char* better = "lower") {
  boost::json::object row{{"bench", bench}, {"case", what}, {"value", percentile(ratios, 0.5)}, {"p10", percentile(ratios, 0.1)},
                          {"p90", percentile(ratios, 0.9)}, {"unit", "x"}, {"better", better}, {"peer", peer}, {"goal", nullptr}};
  if (goal > 0) row["goal"] = goal;
  std::cout << boost::json::serialize(row) << std::endl;
}

}  // namespace tugline
