// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>

#include "tugline/core/metrics/json_text.hpp"
#include "tugline/trainers/doctor/doctor.hpp"

namespace tugline {
namespace {

const char* word(Status status) {
  switch (status) {
    case Status::ok:
      return "ok";
    case Status::warn:
      return "warn";
    case Status::fail:
      break;
  }
  return "fail";
}

}  // namespace

std::string report_text(const std::vector<Check>& checks) {
  std::size_t width = 0;
  for (const Check& check : checks) width = std::max(width, check.name.size());
  std::string text;
  for (const Check& check : checks) {
    text += fmt::format("{:<4}  {:<{}}  {}\n", word(check.status), check.name, width, check.detail);
    if (!check.advice.empty()) text += fmt::format("      {:<{}}  -> {}\n", "", width, check.advice);
  }
  return text;
}

std::string report_json(const std::vector<Check>& checks) {
  Status worst = Status::ok;
  boost::json::array list;
  for (const Check& check : checks) {
    worst = std::max(worst, check.status);
    list.push_back(
        {{"name", check.name}, {"status", word(check.status)}, {"detail", check.detail}, {"advice", check.advice}});
  }
  return json_pretty(boost::json::object{{"status", word(worst)}, {"checks", std::move(list)}});
}

}  // namespace tugline
