// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/run/run_directory.hpp"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>
#include <vector>

#include "tugline/core/atomic_file.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/log.hpp"
#include "tugline/trainers/run/result.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;

// Marks a folder as a run; without it nothing in a folder is ever touched. Its number is the layout's version.
constexpr const char* kMarker = ".tugline-run";
constexpr std::string_view kMarkerText = "1\n";

std::string read_text(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw IoError(fmt::format("cannot create the folder {}: {}", folder.string(), error.message()));
}

std::string safe_name(std::string name) {
  if (name.empty()) name = "run";
  for (char& letter : name) {
    if (std::isalnum(static_cast<unsigned char>(letter)) == 0 && std::strchr("-_.", letter) == nullptr) letter = '-';
  }
  return name;
}

/// Refuses whatever is there and is no run.
void require_own_or_empty(const fs::path& folder) {
  std::error_code error;
  const fs::file_status status = fs::status(folder, error);
  if (!fs::exists(status)) return;
  if (!fs::is_directory(status)) {
    throw UsageError(fmt::format("{} is a file, not a folder; give another --run-dir", folder.string()));
  }
  if (!fs::is_empty(folder, error) && !fs::exists(folder / kMarker)) {
    throw UsageError(fmt::format("{} has files but is no run of tugline; nothing there was touched, give another --run-dir",
                                 folder.string()));
  }
}

/// True for the names that a run itself writes, relative to its folder.
bool is_ours(const fs::path& name) {
  const std::string parent = name.parent_path().string(), file = name.filename().string();
  const auto between = [&file](std::string_view head, std::string_view tail) {
    return file.size() >= head.size() + tail.size() && file.starts_with(head) && file.ends_with(tail);
  };
  if (parent == "logs") return between("rank-", ".log");
  if (parent == "checkpoints") {
    return between("step-", "") || file == "best.json" || file == "latest.json" || between("best.json.", ".tmp") ||
           between("latest.json.", ".tmp");
  }
  constexpr std::array kFiles{"attempts.jsonl", "config.yaml", "environment.json", "faults.log", "metrics.jsonl", "result.json", "updates.jsonl"};
  const auto named = [&](const char* own) { return file == own || between(std::string(own) + ".", ".tmp"); };
  return parent.empty() && (between("events.out.tfevents.", "") || std::any_of(kFiles.begin(), kFiles.end(), named));
}

/// Deletes what a run wrote; whatever else lies in the folder stays.
void delete_run(const RunPaths& run) {
  std::error_code error;
  const auto clear = [&](const fs::path& folder, const fs::path& name) {
    std::vector<fs::path> doomed;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
      if (entry.is_regular_file(error) && is_ours(name / entry.path().filename())) doomed.push_back(entry.path());
    }
    for (const fs::path& file : doomed) {
      if (!fs::remove(file, error) && error)
        throw IoError(fmt::format("cannot delete {}: {}", file.string(), error.message()));
    }
  };
  // First the one that says "done": what a crash leaves half deleted must never look finished.
  fs::remove(run.result(), error);
  clear(run.checkpoints(), "checkpoints");
  clear(run.log(0).parent_path(), "logs");
  clear(run.folder(), "");
}

struct Line {
  std::string key;  ///< dotted
  std::string value;
};

/// Block YAML as the resolved config has it: nested maps by indentation; an item of a list goes by the key above it.
std::vector<Line> keyed_lines(const std::string& yaml) {
  std::vector<Line> lines;
  std::vector<std::pair<std::size_t, std::string>> parents;
  std::istringstream in(yaml);
  for (std::string text; std::getline(in, text);) {
    const auto indent = text.find_first_not_of(' ');
    if (indent == text.npos || text[indent] == '#') continue;
    while (!parents.empty() && parents.back().first >= indent) parents.pop_back();
    const auto colon = text.find(':', indent);
    const std::string name = text[indent] == '-' || colon == text.npos ? "" : text.substr(indent, colon - indent);
    std::string key;
    for (const auto& parent : parents) key += (key.empty() ? "" : ".") + parent.second;
    if (name.empty()) {
      lines.push_back({key, text.substr(indent)});
      continue;
    }
    const auto value = text.find_first_not_of(' ', colon + 1);
    lines.push_back({key.empty() ? name : key + "." + name, value == text.npos ? "" : text.substr(value)});
    parents.emplace_back(indent, name);
  }
  return lines;
}

/// Keys that say who computes or writes what, how a run is stopped, and what becomes of bad numbers: a run may go on with others.
bool may_change(const Line& line) {
  constexpr std::array kKeys{"train.cuda_graphs", "train.device", "train.nonfinite", "train.read_every", "train.spike_factor", "checkpoint.slice_mib", "parallel.async.servers"};
  return line.key.starts_with("parallel.balance") || line.key.starts_with("train.stop_signals") || std::find(kKeys.begin(), kKeys.end(), line.key) != kKeys.end();
}

bool has_key(const std::vector<Line>& lines, const std::string& key) {
  return std::any_of(lines.begin(), lines.end(), [&](const Line& line) { return line.key == key; });
}

