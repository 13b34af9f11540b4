// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "tugline/core/config/fields.hpp"
#include "tugline/core/config/nearest.hpp"
#include "tugline/core/config/scalar.hpp"
#include "tugline/trainers/sweep/space/parameters.hpp"
#include "tugline/trainers/sweep/space/section.hpp"
#include "tugline/trainers/sweep/space/value_text.hpp"

namespace tugline::sweep {
namespace {

using config::Field;
using config::Tree;
using Kind = Dimension::Kind;
using Type = config::Type::Kind;

struct KindName {
  std::string_view name;
  Kind kind;
};
constexpr std::array<KindName, 4> kKinds{
    {{"float", Kind::real}, {"int", Kind::integer}, {"ordinal", Kind::ordinal}, {"choice", Kind::choice}}};

const Field* find_field(std::string_view key) {
  const auto& all = config::fields();
  const auto field = std::ranges::find(all, key, &Field::key);
  return field == all.end() ? nullptr : &*field;
}

/// "model.options.depth": a free name below a key that has such.
bool is_free_name(std::string_view key) {
  return std::ranges::any_of(config::fields(), [&](const Field& field) {
    return field.type.kind == Type::texts && key.size() > field.key.size() + 1 && key.starts_with(field.key + ".");
  });
}

bool is_name(std::string key) {
  for (auto at = key.find("[i]"); at != key.npos; at = key.find("[i]")) key.erase(at, 3);
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-$";
  return !key.empty() && key.find_first_not_of(kLetters) == key.npos;
}

template <class T>
bool reads_as(const Tree& value, const config::Allowed& allowed) {
  T ignored{};
  return config::read_scalar(value, allowed, ignored);
}

bool fits(const Tree& value, const Field& field, bool item) {
  if (field.type.list && !item) return false;   // a list is looked at item by item
  if (value.kind == Tree::Kind::null) return field.type.optional;
  const config::Allowed& allowed = field.note->allowed;
  switch (field.type.kind) {
    case Type::boolean:
      return reads_as<bool>(value, allowed);
    case Type::integer:
      return reads_as<std::int64_t>(value, allowed);
    case Type::number:
      return reads_as<double>(value, allowed);
    default:
      return reads_as<std::string>(value, allowed);
  }
}

bool is_plain_value(const Tree& value) {
  return value.kind != Tree::Kind::map && std::ranges::all_of(value.children, is_plain_value);
}

class ParameterReader {
 public:
  ParameterReader(const Tree& tree, config::Problems& problems)
      : tree_(tree), section_(tree.kind == Tree::Kind::map ? &tree : nullptr, tree.key, problems), problems_(problems) {
    result_.tree = &tree;
    result_.parameter.dimension.key = tree.key;
  }

  ReadParameter read(bool of_config) && {
    check_key(of_config);
    if (tree_.kind == Tree::Kind::map) {
      read_entry();
    } else {
      const bool empty = tree_.kind == Tree::Kind::null;   // the parser places it anywhere
      refuse(empty ? tree_.key_place : tree_.place, fmt::format("expected {}, found {}", kWanted, found(tree_)));
    }
    return std::move(result_);
  }

 private:
  static constexpr std::string_view kWanted = "one of float: [low, high], int: [low, high], ordinal: [values], choice: [values]";

  void refuse(const config::Place& place, std::string_view sentence, std::string_view below = {}) {
    problems_.add(place, below.empty() ? tree_.key : fmt::format("{}.{}", tree_.key, below), sentence);
    result_.broken = true;
  }

