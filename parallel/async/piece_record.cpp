// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/async/piece_record.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <sstream>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/core/error.hpp"

namespace tugline {
namespace json = boost::json;
namespace {

constexpr std::size_t kNumbers = 13;
constexpr std::uint32_t kMostVersions = 1u << 30;

/// One number where all ranges have it.
json::value text_of(const std::vector<std::uint32_t>& versions) {
  const bool equal = std::adjacent_find(versions.begin(), versions.end(), std::not_equal_to<>()) == versions.end();
  if (equal && !versions.empty()) return versions.front();
  return json::value_from(versions);
}

/// `first`: per range, where the attempt's versions begin.
std::vector<std::uint32_t> versions_of(const json::value& text, const std::vector<std::uint32_t>& first) {
  std::vector<std::uint32_t> versions(first.size());
  if (text.is_array()) {
    versions = json::value_to<std::vector<std::uint32_t>>(text);
    if (versions.size() != first.size()) throw DataError(fmt::format("{} versions for {} ranges", versions.size(), first.size()));
  } else {
    std::fill(versions.begin(), versions.end(), text.to_number<std::uint32_t>());
  }
  for (std::size_t r = 0; r < first.size(); ++r) {
    if (versions[r] > kMostVersions) throw DataError(fmt::format("version {} is not possible", versions[r]));
    versions[r] += first[r];
  }
  return versions;
}

}  // namespace

std::string PieceRecord::encode() const {
  const std::array<double, kNumbers> numbers{
      static_cast<double>(piece), static_cast<double>(rank), static_cast<double>(samples), static_cast<double>(dropped), report.weight, report.loss_sum,
      report.correct, report.counted, report.data_seconds, report.compute_seconds, report.cpu_seconds, static_cast<double>(read.size()), waited_seconds};
  std::string bytes(reinterpret_cast<const char*>(numbers.data()), sizeof numbers);
  for (const auto* versions : {&read, &applied}) {
    bytes.append(reinterpret_cast<const char*>(versions->data()), versions->size() * sizeof(std::uint32_t));
  }
  return bytes;
}

PieceRecord PieceRecord::decode(const std::string& bytes) {
  std::array<double, kNumbers> numbers{};
  std::memcpy(numbers.data(), bytes.data(), sizeof numbers);
  PieceRecord record;
  record.piece = static_cast<std::int64_t>(numbers[0]);
  record.rank = static_cast<int>(numbers[1]);
  record.samples = static_cast<std::int64_t>(numbers[2]);
  record.dropped = numbers[3] != 0;
  record.report = {.weight = numbers[4], .loss_sum = numbers[5], .correct = numbers[6], .counted = numbers[7],
                   .data_seconds = numbers[8], .compute_seconds = numbers[9], .cpu_seconds = numbers[10]};
  record.waited_seconds = numbers[12];
  const auto ranges = static_cast<std::size_t>(numbers[11]);
  const char* next = bytes.data() + sizeof numbers;
  for (auto* versions : {&record.read, &record.applied}) {
    versions->resize(ranges);
    std::memcpy(versions->data(), next, ranges * sizeof(std::uint32_t));
    next += ranges * sizeof(std::uint32_t);
  }
  return record;
}

RecordedUpdates RecordedUpdates::from(std::int64_t step) const {
  if (step == 0) return *this;
  if (meetings.count(step) == 0) {
    throw ConfigError(fmt::format("parallel.async.replay: the recorded run's ranks did not meet after step {}, where this one would go on; begin it anew with --fresh", step));
  }
  RecordedUpdates rest{*this, {}, {}};   // cut alike
  rest.meetings.insert(meetings.upper_bound(step), meetings.end());
  std::vector<std::uint32_t> first(static_cast<std::size_t>(ranges), 0);
  for (const auto& [number, record] : pieces) {
    if (number < step * pieces_per_step) {
      for (std::size_t r = 0; r < first.size(); ++r) first[r] = std::max(first[r], record.applied[r]);
      continue;
    }
    PieceRecord& later = rest.pieces.emplace(number, record).first->second;
    for (std::size_t r = 0; r < first.size(); ++r) {
      later.read[r] -= first[r];
      if (later.applied[r] > 0) later.applied[r] -= first[r];
    }
  }
  return rest;
}

std::vector<RangeScript> RecordedUpdates::scripts() const {
  std::vector<RangeScript> scripts(static_cast<std::size_t>(ranges));
  const auto count = [](std::vector<int>& counts, std::uint32_t version) {
    counts.resize(std::max<std::size_t>(counts.size(), version + 1));
    ++counts[version];
  };
  for (const auto& [number, record] : pieces) {
    for (std::size_t r = 0; r < scripts.size(); ++r) {
      count(scripts[r].readers, record.read[r]);
      if (record.applied[r] > 0) count(scripts[r].pushes, record.applied[r] - 1);
    }
  }
  for (auto& script : scripts) script.readers.resize(std::max(script.readers.size(), script.pushes.size()));
  return scripts;
}

std::string attempt_line(std::int64_t from_step, const UpdatePlan& plan) {
  json::object line{{"from_step", from_step}, {"ranks", plan.ranks}, {"pieces_per_step", plan.pieces_per_step}, {"ranges", plan.ranges}};
  if (plan.local_steps != 1) line["local_steps"] = plan.local_steps;
  return json::serialize(line) + "\n";
}

std::string piece_line(const PieceRecord& record) {
  json::object line{{"piece", record.piece}, {"rank", record.rank}, {"read", text_of(record.read)}};
  if (record.dropped) line["dropped"] = true;
  if (!record.applied.empty() && record.applied.front() > 0) line["applied"] = text_of(record.applied);
  return json::serialize(line) + "\n";
}

std::string meeting_line(std::int64_t step) { return json::serialize(json::object{{"met_after_step", step}}) + "\n"; }

namespace {

/// Reads line after line; versions of an attempt begin at 0.
class UpdatesReader {
 public:
  void line(const json::object& line) {
    if (line.contains("from_step")) return attempt(line);
    if (recorded.ranks == 0) throw DataError("no attempt has begun");
    if (line.contains("met_after_step")) {
      recorded.meetings.insert(line.at("met_after_step").as_int64());
      return;
    }
    PieceRecord record;
    record.piece = line.at("piece").as_int64();
    record.rank = line.at("rank").to_number<int>();
    record.dropped = line.contains("dropped");
    record.read = versions_of(line.at("read"), first_);
    const bool applied = line.contains("applied");
    record.applied = applied ? versions_of(line.at("applied"), first_) : std::vector<std::uint32_t>(first_.size(), 0);
    if (record.rank < 0 || record.rank >= recorded.ranks || record.piece < 0) throw DataError("no such rank or piece");
    for (const std::uint32_t version : record.applied) {
      if (version == 0 && (applied || !record.dropped)) throw DataError("an update makes at least version 1");
    }
    for (std::size_t r = 0; applied && r < first_.size(); ++r) {
      if (record.applied[r] <= record.read[r]) throw DataError("a gradient cannot be applied before it is computed");
    }
    if (!recorded.pieces.emplace(record.piece, record).second) throw DataError(fmt::format("piece {} was computed before", record.piece));
  }
  RecordedUpdates recorded;

