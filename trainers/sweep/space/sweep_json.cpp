// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cmath>

#include "tugline/core/config/json_text.hpp"
#include "tugline/trainers/sweep/space/sweep_config.hpp"

namespace tugline::sweep {
namespace {

namespace json = boost::json;

json::object to_object(const Parameter& parameter) {
  constexpr std::array<const char*, 4> kKinds{"float", "int", "ordinal", "choice"};
  const Dimension& dimension = parameter.dimension;
  json::object result{{"key", dimension.key}};
  const char* kind = kKinds[static_cast<std::size_t>(dimension.kind)];
  if (dimension.kind == Dimension::Kind::real) {
    result[kind] = {dimension.low, dimension.high};
  } else if (dimension.kind == Dimension::Kind::integer) {
    result[kind] = {static_cast<std::int64_t>(dimension.low), static_cast<std::int64_t>(dimension.high)};
  } else {
    result[kind] = json::array(dimension.values.begin(), dimension.values.end());
  }
  if (dimension.log) result["log"] = true;
  if (!parameter.when.empty()) result["when"] = parameter.when;
  if (!parameter.repeat.empty()) result["for"] = parameter.repeat;
  return result;
}

json::array first_of(const SweepConfig& sweep) {
  json::array result;
  for (const PartialPoint& partial : sweep.first) {
    Point point;
    for (const std::optional<double>& value : partial) point.push_back(value.value_or(std::nan("")));
    result.push_back(point_to_json(sweep.space, point));
  }
  return result;
}

json::object stop_of(const StopSettings& stop) {
  json::object result{{"rule", stop.rule}};
  if (stop.rule == "none") return result;
  result["min"] = stop.min;
  if (stop.rule == "median") {
    result["warmup_trials"] = stop.warmup_trials;
  } else {
    result["max"] = stop.max;
    result["eta"] = stop.eta;
  }
  return result;
}

}  // namespace

// Without dir: it may be mounted elsewhere on another host. The base by its text, for the same reason. Without budget and run, which may
// change while the sweep goes on.
std::string to_json(const SweepConfig& sweep) {
  json::array objectives, space;
  for (const Objective& one : sweep.objectives) {
    objectives.push_back({{"metric", one.metric}, {"goal", one.maximise ? "max" : "min"}, {"weight", one.weight}});
  }
  for (const Parameter& one : sweep.parameters) space.push_back(to_object(one));
  json::object result;
  json::object named{{"name", sweep.name}, {"base", sweep.base_text}, {"seed", sweep.seed}};
  if (sweep.base) named["base_digest"] = sweep.base_digest;
  result["sweep"] = std::move(named);
  result["objectives"] = std::move(objectives);
  result["space"] = std::move(space);
  result["forbid"] = json::array(sweep.forbid.begin(), sweep.forbid.end());
  result["first"] = first_of(sweep);
  result["search"] = {{"method", sweep.method}};
  result["stop"] = stop_of(sweep.stop);
  result["repeat"] = {{"lag", sweep.lag ? json::value(*sweep.lag) : json::value(nullptr)}};
  return config::json_text(result, config::Layout::one_line);
}

}  // namespace tugline::sweep
