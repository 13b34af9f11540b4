// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/config/load.hpp"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <system_error>

#include "tugline/core/config/fields.hpp"
#include "tugline/core/config/json_text.hpp"
#include "tugline/core/config/tree.hpp"
#include "tugline/core/config/validate.hpp"
#include "tugline/core/error.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;
using config::Problems;
using config::Tree;

/// The file's text, or why it cannot be read.
struct FileText {
  std::string text;
  std::string failure;
};

FileText read_file(const fs::path& file) {
  std::error_code ignored;
  if (fs::is_directory(file, ignored)) return {"", "it is a folder"};
  errno = 0;
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  if (in) text << in.rdbuf();
  if (!in) return {"", std::generic_category().message(errno != 0 ? errno : EIO)};
  return {text.str(), ""};
}

fs::path identity(const fs::path& file) {
  std::error_code failed;
  const fs::path real = fs::weakly_canonical(file, failed);
  return failed ? file : real;
}

/// Reads a file and those that it extends, the farthest first, into one tree.
class Layers {
 public:
  explicit Layers(Problems& problems) : problems_(problems) {}

  Tree read(const std::string& yaml, const std::string& source) {
    chain_.push_back(identity(source));
    Tree tree = config::read_yaml(yaml, source, next_order_++, problems_).value_or(Tree{.kind = Tree::Kind::map});
    const auto extends = std::ranges::find(tree.children, "extends", &Tree::key);
    if (extends == tree.children.end()) return tree;
    const Tree base_name = std::move(*extends);
    tree.children.erase(extends);
    Tree base = read_base(base_name, fs::path(source).parent_path());
    merge(base, std::move(tree));
    return base;
  }

 private:
  Tree read_base(const Tree& name, const fs::path& folder) {
    Tree nothing{.kind = Tree::Kind::map};
    if (name.kind != Tree::Kind::scalar || name.text.empty()) {
      problems_.add(name.place, "extends", fmt::format("expected the path of another config, found {}", found(name)));
      return nothing;
    }
    const fs::path file = (folder / name.text).lexically_normal();
    if (std::ranges::find(chain_, identity(file)) != chain_.end()) {
      problems_.add(name.place, "extends", fmt::format("'{}' leads back to a file that is being read", file.string()));
      return nothing;
    }
    const FileText content = read_file(file);
    if (!content.failure.empty()) {
      problems_.add(name.place, "extends", fmt::format("cannot read '{}': {}", file.string(), content.failure));
      return nothing;
    }
    return read(content.text, file.string());
  }

  Problems& problems_;
  std::vector<fs::path> chain_;
  int next_order_ = 0;
};

// A path means what it means where it stands, also after the resolved config has moved to a run directory.
void resolve_path(const Tree& tree, const char* key, std::string& value) {
  const Tree* path = tree.find_path(key);
  if (path == nullptr || value.empty()) return;
  const fs::path folder = path->place.on_command_line() ? fs::path() : fs::path(path->place.source).parent_path();
  value = fs::absolute(folder / value).lexically_normal().string();
}

void report_conflicts(const RunConfig& run, const Tree& tree, Problems& problems) {
  for (const config::Conflict& conflict : config::validate(run)) {
    const auto concerns = [&](const std::string& key) { return problems.concerns(key); };
    if (std::ranges::any_of(conflict.keys, concerns)) continue;  // the value that clashes is itself in doubt
    const Tree* where = nullptr;
    for (const std::string& key : conflict.keys) {
      if (where == nullptr) where = tree.find_path(key);
    }
    problems.add(where != nullptr ? where->place : tree.place, "", conflict.sentence);
  }
}

}  // namespace

RunConfig parse_config(const std::string& yaml, const std::string& name, const std::vector<std::string>& overrides) {
  Problems problems;
  Tree tree = Layers(problems).read(yaml, name);
  for (std::size_t i = 0; i < overrides.size(); ++i) {
    if (auto over = config::read_override(overrides[i], static_cast<int>(i), problems)) merge(tree, std::move(*over));
  }
  RunConfig run;
  config::decode(tree, run, problems);
  if (run.name.empty()) run.name = fs::path(name).stem().string();
  report_conflicts(run, tree, problems);
  problems.throw_if_any();
  resolve_path(tree, "data.path", run.data.path);
  resolve_path(tree, "train.init_from", run.train.init_from);
  return run;
}

RunConfig load_config(const fs::path& file, const std::vector<std::string>& overrides) {
  const FileText content = read_file(file);
  if (!content.failure.empty()) {
    throw ConfigError(fmt::format("cannot read the config '{}': {}", file.string(), content.failure));
  }
  return parse_config(content.text, file.string(), overrides);
}

std::string to_json(const RunConfig& run) { return config::json_text(config::encode(run), config::Layout::one_line); }

std::uint64_t config_hash(const RunConfig& run) {
  const std::string text = to_json(run);
  return XXH3_64bits(text.data(), text.size());
}

}  // namespace tugline