 private:
  /// Pieces and meetings of steps that are made again go.
  void attempt(const json::object& line) {
    const RecordedUpdates before = std::move(recorded);
    recorded = {};
    recorded.ranks = line.at("ranks").to_number<int>();
    recorded.pieces_per_step = line.at("pieces_per_step").to_number<int>();
    recorded.ranges = line.at("ranges").to_number<int>();
    recorded.local_steps = line.contains("local_steps") ? line.at("local_steps").to_number<int>() : 1;
    if (recorded.ranks < 1 || recorded.pieces_per_step < 1 || recorded.ranges < 1) throw DataError("an attempt has at least one rank, piece and range");
    const std::int64_t from = line.at("from_step").as_int64();
    first_.assign(static_cast<std::size_t>(recorded.ranges), 0);
    for (const auto& [number, record] : before.pieces) {
      if (number >= from * before.pieces_per_step) break;
      if (static_cast<const UpdatePlan&>(before) != recorded) {
        throw DataError("the run went on with another number of ranks or pieces, and cannot be repeated");
      }
      recorded.pieces.emplace(number, record);
      for (std::size_t r = 0; r < first_.size(); ++r) first_[r] = std::max(first_[r], record.applied[r]);
    }
    for (const std::int64_t meeting : before.meetings) {
      if (meeting <= from) recorded.meetings.insert(meeting);
    }
  }
  std::vector<std::uint32_t> first_;   // per range: versions before this attempt
};

/// Every version up to the last is some update's, and nobody has read a later one.
void require_no_gap(const RecordedUpdates& recorded, const std::string& file) {
  for (int r = 0; r < recorded.ranges; ++r) {
    std::set<std::uint32_t> made{0};
    std::uint32_t read = 0;
    for (const auto& [number, record] : recorded.pieces) {
      made.insert(record.applied[static_cast<std::size_t>(r)]);
      read = std::max(read, record.read[static_cast<std::size_t>(r)]);
    }
    if (*made.rbegin() + 1 == made.size() && read <= *made.rbegin()) continue;
    throw DataError(fmt::format("{} is not complete: versions of range {} are missing", file, r));
  }
}

}  // namespace

RecordedUpdates parse_updates(const std::string& text, const std::string& file) {
  UpdatesReader reader;
  std::istringstream in(text);
  std::int64_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (in.eof()) break;   // the run was killed while it wrote this
    try {
      boost::system::error_code fault;
      const json::value value = json::parse(line, fault);
      if (fault) throw DataError(fault.message());
      if (!value.is_object()) throw DataError("it is no JSON object");
      reader.line(value.as_object());
    } catch (const std::exception& error) {
      throw DataError(fmt::format("{}:{} is no record of updates: {}", file, number, error.what()));
    }
  }
  if (reader.recorded.ranks == 0) throw DataError(fmt::format("{} records no updates", file));
  require_no_gap(reader.recorded, file);
  return std::move(reader.recorded);
}

}  // namespace tugline
