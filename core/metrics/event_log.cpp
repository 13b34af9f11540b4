// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/metrics/event_log.hpp"

#include <boost/json.hpp>
#include <chrono>
#include <cmath>
#include <string>
#include <utility>

#include "tugline/core/metrics/json_text.hpp"

namespace tugline {
namespace {

namespace json = boost::json;

json::object seconds_of(const StepRecord::Seconds& seconds) {
  return {{"data", seconds.data},
          {"compute", seconds.compute},
          {"exposed", seconds.exposed},
          {"wait", seconds.wait},
          {"optimizer", seconds.optimizer}};
}

}  // namespace

double unix_seconds() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

EventLog::EventLog(const std::filesystem::path& file, std::function<double()> now)
    : file_(file), now_(now ? std::move(now) : unix_seconds), torn_(file_.ends_without('\n')) {}

void EventLog::step(const StepRecord& record) {
  json::object fields{
      {"epoch", record.epoch}, {"step", record.step}, {"total_steps", record.total_steps}, {"loss", record.loss}};
  if (record.accuracy) fields["accuracy"] = *record.accuracy;
  fields["lr"] = record.lr;
  if (record.gradient_norm) fields["gradient_norm"] = *record.gradient_norm;
  fields["samples"] = record.samples;
  fields["samples_per_second"] = record.samples_per_second;
  fields["seconds"] = seconds_of(record.seconds);
  fields["bytes_sent"] = record.bytes_sent;
  const auto of_ranks = [&](const char* name, auto value_of) {
    json::array values;
    for (const RankStep& rank : record.ranks) values.emplace_back(value_of(rank));
    fields[name] = std::move(values);
  };
  of_ranks("shares", [](const RankStep& rank) { return rank.samples; });
  of_ranks("busy_seconds", [](const RankStep& rank) { return rank.busy_seconds(); });
  of_ranks("data_seconds", [](const RankStep& rank) { return rank.data_seconds; });
  of_ranks("cpu_seconds", [](const RankStep& rank) { return rank.cpu_seconds; });
  if (record.staleness) of_ranks("waited_seconds", [](const RankStep& rank) { return rank.waited_seconds; });
  if (record.staleness) fields["staleness"] = {{"mean", record.staleness->mean()}, {"largest", record.staleness->largest()}};
  event("step", fields);
}

void EventLog::evaluation(const EvalRecord& record) {
  json::object fields{{"split", record.split}, {"epoch", record.epoch}, {"step", record.step}, {"loss", record.loss}};
  if (record.accuracy) fields["accuracy"] = *record.accuracy;
  fields["samples"] = record.samples;
  fields["seconds"] = record.seconds;
  event("evaluation", fields);
}

void EventLog::event(std::string_view name, const json::object& fields) {
  // Milliseconds are enough, and shorter to read.
  json::object line{{"time", std::round(now_() * 1e3) / 1e3}, {"event", name}};
  for (const auto& field : fields) line.insert_or_assign(field.key(), field.value());
  const std::string text = (torn_ ? "\n" : "") + json_line(line) + "\n";
  torn_ = !file_.append(text);
}

}  // namespace tugline
