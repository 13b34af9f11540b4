// SPDX-License-Identifier: Apache-2.0
// The one file that expands the description of the config structs: three walks, encode, decode and fields.
#include <fmt/format.h>

#include <algorithm>
#include <boost/describe.hpp>
#include <boost/json/array.hpp>
#include <boost/mp11/algorithm.hpp>
#include <type_traits>

#include "tugline/core/config/describe.hpp"
#include "tugline/core/config/fields.hpp"
#include "tugline/core/config/nearest.hpp"
#include "tugline/core/config/scalar.hpp"
#include "tugline/core/error.hpp"

namespace tugline::config {
namespace {

namespace json = boost::json;

template <class T>
concept Described = boost::describe::has_describe_members<T>::value;

template <class T, template <class...> class Template>
constexpr bool kIs = false;
template <class... A, template <class...> class Template>
constexpr bool kIs<Template<A...>, Template> = true;

using Texts = std::map<std::string, std::string>;

template <class T, class Function>
void for_each_member(Function function) {
  boost::mp11::mp_for_each<boost::describe::describe_members<T, boost::describe::mod_public>>(function);
}

std::string inner_key(const std::string& section, const char* name) {
  return section.empty() ? name : fmt::format("{}.{}", section, name);
}

// ---- struct -> JSON value

template <class T>
json::value encode_value(const T& value) {
  if constexpr (Described<T>) {
    json::object object;
    for_each_member<T>([&](auto member) { object[member.name] = encode_value(value.*member.pointer); });
    return object;
  } else if constexpr (kIs<T, std::vector>) {
    json::array array;
    for (const auto& item : value) array.push_back(encode_value(item));
    return array;
  } else if constexpr (kIs<T, std::optional>) {
    return value ? encode_value(*value) : json::value(nullptr);
  } else if constexpr (std::is_same_v<T, Texts>) {
    json::object object;
    for (const auto& [name, text] : value) object[name] = text;
    return object;
  } else {
    return json::value(value);
  }
}

// ---- struct -> list of keys

template <class T>
Type type_of() {
  if constexpr (kIs<T, std::vector>) {
    return {.kind = type_of<typename T::value_type>().kind, .list = true};
  } else if constexpr (kIs<T, std::optional>) {
    return {.kind = type_of<typename T::value_type>().kind, .optional = true};
  } else if constexpr (Described<T>) {
    return {.kind = Type::Kind::section};
  } else if constexpr (std::is_same_v<T, Texts>) {
    return {.kind = Type::Kind::texts};
  } else if constexpr (std::is_same_v<T, bool>) {
    return {.kind = Type::Kind::boolean};
  } else if constexpr (std::is_integral_v<T>) {
    return {.kind = Type::Kind::integer};
  } else {
    return {.kind = std::is_same_v<T, double> ? Type::Kind::number : Type::Kind::text};
  }
}

template <class T>
void list_fields(const std::string& section, std::vector<Field>& out) {
  const T defaults{};
  for_each_member<T>([&](auto member) {
    using Value = std::remove_cvref_t<decltype(defaults.*member.pointer)>;
    const std::string key = inner_key(section, member.name);
    if constexpr (Described<Value>) {
      list_fields<Value>(key, out);
    } else {
      const auto note = std::ranges::find(notes(), key, &Note::key);
      if (note == notes().end()) throw Error(fmt::format("config key {} has no note", key));
      out.push_back({key, type_of<Value>(), encode_value(defaults.*member.pointer), &*note});
      if constexpr (kIs<Value, std::vector>) {
        if constexpr (Described<typename Value::value_type>) list_fields<typename Value::value_type>(key + "[]", out);
      }
    }
  });
}

// ---- tree -> struct

class Decoder {
 public:
  explicit Decoder(Problems& problems) : problems_(problems) {}

  template <Described T>
  void section(const Tree& tree, T& out, const std::string& key) {
    if (tree.kind == Tree::Kind::null) return;  // a section left empty
    if (tree.kind != Tree::Kind::map) {
      problems_.add(tree.place, key, fmt::format("expected a section of keys below it, found {}", found(tree)));
      return;
    }
    std::vector<std::string_view> known;
    for_each_member<T>([&](auto member) {
      known.push_back(member.name);
      const Tree* child = tree.find(member.name);
      if (child != nullptr) value(*child, out.*member.pointer, inner_key(key, member.name));
    });
    for (const Tree& child : tree.children) {
      if (std::ranges::find(known, child.key) == known.end()) unknown(child, inner_key(key, child.key.c_str()));
    }
  }

