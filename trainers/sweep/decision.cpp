// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/decision.hpp"

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/trainers/sweep/space/points.hpp"

namespace tugline::sweep {
namespace json = boost::json;

std::string to_json(const Space& space, const Decision& decision) {
  if (decision.is_lost()) return R"({"lost":true})";
  return json::serialize(json::object{{"trial", decision.trial}, {"rung", decision.rung}, {"until", decision.until}, {"budget", decision.budget},
                                      {"seen", to_text(decision.seen)}, {"point", point_to_json(space, decision.point)}});
}

Decision decision_from_json(const Space& space, std::string_view text) {
  try {
    const json::value parsed = json::parse(text);
    const json::object& object = parsed.as_object();
    if (object.contains("lost")) return lost_decision();
    Decision decision;
    decision.trial = object.at("trial").as_int64();
    decision.rung = static_cast<int>(object.at("rung").as_int64());
    decision.until = object.at("until").as_int64();
    decision.budget = object.at("budget").as_int64();
    decision.seen = seen_jobs_from_text(json::value_to<std::string>(object.at("seen")));
    decision.point = point_from_json(space, object.at("point").as_object());
    return decision;
  } catch (const std::exception& error) {
    throw DataError(fmt::format("not a decision of this sweep ({}): {}", error.what(), text.substr(0, 80)));
  }
}

}  // namespace tugline::sweep
