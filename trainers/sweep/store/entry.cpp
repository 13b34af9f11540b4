// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/store/entry.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/json.hpp>

namespace tugline::sweep {
namespace {

namespace json = boost::json;

constexpr std::array<std::string_view, 3> kKinds{"claim", "end", "reopen"};

/// Throws what Boost throws, or std::out_of_range, when a line is not what to_text() writes.
Entry from_line(std::string_view line) {
  unsigned char room[2048];
  json::monotonic_resource memory(room, sizeof room);   // entries of others are read by the thousand
  const json::value parsed = json::parse(line, &memory);
  const json::object& fields = parsed.as_object();
  const auto flag = [&](json::string_view name) {
    const json::value* const value = fields.if_contains(name);
    return value != nullptr && value->as_bool();
  };
  const std::string_view kind = fields.at("kind").as_string();
  const auto found = std::find(kKinds.begin(), kKinds.end(), kind);
  if (found == kKinds.end()) throw std::out_of_range("kind");
  Entry entry;
  entry.kind = static_cast<Entry::Kind>(found - kKinds.begin());
  entry.job = fields.at("job").to_number<std::int64_t>();
  entry.position = fields.at("position").to_number<int>();
  entry.attempt = fields.at("attempt").to_number<int>();
  entry.worker = fields.at("worker").as_string();
  entry.decides = flag("decides");
  entry.voids = flag("voids");
  entry.final = flag("final");
  if (const json::value* const lease = fields.if_contains("lease_seconds")) entry.lease_seconds = lease->to_number<double>();
  return entry;
}

}  // namespace

std::string to_text(const Entry& entry) {
  json::object fields{{"kind", kKinds[static_cast<std::size_t>(entry.kind)]}, {"job", entry.job}, {"position", entry.position},
                      {"attempt", entry.attempt}, {"worker", entry.worker}};
  if (entry.decides) fields["decides"] = true;
  if (entry.voids) fields["voids"] = true;
  if (entry.final) fields["final"] = true;
  if (entry.lease_seconds) fields["lease_seconds"] = *entry.lease_seconds;
  return frame(json::serialize(fields) + "\n" + entry.content + "\n");
}

std::optional<Entry> entry_from(std::string_view payload) {
  try {
    const std::size_t line = payload.find('\n');
    if (line == payload.npos || line + 1 == payload.size()) return std::nullopt;
    Entry entry = from_line(payload.substr(0, line));
    entry.content = payload.substr(line + 1, payload.size() - line - 2);
    return entry;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

std::variant<Entry, Damage> read_entry(std::string_view text, std::int64_t job, int position) {
  const auto framed = unframe(text);
  if (const auto* damage = std::get_if<Damage>(&framed)) return *damage;
  auto entry = entry_from(std::get<std::string_view>(framed));
  if (!entry) return Damage{"is whole but no entry that this version knows"};
  if (entry->job != job || entry->position != position) return Damage{fmt::format("is entry {} of job {}", entry->position, entry->job)};
  return *std::move(entry);
}

}  // namespace tugline::sweep
