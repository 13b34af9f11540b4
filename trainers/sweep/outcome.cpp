// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/outcome.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/trainers/sweep/space/exact_number.hpp"

namespace tugline::sweep {
namespace {

namespace json = boost::json;

constexpr std::array<std::string_view, 8> kNames{"done", "stopped", "diverged", "refused", "crashed", "timed out", "lost", "preempted"};

double number_at(const json::value& text) {
  const auto number = exact_number(text);
  if (!number) throw DataError(fmt::format("expected a number as text, found {}", json::serialize(text)));
  return *number;
}

}  // namespace

std::string_view name_of(Outcome::State state) { return kNames[static_cast<std::size_t>(state)]; }

std::string to_json(const Outcome& outcome) {
  json::object metrics;
  for (const auto& [name, value] : outcome.metrics) metrics[name] = exact_text(value);
  json::array curve;
  for (const auto& [epochs, value] : outcome.curve) curve.push_back(json::array{exact_text(epochs), exact_text(value)});
  json::object object{{"state", name_of(outcome.state)}, {"attempt", outcome.attempt}, {"metrics", std::move(metrics)}, {"epochs", exact_text(outcome.epochs)},
                      {"seconds", exact_text(outcome.seconds)}};
  if (!curve.empty()) object["curve"] = std::move(curve);
  if (!outcome.folder.empty()) object["folder"] = outcome.folder;
  if (!outcome.why.empty()) object["why"] = outcome.why;
  return json::serialize(object);
}

Outcome outcome_from_json(std::string_view text) {
  try {
    const json::value parsed = json::parse(text);
    const json::object& object = parsed.as_object();
    Outcome outcome;
    const json::string& name = object.at("state").as_string();
    const auto state = std::find(kNames.begin(), kNames.end(), std::string_view(name.data(), name.size()));
    if (state == kNames.end()) throw DataError("an unknown state");
    outcome.state = static_cast<Outcome::State>(state - kNames.begin());
    outcome.attempt = static_cast<int>(object.at("attempt").as_int64());
    for (const auto& [metric, value] : object.at("metrics").as_object()) outcome.metrics[metric] = number_at(value);
    outcome.epochs = number_at(object.at("epochs"));
    outcome.seconds = number_at(object.at("seconds"));
    if (const json::value* curve = object.if_contains("curve")) {
      for (const json::value& item : curve->as_array()) {
        outcome.curve.push_back({number_at(item.as_array().at(0)), number_at(item.as_array().at(1))});
      }
    }
    if (const json::value* folder = object.if_contains("folder")) outcome.folder = json::value_to<std::string>(*folder);
    if (const json::value* why = object.if_contains("why")) outcome.why = json::value_to<std::string>(*why);
    return outcome;
  } catch (const std::exception& error) {
    throw DataError(fmt::format("not the end of an attempt ({}): {}", error.what(), text.substr(0, 80)));
  }
}

double score(std::span<const Objective> objectives, const std::map<std::string, double>& metrics) {
  double sum = 0;
  for (const Objective& objective : objectives) {
    if (objective.weight == 0) continue;
    const auto metric = metrics.find(objective.metric);
    if (metric == metrics.end() || !std::isfinite(metric->second)) return std::numeric_limits<double>::infinity();
    sum += objective.weight * (objective.maximise ? -metric->second : metric->second);
  }
  return sum;
}

double score(std::span<const Objective> objectives, const Outcome& outcome) {
  return outcome.has_value() ? score(objectives, outcome.metrics) : std::numeric_limits<double>::infinity();
}

}  // namespace tugline::sweep
