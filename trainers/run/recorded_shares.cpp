// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/run/recorded_shares.hpp"

#include <fstream>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/core/error.hpp"

namespace tugline {
namespace json = boost::json;

RecordedShares read_recorded_shares(const std::filesystem::path& metrics) {
  std::ifstream in(metrics);
  if (!in) throw DataError(fmt::format("parallel.balance.replay: {} cannot be read; name the folder of a run", metrics.string()));
  RecordedShares recorded;
  std::int64_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.find("\"event\":\"balance\"") == std::string::npos) continue;
    if (in.eof()) break;   // the run was killed while it wrote this
    try {
      const json::value event = json::parse(line);
      const std::int64_t from = event.at("from_step").as_int64() - 1;
      recorded.unit = event.at("unit").as_int64();
      // Steps that an earlier attempt had made, and this one made again.
      recorded.by_step.erase(recorded.by_step.lower_bound(from), recorded.by_step.end());
      recorded.by_step[from] = json::value_to<std::vector<std::int64_t>>(event.at("shares"));
    } catch (const std::exception& error) {
      throw DataError(fmt::format("parallel.balance.replay: {}:{} is no record of shares: {}", metrics.string(), number, error.what()));
    }
  }
  return recorded;
}

}  // namespace tugline
