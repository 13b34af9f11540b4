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
  const json::value parsed = json::parse(line);
  const json::object& fields = parsed.as_object();
  const auto flag = [&](const char* name) { return fields.contains(name) && fields.at(name).as_bool(); };
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
  if (fields.contains("lease_seconds")) entry.lease_seconds = fields.at("lease_seconds").to_number<double>();
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

std::variant<Entry, Damage> read_entry(std::string_view text, std::int64_t job, int position) {
  const auto framed = unframe(text);
  if (const auto* damage = std::get_if<Damage>(&framed)) return *damage;
  const std::string_view payload = std::get<std::string_view>(framed);
  try {
    const std::size_t line = payload.find('\n');
    Entry entry = from_line(payload.substr(0, line));
    if (entry.job != job || entry.position != position) {
      return Damage{fmt::format("is entry {} of job {}", entry.position, entry.job)};
    }
    entry.content = payload.substr(line + 1);
    entry.content.pop_back();
    return entry;
  } catch (const std::exception&) {
    return Damage{"is whole but no entry that this version knows"};
  }
}

}  // namespace tugline::sweep
