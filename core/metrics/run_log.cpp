// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/metrics/sink.hpp"

#include <algorithm>
#include <utility>

namespace tugline {

void RunLog::add(std::unique_ptr<Sink> sink, std::int64_t every_steps) {
  entries_.push_back({std::move(sink), std::max<std::int64_t>(1, every_steps)});
}

void RunLog::step(const StepRecord& record) {
  for (Entry& entry : entries_) {
    const bool first = !std::exchange(entry.started, true), last = record.step == record.total_steps;
    if (first || last || record.step % entry.every_steps == 0) entry.sink->step(record);
  }
}

void RunLog::evaluation(const EvalRecord& record) {
  for (Entry& entry : entries_) entry.sink->evaluation(record);
}

void RunLog::event(std::string_view name, const boost::json::object& fields) {
  for (Entry& entry : entries_) entry.sink->event(name, fields);
}

}  // namespace tugline