/// A run that an older Tugline began has not the keys that are new, and did what they say by default.
void drop_new_defaults(const std::vector<Line>& there, std::vector<Line>& here, const std::vector<Line>& defaults) {
  std::erase_if(here, [&](const Line& line) {
    const auto is_same = [&](const Line& other) { return other.key == line.key && other.value == line.value; };
    return !has_key(there, line.key) && std::any_of(defaults.begin(), defaults.end(), is_same);
  });
}

template <typename Skip>
std::string first_difference(std::vector<Line> there, std::vector<Line> here, Skip skip) {
  std::erase_if(there, skip);
  std::erase_if(here, skip);
  const auto [a, b] = std::mismatch(there.begin(), there.end(), here.begin(), here.end(),
                                    [](const Line& x, const Line& y) { return x.key == y.key && x.value == y.value; });
  if (a == there.end() && b == here.end()) return "";
  const bool is_new = a == there.end() || (b != here.end() && !has_key(there, b->key));
  if (is_new) return fmt::format("{} is not there and {} here", b->key, b->value);
  if (b == here.end() || a->key != b->key) return fmt::format("{} is {} there and not here", a->key, a->value);
  return fmt::format("{} is {} there and {} here", a->key, a->value, b->value);
}

RunState state_of(const RunPaths& run, const RunOptions& options) {
  if (!fs::exists(run.config())) return RunState::created;
  std::vector<Line> there = keyed_lines(read_text(run.config())), here = keyed_lines(options.config_yaml);
  drop_new_defaults(there, here, keyed_lines(options.default_yaml));
  const std::string difference = first_difference(std::move(there), std::move(here), may_change);
  if (!difference.empty()) {
    throw ConfigError(fmt::format("{} holds a run with another config ({}); give another --run-dir (train.init_from takes one of its checkpoints "
                                  "as weights to begin with), or --fresh to delete that run", run.folder().string(), difference));
  }
  const auto result = read_result(run.result());
  return result && result->status == Result::kDone ? RunState::finished : RunState::resumed;
}

}  // namespace

std::string first_difference(const std::string& yaml_there, const std::string& yaml_here) {
  return first_difference(keyed_lines(yaml_there), keyed_lines(yaml_here), [](const Line&) { return false; });
}

/// mkdir decides who gets a name that two jobs want.
fs::path make_run_folder(const std::string& config_name, std::time_t now) {
  const std::string base = fmt::format("{}-{:%Y%m%d-%H%M%S}", safe_name(config_name), fmt::localtime(now != 0 ? now : std::time(nullptr)));
  make_folder("runs");
  for (int n = 1;; ++n) {
    const fs::path folder = fs::path("runs") / (n == 1 ? base : fmt::format("{}-{}", base, n));
    std::error_code error;
    if (fs::create_directory(folder, error)) return folder;
    if (error) throw IoError(fmt::format("cannot create the folder {}: {}", folder.string(), error.message()));
  }
}

RunState look_for_run(const RunOptions& options) {
  if (options.folder.empty()) return RunState::created;
  require_own_or_empty(options.folder);
  return options.fresh ? RunState::created : state_of(RunPaths(options.folder), options);
}

RunDirectory::RunDirectory(const RunOptions& options) {
  if (options.folder.empty()) {
    paths_ = RunPaths(make_run_folder(options.config_name, options.now));
  } else {
    require_own_or_empty(options.folder);
    make_folder(options.folder);
    paths_ = RunPaths(options.folder);
  }
  lock_ = Lock(paths_.folder());
  write_file_atomically(paths_.folder() / kMarker, kMarkerText);
  if (options.fresh) delete_run(paths_);
  state_ = state_of(paths_, options);
  if (!fs::exists(paths_.config())) write_file_atomically(paths_.config(), options.config_yaml);
  make_folder(paths_.checkpoints());
  make_folder(paths_.log(0).parent_path());
}

// The text in the file is for the message only.
RunDirectory::Lock::Lock(const fs::path& folder) {
  const std::string file = (folder / "lock").string();
  fd_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd_ < 0) throw IoError(fmt::format("cannot open {}: {}", file, std::strerror(errno)));
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    ::close(std::exchange(fd_, -1));
    if (error == EWOULDBLOCK) {
      std::string holder = read_text(file);
      if (!holder.empty() && holder.back() == '\n') holder.pop_back();
      throw UsageError(fmt::format("{} is in use by {}; wait for it to end or give another --run-dir", folder.string(),
                                   holder.empty() ? "another process" : holder));
    }
    log::warn("{} cannot be locked ({}): make sure that only one job uses it", folder.string(), std::strerror(error));
    return;
  }
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  const std::string holder = fmt::format("process {} on host {}\n", ::getpid(), host.data());
  if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, holder.data(), holder.size(), 0) < 0) {
    log::warn("cannot write {}: {}", file, std::strerror(errno));
  }
}

RunDirectory::Lock::~Lock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace tugline
