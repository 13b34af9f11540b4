// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/run/run_records.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <sstream>
#include <string_view>
#include <utility>

#include "tugline/core/error.hpp"
#include "tugline/core/metrics/json_text.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

/// Calls `use` with each line's object. What is no JSON object, or not one that `use` can read (it throws), is skipped.
template <class Use>
void for_each_object(std::istream& in, Use use) {
  for (std::string line; std::getline(in, line);) {
    try {
      use(json::parse(line).as_object());
    } catch (const std::exception&) {   // torn, or written by a newer Tugline
    }
  }
}

std::int64_t whole(const json::value& number) { return number.to_number<std::int64_t>(); }

double double_at(const json::object& fields, std::string_view key) { return json_double(fields.at(key)); }

std::optional<double> double_if(const json::object& fields, std::string_view key) {
  const json::value* const value = fields.if_contains(key);
  return value != nullptr ? std::optional(json_double(*value)) : std::nullopt;
}

/// Number r of the array, 0 where an older Tugline did not write it.
double of_rank(const json::object& fields, std::string_view key, std::size_t r) {
  const json::value* const values = fields.if_contains(key);
  return values != nullptr ? json_double(values->as_array().at(r)) : 0;
}

StepRecord step_from(const json::object& fields) {
  StepRecord record;
  record.epoch = whole(fields.at("epoch"));
  record.step = whole(fields.at("step"));
  record.total_steps = whole(fields.at("total_steps"));
  record.loss = double_at(fields, "loss");
  record.accuracy = double_if(fields, "accuracy");
  record.lr = double_at(fields, "lr");
  record.gradient_norm = double_if(fields, "gradient_norm");
  record.samples = whole(fields.at("samples"));
  record.samples_per_second = double_at(fields, "samples_per_second");
  const json::object& seconds = fields.at("seconds").as_object();
  record.seconds = {double_at(seconds, "data"), double_at(seconds, "compute"), double_at(seconds, "exposed"),
                    double_at(seconds, "wait"), double_at(seconds, "optimizer")};
  record.bytes_sent = whole(fields.at("bytes_sent"));
  const json::array& shares = fields.at("shares").as_array();
  for (std::size_t r = 0; r < shares.size(); ++r) {
    const double data = of_rank(fields, "data_seconds", r);
    record.ranks.push_back({whole(shares[r]), data, of_rank(fields, "busy_seconds", r) - data, of_rank(fields, "cpu_seconds", r),
                            of_rank(fields, "waited_seconds", r)});
  }
  if (fields.contains("staleness")) record.staleness.emplace();
  return record;
}

EvalRecord evaluation_from(const json::object& fields) {
  EvalRecord record;
  record.split = json::value_to<std::string>(fields.at("split"));
  record.epoch = whole(fields.at("epoch"));
  record.step = whole(fields.at("step"));
  record.loss = double_at(fields, "loss");
  record.accuracy = double_if(fields, "accuracy");
  record.samples = whole(fields.at("samples"));
  record.seconds = double_at(fields, "seconds");
  return record;
}

RecordedAttempt::Balance balance_from(const json::object& fields) {
  return {whole(fields.at("from_step")), json::value_to<std::vector<std::int64_t>>(fields.at("shares")),
          json::value_to<std::string>(fields.at("reason")), false};
}

/// It begins before step `first`: what an earlier attempt did from there on is done once more.
void undo_from(RecordedAttempt& attempt, std::int64_t first) {
  std::erase_if(attempt.evaluations, [&](const auto& one) { return one.second.step >= first; });
  std::erase_if(attempt.validations, [&](const EvalRecord& one) { return one.step >= first; });
  if (attempt.balance && attempt.balance->of_earlier && attempt.balance->step >= first) attempt.balance.reset();
}

void take(RecordedAttempt& attempt, const json::object& fields, std::size_t keep_steps) {
  const std::string event = json::value_to<std::string>(fields.at("event"));
  const double time = double_at(fields, "time");
  if (event == "start") {
    attempt.steps.clear();
    attempt.resumed_at.reset();
    attempt.longest_gap = 0;
    attempt.ended = attempt.nonfinite = false;
    if (attempt.balance) attempt.balance->of_earlier = true;
  } else if (attempt.last_time > 0) {
    attempt.longest_gap = std::max(attempt.longest_gap, time - attempt.last_time);
  }
  attempt.last_time = time;
  if (event == "step") {
    StepRecord record = step_from(fields);
    if (attempt.steps.empty()) undo_from(attempt, record.step);
    attempt.steps.push_back(std::move(record));
    if (attempt.steps.size() > keep_steps) attempt.steps.pop_front();
  } else if (event == "evaluation") {
    EvalRecord record = evaluation_from(fields);
    attempt.evaluations[record.split] = record;
    if (record.split == "validation") attempt.validations.push_back(std::move(record));
  } else if (event == "balance") {
    attempt.balance = balance_from(fields);
  } else if (event == "resume") {
    attempt.resumed_at = whole(fields.at("step"));
  } else if (event == "nonfinite" || (event == "spike" && fields.at("next") == "stop")) {
    attempt.nonfinite = true;
  } else if (event == "end") {
    attempt.ended = true;
  }
}

/// Of "2026-11-26T19:08:23Z".
double seconds_of_utc(const std::string& text) {
  std::tm parts{};
  if (::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%SZ", &parts) == nullptr) throw Error("no time: " + text);
  return static_cast<double>(::timegm(&parts));
}

}  // namespace

RecordedAttempt read_metrics(const fs::path& file, std::size_t keep_steps) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw IoError(fmt::format("cannot read {}: {}", file.string(), std::strerror(errno)));
  RecordedAttempt attempt;
  for_each_object(in, [&](const json::object& fields) { take(attempt, fields, keep_steps); });
  return attempt;
}

std::vector<PastAttempt> read_attempts(const fs::path& file) {
  std::vector<PastAttempt> attempts;
  std::ifstream in(file, std::ios::binary);
  for_each_object(in, [&](const json::object& fields) {
    const double started = seconds_of_utc(json::value_to<std::string>(fields.at("started")));
    attempts.push_back({whole(fields.at("attempt")), started + double_at(fields, "seconds"), whole(fields.at("to_step")),
                        json::value_to<std::string>(fields.at("end")), json::value_to<std::string>(fields.at("next"))});
  });
  return attempts;
}

std::vector<std::string> read_hosts(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  std::vector<std::string> hosts;
  try {
    const json::value environment = json::parse(text.str());
    for (const json::value& rank : environment.at("bindings").as_array()) {
      hosts.push_back(json::value_to<std::string>(rank.at("host")));
    }
  } catch (const std::exception&) {   // names are a help, no more
    hosts.clear();
  }
  return hosts;
}

}  // namespace tugline
