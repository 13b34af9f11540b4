// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <map>
#include <sstream>

#include "tugline/core/config/scalar.hpp"
#include "tugline/core/config/tree.hpp"

namespace tugline::config {
namespace {

// A config is small: more than this is a mistake, or aliases that multiply.
constexpr std::size_t kMaxNodes = 20000;

/// Builds the tree from yaml-cpp's events. Not from its nodes: LoadAll never returns on some broken input ("[-]\n,"), and
/// Load ignores whatever follows the first document.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(const std::string& source, int order, Problems& problems)
      : source_(source), order_(order), problems_(problems) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { add(open(Tree::Kind::null, mark), anchor); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, const std::string& text) override {
    Tree tree = open(Tree::Kind::scalar, mark);
    tree.text = text;
    tree.quoted = tag == "!" || tag == "tag:yaml.org,2002:str";
    add(std::move(tree), anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    stack_.push_back({open(Tree::Kind::list, mark), anchor, std::nullopt});
  }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor, YAML::EmitterStyle::value) override {
    stack_.push_back({open(Tree::Kind::map, mark), anchor, std::nullopt});
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override { close(); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto target = anchors_.find(anchor);
    if (target == anchors_.end()) problems_.add(place(mark), path(), "refers to itself");
    const bool copies = target != anchors_.end() && fits(count(target->second), place(mark));
    add(copies ? target->second : open(Tree::Kind::null, mark), 0);
  }

  Place place(const YAML::Mark& mark) const { return {source_, order_, mark.line + 1, mark.column + 1}; }
  Tree& root() { return root_; }

 private:
  struct Open {
    Tree tree;
    YAML::anchor_t anchor = 0;
    std::optional<Tree> key;  // of a map: read, and waiting for its value
  };

  Tree open(Tree::Kind kind, const YAML::Mark& mark) const { return {.kind = kind, .place = place(mark)}; }

  void close() {
    Open done = std::move(stack_.back());
    stack_.pop_back();
    add(std::move(done.tree), done.anchor);
  }

  bool fits(std::size_t more_nodes, const Place& here) {
    const bool full = num_nodes_ > kMaxNodes;
    num_nodes_ += more_nodes;
    if (num_nodes_ > kMaxNodes && !full) problems_.add(here, path(), "too large for a config");
    return num_nodes_ <= kMaxNodes;
  }

  void add(Tree tree, YAML::anchor_t anchor) {
    if (!fits(1, tree.place)) tree = {.place = tree.place};
    if (anchor != 0) anchors_[anchor] = tree;
    if (stack_.empty()) {
      root_ = std::move(tree);
    } else if (stack_.back().tree.kind == Tree::Kind::list) {
      stack_.back().tree.children.push_back(std::move(tree));
    } else if (Open& map = stack_.back(); !map.key) {
      map.key = std::move(tree);
    } else {
      add_entry(map, std::move(tree));
    }
  }

  void add_entry(Open& map, Tree value) {
    const Tree& key = *map.key;
    const Tree* first = map.tree.find(key.text);
    if (key.kind != Tree::Kind::scalar) {
      problems_.add(key.place, "", "a key must be plain text");
    } else if (first != nullptr) {
      problems_.add(key.place, path(), fmt::format("written twice; first in line {}", first->key_place.line));
    } else {
      value.key = key.text;
      value.key_place = key.place;
      // yaml-cpp places an empty value at whatever comes after it.
      if (value.kind == Tree::Kind::null && value.place.line != key.place.line) value.place = key.place;
      map.tree.children.push_back(std::move(value));
    }
    map.key.reset();
  }

  static std::size_t count(const Tree& tree) {
    std::size_t nodes = 1;
    for (const Tree& child : tree.children) nodes += count(child);
    return nodes;
  }

  std::string path() const {
    std::string result;
    for (const Open& level : stack_) {
      if (level.tree.kind == Tree::Kind::list) {
        result += fmt::format("[{}]", level.tree.children.size());
      } else if (level.key) {
        result += (result.empty() ? "" : ".") + level.key->text;
      }
    }
    return result;
  }

  const std::string& source_;
  const int order_;
  Problems& problems_;
  std::vector<Open> stack_;
  std::map<YAML::anchor_t, Tree> anchors_;
  std::size_t num_nodes_ = 0;
  Tree root_;
};

// The line's own indentation holds a tab: the most common cause of an error that YAML itself explains badly.
bool tab_indents(const std::string& yaml, int line) {
  std::size_t begin = 0;
  for (; line > 0 && begin != std::string::npos; --line) {
    begin = yaml.find('\n', begin);
    if (begin != std::string::npos) ++begin;
  }
  if (begin == std::string::npos) return false;
  const auto text = yaml.find_first_not_of(" \t", begin);
  return yaml.substr(begin, text == std::string::npos ? text : text - begin).find('\t') != std::string::npos;
}

/// yaml-cpp puts another character in its place, and the value is no longer what was written.
bool is_utf8(const std::string& yaml, const Place& file, Problems& problems) {
  const std::size_t bad = invalid_utf8(yaml);
  if (bad == std::string::npos) return true;
  const std::string before = yaml.substr(0, bad);
  Place place = file;
  place.line = 1 + static_cast<int>(std::count(before.begin(), before.end(), '\n'));
  place.column = static_cast<int>(bad - (before.rfind('\n') + 1)) + 1;
  problems.add(place, "", "the text is not valid UTF-8; save the file as UTF-8");
  return false;
}

}  // namespace

std::optional<Tree> read_yaml(const std::string& yaml, const std::string& source, int order, Problems& problems) {
  if (!is_utf8(yaml, {source, order, 1, 1}, problems)) return std::nullopt;
  TreeBuilder builder(source, order, problems);
  try {
    std::istringstream stream(yaml);
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    Tree tree = std::move(builder.root());
    if (parser.HandleNextDocument(builder)) {
      problems.add(builder.root().place, "", "the document has ended, and a config is one document");
      return std::nullopt;
    }
    if (tree.kind == Tree::Kind::null) tree = {.kind = Tree::Kind::map, .place = {source, order, 1, 1}};
    if (tree.kind != Tree::Kind::map) {
      problems.add(tree.place, "", fmt::format("expected keys such as data: or optim:, found {}", found(tree)));
      return std::nullopt;
    }
    return tree;
  } catch (const YAML::Exception& error) {
    const bool tab = !error.mark.is_null() && tab_indents(yaml, error.mark.line);
    const std::string reason = tab ? "indented with a tab; YAML wants spaces" : error.msg;
    problems.add(builder.place(error.mark), "", fmt::format("not valid YAML: {}", reason));
    return std::nullopt;
  }
}

}  // namespace tugline::config
