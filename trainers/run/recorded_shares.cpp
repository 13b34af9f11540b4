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
  RecordedShares shares;
  for (std::string line; std::getline(in, line);) {
    if (line.find("\"balance\"") == std::string::npos) continue;
    boost::system::error_code torn;
    const json::value event = json::parse(line, torn);
    if (torn || event.as_object().at("event") != "balance") continue;
    const std::int64_t from = event.at("from_step").as_int64() - 1;
    shares.erase(shares.lower_bound(from), shares.end());   // steps that an attempt which was cut short had made
    shares[from] = json::value_to<std::vector<std::int64_t>>(event.at("shares"));
  }
  return shares;
}

}  // namespace tugline
