// SPDX-License-Identifier: Apache-2.0
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <cctype>

#include "tugline/core/config/fields.hpp"
#include "tugline/core/config/load.hpp"
#include "tugline/core/config/scalar.hpp"

namespace tugline {
namespace {

namespace json = boost::json;

// Words and paths need no quotes; what another YAML reader could take for a number, a boolean or null gets them.
bool needs_quotes(std::string_view text) {
  constexpr std::string_view kWords[] = {"true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"};
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const auto plain = [](unsigned char c) {
    return c < 0x80 && (std::isalnum(c) || c == '_' || c == '.' || c == '/' || c == '-');
  };
  return text.empty() || !(std::isalpha(static_cast<unsigned char>(text[0])) || text[0] == '/') ||
         !std::ranges::all_of(text, plain) || std::ranges::find(kWords, lower) != std::end(kWords);
}

void emit_text(YAML::Emitter& out, std::string_view text) {
  if (needs_quotes(text)) out << YAML::DoubleQuoted;
  out << std::string(text);
}

void emit(YAML::Emitter& out, const json::value& value) {
  if (const auto* object = value.if_object()) {
    if (object->empty()) out << YAML::Flow;
    out << YAML::BeginMap;
    for (const auto& entry : *object) {
      out << YAML::Key;
      emit_text(out, entry.key());
      out << YAML::Value;
      emit(out, entry.value());
    }
    out << YAML::EndMap;
  } else if (const auto* array = value.if_array()) {
    const bool nested = std::ranges::any_of(*array, &json::value::is_structured);
    out << (nested ? YAML::Block : YAML::Flow) << YAML::BeginSeq;
    for (const json::value& item : *array) emit(out, item);
    out << YAML::EndSeq;
  } else if (const auto* text = value.if_string()) {
    emit_text(out, *text);
  } else if (value.is_null()) {
    out << YAML::Null;
  } else {
    out << (value.is_double() ? config::number_text(value.get_double()) : json::serialize(value));
  }
}

}  // namespace

std::string to_yaml(const RunConfig& run) {
  YAML::Emitter out;
  emit(out, config::encode(run));
  return std::string(out.c_str()) + "\n";
}

}  // namespace tugline
