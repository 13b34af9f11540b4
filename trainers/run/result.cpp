// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/run/result.hpp"

#include <fmt/format.h>

#include <array>
#include <boost/json.hpp>
#include <fstream>
#include <sstream>

#include "tugline/core/atomic_file.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/metrics/json_text.hpp"

namespace tugline {
namespace {

namespace json = boost::json;

// One list for both directions: keys of text, which are left out when empty.
constexpr std::array<std::pair<const char*, std::string Result::*>, 3> kTexts{
    {{"reason", &Result::reason}, {"checkpoint", &Result::checkpoint}, {"best_checkpoint", &Result::best_checkpoint}}};

Result from_json(const json::object& fields) {
  Result result;
  result.status = json::value_to<std::string>(fields.at("status"));
  result.ranks = fields.at("ranks").to_number<int>();
  result.epochs = fields.at("epochs").to_number<std::int64_t>();
  result.steps = fields.at("steps").to_number<std::int64_t>();
  result.seconds = json_double(fields.at("seconds"));
  result.samples_per_second = json_double(fields.at("samples_per_second"));
  for (const auto& [key, member] : kTexts) {
    if (const json::value* text = fields.if_contains(key)) result.*member = json::value_to<std::string>(*text);
  }
  for (const auto& field : fields) {
    const json::object* split = field.value().if_object();
    if (split == nullptr || !split->contains("loss")) continue;
    Result::Split& there = result.splits[field.key()];
    there.loss = json_double(split->at("loss"));
    if (const json::value* accuracy = split->if_contains("accuracy")) there.accuracy = json_double(*accuracy);
  }
  return result;
}

}  // namespace

void write_result(const std::filesystem::path& file, const Result& result) {
  json::object fields{{"status", result.status},   {"ranks", result.ranks},
                      {"epochs", result.epochs},   {"steps", result.steps},
                      {"seconds", result.seconds}, {"samples_per_second", result.samples_per_second}};
  for (const auto& [name, split] : result.splits) {
    json::object there{{"loss", split.loss}};
    if (split.accuracy) there["accuracy"] = *split.accuracy;
    fields[name] = std::move(there);
  }
  for (const auto& [key, member] : kTexts) {
    if (!(result.*member).empty()) fields[key] = result.*member;
  }
  write_file_atomically(file, json_pretty(fields));
}

std::optional<Result> read_result(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return std::nullopt;
  std::ostringstream text;
  text << in.rdbuf();
  try {
    return from_json(json::parse(text.str()).as_object());
  } catch (const std::exception& error) {
    throw IoError(
        fmt::format("{} is no result of a run ({}); delete it, or start over with --fresh", file.string(), error.what()));
  }
}

}  // namespace tugline
