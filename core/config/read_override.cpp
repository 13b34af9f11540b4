// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "tugline/core/config/scalar.hpp"
#include "tugline/core/config/tree.hpp"

namespace tugline::config {
namespace {

struct Syntax {
  std::string sentence;
};

/// The right side of key=value in Hydra's grammar: plain text with escapes, quoted text, [lists] and {maps}.
class ValueParser {
 public:
  ValueParser(std::string_view text, const Place& place) : text_(text), place_(place) {}

  Tree parse() {
    skip_spaces();
    Tree tree = at_end() ? scalar("", true) : element(0);
    skip_spaces();
    if (!at_end()) {
      throw Syntax{peek() == ',' ? "a list of values needs brackets, such as key=[a,b]"
                                 : fmt::format("unexpected '{}' after the value", text_.substr(at_))};
    }
    return tree;
  }

 private:
  static constexpr int kMaxDepth = 32;

  bool at_end() const { return at_ >= text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[at_]; }
  void skip_spaces() {
    while (peek() == ' ' || peek() == '\t') ++at_;
  }
  bool take(char wanted) {
    skip_spaces();
    if (peek() != wanted) return false;
    ++at_;
    return true;
  }

  Tree scalar(std::string text, bool quoted) const {
    Tree tree{.kind = Tree::Kind::scalar, .text = std::move(text), .quoted = quoted, .place = place_};
    if (!quoted && lower(tree.text) == "null") tree.kind = Tree::Kind::null;
    return tree;
  }
  static std::string lower(std::string text) {
    std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
  }

  Tree element(int depth, bool is_key = false) {
    skip_spaces();
    if (depth > kMaxDepth) throw Syntax{"nested too deeply"};
    if (peek() == '\'' || peek() == '"') return scalar(quoted(), true);
    if (is_key) return scalar(plain(":"), false);
    if (take('[')) return list(depth);
    if (take('{')) return map(depth);
    return scalar(plain(""), false);
  }

  Tree list(int depth) {
    Tree tree{.kind = Tree::Kind::list, .place = place_};
    if (take(']')) return tree;
    do {
      tree.children.push_back(element(depth + 1));
    } while (take(','));
    if (!take(']')) throw Syntax{"expected ',' or ']' in the list"};
    return tree;
  }

  Tree map(int depth) {
    Tree tree{.kind = Tree::Kind::map, .place = place_};
    if (take('}')) return tree;
    do {
      const std::string key = element(depth + 1, true).text;
      if (!take(':')) throw Syntax{fmt::format("expected ':' after '{}'", key)};
      if (tree.find(key) != nullptr) throw Syntax{fmt::format("'{}' is written twice", key)};
      Tree value = element(depth + 1);
      value.key = key;
      value.key_place = place_;
      tree.children.push_back(std::move(value));
    } while (take(','));
    if (!take('}')) throw Syntax{"expected ',' or '}' in the map"};
    return tree;
  }

  // A backslash is itself unless it stands before a quote: \' is a quote, \\' a backslash and the end.
  std::string quoted() {
    const char quote = text_[at_++];
    std::string result;
    while (!at_end()) {
      const auto end = std::min(text_.find_first_not_of('\\', at_), text_.size());
      const std::size_t slashes = end - at_;
      at_ = end;
      if (peek() != quote || at_end()) {
        result.append(slashes, '\\');
        if (!at_end()) result += text_[at_++];
        continue;
      }
      ++at_;
      result.append(slashes / 2, '\\');
      if (slashes % 2 == 0) return result;
      result += quote;
    }
    throw Syntax{fmt::format("the closing {} is missing", quote)};
  }

  // Inner spaces belong to the text, outer ones do not; a backslash takes the meaning off the next character.
  std::string plain(std::string_view also_stops) {
    constexpr std::string_view kEscapable = "\\()[]{}:=, \t'\"";
    std::string result;
    std::size_t keep = 0;
    while (!at_end()) {
      char c = peek();
      if (c == '\\' && at_ + 1 < text_.size() && kEscapable.find(text_[at_ + 1]) != std::string_view::npos) {
        c = text_[++at_];
        keep = result.size() + 1;
      } else if (std::string_view(",]}").find(c) != std::string_view::npos ||
                 also_stops.find(c) != std::string_view::npos) {
        break;
      } else if (std::string_view("()[{'\"").find(c) != std::string_view::npos) {
        throw Syntax{fmt::format("put the value in quotes, or a backslash before {}", c)};
      }
      result += c;
      ++at_;
      if (c != ' ' && c != '\t') keep = result.size();
    }
    result.resize(keep);
    if (result.empty()) throw Syntax{"a value is missing; write '' for empty text"};
    return result;
  }

  std::string_view text_;
  const Place& place_;
  std::size_t at_ = 0;
};

void check_key(std::string_view key) {
  if (key.starts_with('+') || key.starts_with('~')) {
    throw Syntax{"keys cannot be added with + or removed with ~; write key=value"};
  }
  if (key == "extends") throw Syntax{"extends can only stand in a file"};
  const bool plain =
      std::ranges::all_of(key, [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-' || c == '.'; });
  const bool whole = !key.empty() && !key.starts_with('.') && !key.ends_with('.') && key.find("..") == key.npos;
  if (!plain || !whole) throw Syntax{fmt::format("'{}' is not a key; write key=value, such as optim.lr=0.1", key)};
}

}  // namespace

std::optional<Tree> read_override(const std::string& text, int index, Problems& problems) {
  const Place place{.source = text, .order = index};
  try {
    if (invalid_utf8(text) != std::string::npos) throw Syntax{"the text is not valid UTF-8"};
    const auto equals = text.find('=');
    if (equals == std::string::npos) throw Syntax{"expected key=value, such as optim.lr=0.1"};
    std::string_view key = std::string_view(text).substr(0, equals);
    check_key(key);
    Tree tree = ValueParser(std::string_view(text).substr(equals + 1), place).parse();
    for (bool more = true; more;) {
      const auto dot = key.rfind('.');
      more = dot != std::string_view::npos;
      tree.key = more ? key.substr(dot + 1) : key;
      tree.key_place = place;
      Tree parent{.kind = Tree::Kind::map, .place = place};
      parent.children.push_back(std::move(tree));
      tree = std::move(parent);
      key = key.substr(0, more ? dot : 0);
    }
    return tree;
  } catch (const Syntax& error) {
    problems.add(place, "", error.sentence);
    return std::nullopt;
  }
}

}  // namespace tugline::config
