// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tugline::config {

/// Where something was written: a file, or an override on the command line.
struct Place {
  std::string source;  // the file as the user named it, or the override's text
  int order = 0;       // sources in the order in which they were read
  int line = 0;        // from 1; 0 for the command line
  int column = 0;
  bool on_command_line() const { return line == 0; }
};

/// What was written, before it has a type. Every node knows its place, so that a value that came through `extends` or an
/// override is still reported where it stands.
struct Tree {
  enum class Kind { null, scalar, list, map };
  Kind kind = Kind::null;
  std::string text;     // scalar
  bool quoted = false;  // scalar: written in quotes, so it is text whatever it looks like
  Place place;
  std::vector<Tree> children;  // of a list or a map
  std::string key;             // when the parent is a map
  Place key_place;

  const Tree* find(std::string_view name) const;
  /// Follows "optim.lr" down the maps.
  const Tree* find_path(std::string_view path) const;
};

/// Lays `over` on top: maps merge key by key, everything else is replaced. A section left empty changes nothing.
void merge(Tree& base, Tree over);

/// "'fast'", "a list", "nothing": what stands there, for a message.
std::string found(const Tree&);

/// Everything wrong with a config, to be told at once.
class Problems {
 public:
  void add(const Place&, std::string_view key, std::string_view sentence);
  bool empty() const { return entries_.empty(); }
  bool concerns(std::string_view key) const;
  /// ConfigError with one line per problem, in the order of the files; returns when there is none.
  void throw_if_any() const;

 private:
  struct Entry {
    Place place;
    std::string key;
    std::string text;
  };
  std::vector<Entry> entries_;
};

/// Reads one YAML document. Null when it is not valid YAML.
std::optional<Tree> read_yaml(const std::string& yaml, const std::string& source, int order, Problems&);
/// Reads one "a.b=value" in Hydra's grammar into nested maps; `index` counts overrides from 0.
std::optional<Tree> read_override(const std::string& text, int index, Problems&);

}  // namespace tugline::config