  void check_key(bool of_config) {
    const std::string& key = tree_.key;
    if (!of_config || key.starts_with('$') || is_free_name(key)) {
      if (!is_name(key)) refuse(tree_.key_place, "a name has letters, digits, and any of _ . - $ [i]");
      return;
    }
    result_.in_config = true;
    item_ = key.ends_with("[i]");
    field_ = find_field(list_key(key));
    if (field_ == nullptr || (key.ends_with(']') && !item_)) {
      std::vector<std::string_view> keys;
      for (const Field& field : config::fields()) keys.push_back(field.key);
      const bool section = std::ranges::any_of(keys, [&](std::string_view one) { return one.starts_with(key + "."); });
      const std::string guess = config::did_you_mean(config::nearest_key(list_key(key), keys));
      refuse(tree_.key_place, section ? fmt::format("is a section: write a key below it, such as {}.KEY", key) : "unknown key" + guess);
      field_ = nullptr;
    } else if (field_->type.kind == Type::section || field_->type.kind == Type::texts || field_->key.find('[') != std::string::npos) {
      refuse(tree_.key_place, "cannot be searched");
      field_ = nullptr;
    } else if (item_ && !field_->type.list) {
      refuse(tree_.key_place, fmt::format("{} is no list: leave [i] out", field_->key));
    }
  }

  void read_entry() {
    Dimension& dimension = result_.parameter.dimension;
    const KindName* kind = nullptr;
    int kinds = 0;
    for (const KindName& one : kKinds) {
      if (section_.find(one.name) == nullptr) continue;
      kind = &one;
      ++kinds;
    }
    if (kinds > 1) refuse(tree_.key_place, "only one of float, int, ordinal and choice may stand here");
    read_log(kind);
    read_text("when", result_.parameter.when);
    read_text("for", result_.parameter.repeat);
    const bool strange = section_.finish();
    check_for();
    if (kinds == 0 && !strange) refuse(tree_.key_place, fmt::format("expected {}", kWanted));
    result_.broken = result_.broken || kinds == 0;
    if (kinds != 1) return;
    dimension.kind = kind->kind;
    if (kind->kind == Kind::real || kind->kind == Kind::integer) {
      if (takes(*kind)) read_bounds(*section_.find(kind->name), kind->name);
    } else {
      read_values(*section_.find(kind->name), kind->name);
    }
  }

  void read_log(const KindName* kind) {
    bool& log = result_.parameter.dimension.log;
    if (section_.find("log") != nullptr && !section_.read("log", log)) result_.broken = true;
    const bool ranged = kind == nullptr || kind->kind == Kind::real || kind->kind == Kind::integer;
    if (log && !ranged) refuse(section_.place("log"), "only float and int have a logarithmic scale", "log");
  }

  void read_text(std::string_view key, std::string& out) {
    const Tree* value = section_.find(key);
    if (value == nullptr) return;
    if (value->kind != Tree::Kind::scalar || value->text.empty()) refuse(value->place, "expected a condition, found " + found(*value), key);
    out = value->text;
  }

  void check_for() {
    const bool repeated = is_repeated(tree_.key);
    if (repeated && !section_.has("for")) refuse(tree_.key_place, "[i] needs a `for`, such as for: \"i < 4\"");
    if (repeated || !section_.has("for")) return;
    refuse(section_.place("for"), fmt::format("`for` needs a key with [i], such as \"{}[i]\"", tree_.key), "for");
  }

  /// Whether the type of the key takes a range of this kind.
  bool takes(const KindName& kind) {
    if (field_ == nullptr) return true;
    const Type type = field_->type.kind;
    const config::Place place = section_.find(kind.name)->key_place;
    if (field_->type.list && !item_) {
      refuse(place, fmt::format("{} is a list: write \"{}[i]\" with a `for`, or a choice of lists", field_->key, field_->key), kind.name);
    } else if (type == Type::integer && kind.kind == Kind::real) {
      refuse(place, fmt::format("{} is a whole number: write int", field_->key), kind.name);
    } else if (type != Type::integer && type != Type::number) {
      refuse(place, fmt::format("{} is {}: write choice", field_->key, config::expected(*field_, item_)), kind.name);
    } else {
      return true;
    }
    return false;
  }

