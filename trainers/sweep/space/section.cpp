// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/space/section.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "tugline/core/config/nearest.hpp"

namespace tugline::sweep {

using config::Tree;

Section::Section(const Tree* tree, std::string name, config::Problems& problems)
    : tree_(tree), name_(std::move(name)), problems_(problems) {
  if (tree_ == nullptr || tree_->kind == Tree::Kind::map) return;
  if (tree_->kind != Tree::Kind::null) problems_.add(tree_->place, name_, "expected a section of keys below it, found " + found(*tree_));
  tree_ = nullptr;
}

const Tree* Section::find(std::string_view key) {
  known_.push_back(key);
  return tree_ == nullptr ? nullptr : tree_->find(key);
}

bool Section::read_duration(std::string_view key, double& seconds) {
  const Tree* value = find(key);
  if (value == nullptr) return false;
  constexpr std::pair<std::string_view, double> kUnits[] = {{"", 1}, {"s", 1}, {"min", 60}, {"h", 3600}};
  const char* end = value->text.data() + value->text.size();
  double count = 0;
  const auto parsed = std::from_chars(value->text.data(), end, count);
  const std::string_view rest(parsed.ptr, static_cast<std::size_t>(end - parsed.ptr));
  const std::string_view unit = rest.substr(std::min(rest.find_first_not_of(' '), rest.size()));
  const auto known = std::ranges::find(kUnits, unit, [](const auto& one) { return one.first; });
  const bool good = value->kind == Tree::Kind::scalar && parsed.ec == std::errc{} && known != std::end(kUnits) && count > 0;
  if (!good || !std::isfinite(count * known->second)) {
    problem(value->place, key, fmt::format("expected a time such as 120 s, 2 min or 1 h, found {}", found(*value)));
    return false;
  }
  seconds = count * known->second;
  return true;
}

bool Section::finish() {
  if (tree_ == nullptr) return false;
  bool strange = false;
  for (const Tree& child : tree_->children) {
    if (std::ranges::find(known_, child.key) != known_.end()) continue;
    problem(child.key_place, child.key, "unknown key" + config::did_you_mean(config::nearest_word(child.key, known_)));
    strange = true;
  }
  return strange;
}

void Section::problem(const config::Place& place, std::string_view key, std::string_view sentence) {
  problems_.add(place, name_.empty() ? std::string(key) : fmt::format("{}.{}", name_, key), sentence);
}

config::Place Section::place(std::string_view key) const {
  if (tree_ == nullptr) return {};
  const Tree* value = tree_->find(key);
  return value == nullptr ? tree_->place : value->place;
}

void Section::refuse(const Tree& value, std::string_view key, config::Type::Kind kind, const config::Allowed& allowed) {
  const config::Note note{.key = key, .help = {}, .unit = {}, .allowed = allowed};
  const config::Field field{.key = std::string(key), .type = {.kind = kind}, .default_value = {}, .note = &note};
  const std::string guess = value.kind == Tree::Kind::scalar ? config::nearest_word(value.text, allowed.choices) : "";
  problem(value.place, key, fmt::format("expected {}, found {}{}", config::expected(field), found(value), config::did_you_mean(guess)));
}

}  // namespace tugline::sweep
