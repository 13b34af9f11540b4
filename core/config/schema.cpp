// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cmath>

#include "tugline/core/config/fields.hpp"
#include "tugline/core/config/json_text.hpp"
#include "tugline/core/config/load.hpp"

namespace tugline {
namespace {

namespace json = boost::json;
using config::Field;
using Kind = config::Type::Kind;

json::value json_type(const Field& field) {
  const auto name = [&]() -> std::string_view {
    switch (field.type.kind) {
      case Kind::boolean:
        return "boolean";
      case Kind::integer:
        return "integer";
      case Kind::number:
        return "number";
      case Kind::text:
        return "string";
      default:
        return "object";
    }
  }();
  if (field.type.optional) return json::array{name, "null"};
  return json::value(name);
}

// 64-bit limits do not fit a double, but those in the notes are small: 1 is written 1, not 1.0.
json::value json_number(double value) {
  if (std::trunc(value) == value) return static_cast<std::int64_t>(value);
  return value;
}

/// What JSON Schema says of one value: type, choices, bounds.
json::object value_schema(const Field& field) {
  const config::Allowed& allowed = field.note->allowed;
  json::object schema{{"type", json_type(field)}};
  if (!allowed.choices.empty()) {
    json::array choices;
    for (const std::string_view choice : allowed.choices) choices.emplace_back(choice);
    schema["enum"] = choices;
  }
  if (std::isfinite(allowed.min)) schema[allowed.min_open ? "exclusiveMinimum" : "minimum"] = json_number(allowed.min);
  if (std::isfinite(allowed.max)) schema[allowed.max_open ? "exclusiveMaximum" : "maximum"] = json_number(allowed.max);
  return schema;
}

json::object section_schema() {
  return {{"type", "object"}, {"additionalProperties", false}, {"properties", json::object()}};
}

json::object field_schema(const Field& field) {
  json::object schema;
  if (field.type.kind == Kind::texts) {
    schema = {{"type", "object"}, {"additionalProperties", {{"type", "string"}}}};
  } else if (field.type.list) {
    schema = {{"type", "array"}, {"items", field.type.kind == Kind::section ? section_schema() : value_schema(field)}};
  } else {
    schema = value_schema(field);
  }
  const config::Note& note = *field.note;
  schema["description"] = note.unit.empty() ? std::string(note.help) : fmt::format("{} [{}]", note.help, note.unit);
  schema["default"] = field.default_value;
  return schema;
}

/// The object under which `key` stands; made on the way. "optim.groups[].match" lies in the items of groups.
json::object& properties_of(json::object& root, std::string_view key) {
  json::object* section = &root;
  for (auto dot = key.find('.'); dot != key.npos; dot = key.find('.')) {
    std::string_view name = key.substr(0, dot);
    key.remove_prefix(dot + 1);
    json::object& properties = section->at("properties").as_object();
    if (name.ends_with("[]")) {
      section = &properties.at(name.substr(0, name.size() - 2)).at("items").as_object();
    } else {
      if (!properties.contains(name)) properties[name] = section_schema();
      section = &properties.at(name).as_object();
    }
  }
  return section->at("properties").as_object();
}

}  // namespace

std::string schema_text() {
  std::string text;
  std::string last_section;
  for (const Field& field : config::fields()) {
    const auto dot = field.key.rfind('.');
    const std::string section = field.key.substr(0, dot == std::string::npos ? 0 : dot);
    if (section != last_section) text += '\n';
    last_section = section;
    const std::string unit = field.note->unit.empty() ? "" : fmt::format(" [{}]", field.note->unit);
    text += fmt::format("{:<32} {}{}\n      {}\n",
                        fmt::format("{}={}", field.key, config::json_text(field.default_value, config::Layout::indented)),
                        config::expected(field), unit, field.note->help);
  }
  return text;
}

std::string schema_json() {
  json::object root = section_schema();
  root["properties"].as_object()["extends"] = {
      {"type", "string"}, {"description", "another config, relative to this one, that this one changes"}};
  for (const Field& field : config::fields()) {
    json::object& properties = properties_of(root, field.key);
    properties[field.key.substr(field.key.rfind('.') + 1)] = field_schema(field);
  }
  json::object schema{{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"title", "Tugline run config"}};
  for (auto& entry : root) schema.insert(std::move(entry));
  return config::json_text(schema, config::Layout::indented) + "\n";
}

}  // namespace tugline
