// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tugline/core/config/fields.hpp"
#include "tugline/core/config/scalar.hpp"
#include "tugline/core/config/tree.hpp"

namespace tugline::sweep {

/// Reads a map of the file key by key, and tells which of its keys nobody asked for. One that is missing leaves defaults.
class Section {
 public:
  /// `name` goes before keys in messages. `tree` may be null; it and `problems` must outlive this.
  Section(const config::Tree* tree, std::string name, config::Problems& problems);

  /// What stands at the key, or null. The key counts as known from now on.
  const config::Tree* find(std::string_view key);
  /// Reads the key when it is there; whether it was there and good. `out` is unchanged otherwise.
  template <class T>
  bool read(std::string_view key, T& out, const config::Allowed& allowed = {});
  /// "120 s", "2 min", "1 h", or a number of seconds; more than 0.
  bool read_duration(std::string_view key, double& seconds);
  /// Tells of unknown keys; to be called when all known ones were asked for. Whether there were any.
  bool finish();

  bool has(std::string_view key) const { return tree_ != nullptr && tree_->find(key) != nullptr; }
  void problem(const config::Place& place, std::string_view key, std::string_view sentence);
  /// Where a key stands, or the section when there is none.
  config::Place place(std::string_view key = {}) const;

 private:
  void refuse(const config::Tree& value, std::string_view key, config::Type::Kind kind, const config::Allowed& allowed);

  const config::Tree* tree_;
  std::string name_;
  config::Problems& problems_;
  std::vector<std::string_view> known_;
};

template <class T>
bool Section::read(std::string_view key, T& out, const config::Allowed& allowed) {
  using Kind = config::Type::Kind;
  const config::Tree* value = find(key);
  if (value == nullptr) return false;
  if (config::read_scalar(*value, allowed, out)) return true;
  constexpr Kind kKind = std::is_same_v<T, bool>          ? Kind::boolean
                         : std::is_same_v<T, std::string> ? Kind::text
                         : std::is_same_v<T, double>      ? Kind::number
                                                          : Kind::integer;
  refuse(*value, key, kKind, allowed);
  return false;
}

}  // namespace tugline::sweep