  void read_bounds(const Tree& bounds, std::string_view kind) {
    Dimension& dimension = result_.parameter.dimension;
    if (bounds.kind != Tree::Kind::list || bounds.children.size() != 2) {
      const std::size_t count = bounds.children.size();
      const std::string what = bounds.kind == Tree::Kind::list ? fmt::format("a list of {}", count) : found(bounds);
      return refuse(bounds.place, fmt::format("expected [low, high], found {}", what), kind);
    }
    const bool good = read_bound(bounds.children[0], kind, dimension.low) && read_bound(bounds.children[1], kind, dimension.high);
    if (!good) return;
    if (dimension.low > dimension.high) return refuse(bounds.place, "low is greater than high", kind);
    if (!std::isfinite(dimension.high - dimension.low)) return refuse(bounds.place, "the range is too wide for float64", kind);
    if (dimension.log && dimension.low <= 0) refuse(bounds.children[0].place, "with log: true low must be greater than 0", kind);
  }

  bool read_bound(const Tree& bound, std::string_view kind, double& out) {
    const bool whole = result_.parameter.dimension.kind == Kind::integer;
    constexpr double kExact = 0x1p53;   // beyond it not every whole number is a double
    const std::optional<double> number = as_number(bound);
    if (!number || (whole && (std::trunc(*number) != *number || std::abs(*number) > kExact))) {
      refuse(bound.place, fmt::format("expected {}, found {}", whole ? "a whole number" : "a number", found(bound)), kind);
    } else if (field_ != nullptr && !field_->note->allowed.contains(*number)) {
      refuse(bound.place, fmt::format("{} takes {}, found {}", field_->key, config::expected(*field_, item_), found(bound)), kind);
    } else {
      out = *number;
      return true;
    }
    return false;
  }

  void read_values(const Tree& values, std::string_view kind) {
    Dimension& dimension = result_.parameter.dimension;
    if (values.kind != Tree::Kind::list || values.children.empty()) {
      const std::string what = values.kind == Tree::Kind::list ? "an empty one" : found(values);
      return refuse(values.place, fmt::format("expected a list of values, found {}", what), kind);
    }
    for (const Tree& value : values.children) {
      if (!check_value(value, kind, item_)) continue;
      std::string text = value_text(value);
      if (std::ranges::find(dimension.values, text) != dimension.values.end()) {
        refuse(value.place, fmt::format("{} is written twice", text), kind);
      }
      dimension.values.push_back(std::move(text));
    }
    dimension.high = static_cast<double>(dimension.values.size()) - 1;
  }

  bool check_value(const Tree& value, std::string_view kind, bool item) {
    if (field_ != nullptr && field_->type.list && !item && value.kind == Tree::Kind::list) {
      return std::ranges::all_of(value.children, [&](const Tree& one) { return check_value(one, kind, true); });
    }
    if (field_ != nullptr && !fits(value, *field_, item)) {
      const auto& choices = field_->note->allowed.choices;
      const std::string guess = value.kind == Tree::Kind::scalar ? config::nearest_word(value.text, choices) : "";
      const std::string wanted = config::expected(*field_, item);
      refuse(value.place, fmt::format("expected {}, found {}{}", wanted, found(value), config::did_you_mean(guess)), kind);
    } else if (!is_plain_value(value)) {
      refuse(value.place, fmt::format("expected a value or a list of values, found {}", found(value)), kind);
    } else {
      return true;
    }
    return false;
  }

  const Tree& tree_;
  Section section_;
  config::Problems& problems_;
  ReadParameter result_;
  const Field* field_ = nullptr;   // none: a free name
  bool item_ = false;              // an element of that list
};

}  // namespace

std::vector<ReadParameter> read_parameters(const Tree& space, bool of_config, config::Problems& problems) {
  std::vector<ReadParameter> parameters;
  for (const Tree& entry : space.children) parameters.push_back(ParameterReader(entry, problems).read(of_config));
  return parameters;
}

}  // namespace tugline::sweep
