// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include "tugline/core/config/tree.hpp"

namespace tugline::config {
namespace {

// A config is small: more than this is a mistake, or aliases that multiply.
constexpr int kMaxNodes = 20000;
constexpr int kMaxDepth = 32;

class Reader {
 public:
  Reader(const std::string& source, int order, Problems& problems) : source_(source), order_(order), problems_(problems) {}

  Tree read(const YAML::Node& node, const std::string& path, int depth) {
    Tree tree;
    tree.place = place(node.Mark());
    if (++nodes_ > kMaxNodes || depth > kMaxDepth) {
      if (!too_large_) problems_.add(tree.place, path, "nested too deeply or too large for a config");
      too_large_ = true;
      return tree;
    }
    if (node.IsScalar()) {
      tree.kind = Tree::Kind::scalar;
      tree.text = node.Scalar();
      tree.quoted = node.Tag() == "!" || node.Tag() == "tag:yaml.org,2002:str";
    } else if (node.IsSequence()) {
      tree.kind = Tree::Kind::list;
      for (const auto& item : node) {
        tree.children.push_back(read(item, fmt::format("{}[{}]", path, tree.children.size()), depth + 1));
      }
    } else if (node.IsMap()) {
      tree.kind = Tree::Kind::map;
      for (const auto& entry : node) read_entry(entry.first, entry.second, tree, path, depth);
    }
    return tree;
  }

  Place place(const YAML::Mark& mark) const { return {source_, order_, mark.line + 1, mark.column + 1}; }

 private:
  void read_entry(const YAML::Node& key, const YAML::Node& value, Tree& map, const std::string& path, int depth) {
    if (!key.IsScalar()) {
      problems_.add(place(key.Mark()), path, "a key must be plain text");
      return;
    }
    const std::string inner = path.empty() ? key.Scalar() : path + "." + key.Scalar();
    if (const Tree* first = map.find(key.Scalar())) {
      problems_.add(place(key.Mark()), inner, fmt::format("written twice; first in line {}", first->key_place.line));
      return;
    }
    Tree child = read(value, inner, depth + 1);
    child.key = key.Scalar();
    child.key_place = place(key.Mark());
    // yaml-cpp places an empty value at whatever comes after it.
    if (value.IsNull() && child.place.line != child.key_place.line) child.place = child.key_place;
    map.children.push_back(std::move(child));
  }

  const std::string& source_;
  const int order_;
  Problems& problems_;
  int nodes_ = 0;
  bool too_large_ = false;
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

}  // namespace

std::optional<Tree> read_yaml(const std::string& yaml, const std::string& source, int order, Problems& problems) {
  Reader reader(source, order, problems);
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(yaml);
    if (documents.size() > 1) {
      problems.add(reader.place(documents[1].Mark()), "", "a config is one YAML document; this is the second one");
      return std::nullopt;
    }
    Tree tree = documents.empty() ? Tree{} : reader.read(documents[0], "", 0);
    if (tree.kind == Tree::Kind::null) {
      tree.kind = Tree::Kind::map;
      tree.place = {source, order, 1, 1};
    }
    if (tree.kind != Tree::Kind::map) {
      problems.add(tree.place, "", fmt::format("expected keys such as data: or optim:, found {}", found(tree)));
      return std::nullopt;
    }
    return tree;
  } catch (const YAML::Exception& error) {
    const bool tab = !error.mark.is_null() && tab_indents(yaml, error.mark.line);
    const std::string reason = tab ? "indented with a tab; YAML wants spaces" : error.msg;
    problems.add(reader.place(error.mark), "", fmt::format("not valid YAML: {}", reason));
    return std::nullopt;
  }
}

}  // namespace tugline::config
