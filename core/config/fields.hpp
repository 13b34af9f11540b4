// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/config/run_config_notes.hpp"
#include "tugline/core/config/tree.hpp"

namespace tugline::config {

/// The type of a key as a user thinks of it.
struct Type {
  enum class Kind { boolean, integer, number, text, section, texts };  // texts: free-form names with text
  Kind kind = Kind::text;
  bool list = false;
  bool optional = false;  // null is a value
};

/// One key of RunConfig: its note, and what the struct itself says.
struct Field {
  std::string key;
  Type type;
  boost::json::value default_value;
  const Note* note = nullptr;
};

/// Every key in order of declaration, made from the description of the structs and the notes.
const std::vector<Field>& fields();
/// "optim.groups[3].match" finds "optim.groups[].match". Throws Error when there is no such key.
const Field& field_of(std::string_view key);

/// "optim.groups[3].match" -> "optim.groups[].match".
std::string without_indices(std::string_view key);

/// "a number > 0", "one of sgd, adam": what may stand there. `item` asks about one item of a list.
std::string expected(const Field&, bool item = false);

/// The three walks over the structs.
boost::json::object encode(const RunConfig&);
void decode(const Tree&, RunConfig&, Problems&);

}  // namespace tugline::config