 private:
  template <class T>
  void value(const Tree& tree, T& out, const std::string& key) {
    if constexpr (Described<T>) {
      section(tree, out, key);
    } else {
      any(tree, out, key, field_of(key), false);
    }
  }

  template <class T>
  void any(const Tree& tree, T& out, const std::string& key, const Field& field, bool item) {
    if constexpr (kIs<T, std::optional>) {
      out.reset();
      if (tree.kind != Tree::Kind::null) any(tree, out.emplace(), key, field, item);
    } else if constexpr (kIs<T, std::vector>) {
      list(tree, out, key, field);
    } else if constexpr (std::is_same_v<T, Texts>) {
      texts(tree, out, key, field);
    } else if (!read_scalar(tree, field.note->allowed, out)) {
      refuse(tree, key, field, item);
    }
  }

  template <class T>
  void list(const Tree& tree, std::vector<T>& out, const std::string& key, const Field& field) {
    if (tree.kind != Tree::Kind::list) return refuse(tree, key, field, false);
    out.clear();
    for (const Tree& child : tree.children) {
      const std::string child_key = fmt::format("{}[{}]", key, out.size());
      T item{};
      if constexpr (Described<T>) {
        if (child.kind == Tree::Kind::null) refuse(child, child_key, field, true);
        section(child, item, child_key);
      } else {
        any(child, item, child_key, field, true);
      }
      out.push_back(std::move(item));
    }
  }

  void texts(const Tree& tree, Texts& out, const std::string& key, const Field& field) {
    if (tree.kind == Tree::Kind::null) return;
    if (tree.kind != Tree::Kind::map) return refuse(tree, key, field, false);
    out.clear();
    for (const Tree& child : tree.children) {
      if (child.kind == Tree::Kind::scalar) {
        out[child.key] = child.text;
      } else {
        problems_.add(child.place, inner_key(key, child.key.c_str()), "expected text, found " + found(child));
      }
    }
  }

  void refuse(const Tree& tree, const std::string& key, const Field& field, bool item) {
    const auto& choices = field.note->allowed.choices;
    const bool guessable = tree.kind == Tree::Kind::scalar && choices.size() > 1;
    const std::string guess = did_you_mean(guessable ? nearest_word(tree.text, choices) : "");
    problems_.add(tree.place, key, fmt::format("expected {}, found {}{}", expected(field, item), found(tree), guess));
  }

  void unknown(const Tree& tree, const std::string& key) {
    const auto& all = known_keys();
    const bool dotted = std::ranges::find(all, key) != all.end() && tree.key.find('.') != std::string::npos;
    const auto dot = tree.key.rfind('.');
    problems_.add(tree.key_place, key,
                  dotted ? fmt::format("a key with dots is for the command line; in a file write {}: below {}:",
                                       tree.key.substr(dot + 1), tree.key.substr(0, dot))
                         : "unknown key" + did_you_mean(nearest_key(without_indices(key), all)));
  }

  // Keys and the sections that hold them.
  static const std::vector<std::string_view>& known_keys() {
    static const std::vector<std::string_view> keys = [] {
      std::vector<std::string_view> result;
      for (const Field& field : fields()) {
        const std::string_view key = field.key;
        for (auto dot = key.find('.'); dot != key.npos; dot = key.find('.', dot + 1)) {
          const std::string_view section = key.substr(0, dot);
          if (!section.ends_with(']') && std::ranges::find(result, section) == result.end()) result.push_back(section);
        }
        result.push_back(key);
      }
      return result;
    }();
    return keys;
  }

  Problems& problems_;
};

}  // namespace

json::object encode(const RunConfig& run) { return encode_value(run).as_object(); }

void decode(const Tree& tree, RunConfig& out, Problems& problems) { Decoder(problems).section(tree, out, ""); }

const std::vector<Field>& fields() {
  static const std::vector<Field> all = [] {
    std::vector<Field> result;
    list_fields<RunConfig>("", result);
    return result;
  }();
  return all;
}

}  // namespace tugline::config
