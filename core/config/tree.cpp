// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/config/tree.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "tugline/core/error.hpp"

namespace tugline::config {

const Tree* Tree::find(std::string_view name) const {
  if (kind != Kind::map) return nullptr;
  const auto child = std::ranges::find(children, name, &Tree::key);
  return child == children.end() ? nullptr : &*child;
}

const Tree* Tree::find_path(std::string_view path) const {
  const auto dot = path.find('.');
  const Tree* child = find(path.substr(0, dot));
  return child == nullptr || dot == std::string_view::npos ? child : child->find_path(path.substr(dot + 1));
}

void merge(Tree& base, Tree over) {
  if (base.kind != Tree::Kind::map || (over.kind != Tree::Kind::map && over.kind != Tree::Kind::null)) {
    base = std::move(over);
    return;
  }
  for (Tree& child : over.children) {
    const auto same = std::ranges::find(base.children, child.key, &Tree::key);
    if (same == base.children.end()) {
      base.children.push_back(std::move(child));
    } else {
      merge(*same, std::move(child));
    }
  }
}

std::string found(const Tree& tree) {
  switch (tree.kind) {
    case Tree::Kind::null:
      return "nothing";
    case Tree::Kind::list:
      return "a list";
    case Tree::Kind::map:
      return "a map of keys";
    case Tree::Kind::scalar:
      break;
  }
  constexpr std::size_t kShown = 60;
  std::string text = tree.text.substr(0, std::min(kShown, tree.text.find('\n')));
  if (text.size() < tree.text.size()) text += "...";
  return fmt::format("{}'{}'", tree.quoted && !text.empty() ? "the quoted text " : "", text);
}

void Problems::add(const Place& place, std::string_view key, std::string_view sentence) {
  const std::string where = place.on_command_line() ? fmt::format("command line: {}: ", place.source)
                                                    : fmt::format("{}:{}:{}: ", place.source, place.line, place.column);
  const bool source_names_key = place.on_command_line() && place.source.substr(0, place.source.find('=')) == key;
  const std::string subject = key.empty() || source_names_key ? "" : fmt::format("{}: ", key);
  entries_.push_back({place, std::string(key), fmt::format("{}{}{}", where, subject, sentence)});
}

bool Problems::concerns(std::string_view key) const {
  const auto within = [](std::string_view inner, std::string_view outer) {
    return !outer.empty() && inner.starts_with(outer) &&
           (inner.size() == outer.size() || inner[outer.size()] == '.' || inner[outer.size()] == '[');
  };
  return std::ranges::any_of(entries_,
                             [&](const Entry& entry) { return within(entry.key, key) || within(key, entry.key); });
}

void Problems::throw_if_any() const {
  if (entries_.empty()) return;
  std::vector<Entry> sorted = entries_;
  std::ranges::stable_sort(sorted, {}, [](const Entry& entry) {
    const Place& place = entry.place;
    return std::tuple(place.on_command_line(), place.order, place.line, place.column);
  });
  std::string all;
  for (const Entry& entry : sorted) all += (all.empty() ? "" : "\n") + entry.text;
  throw ConfigError(all);
}

}  // namespace tugline::config
