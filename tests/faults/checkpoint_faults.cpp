// SPDX-License-Identifier: Apache-2.0
// What disks and kills do to checkpoints, many times: checkpoint_faults [--quick] [--seed N]
// Prints a line per kind of fault with how often it went well; exit code 3 when one did not. scripts/faults.sh runs it.
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <random>
#include <thread>

#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/core/io/checkpoint.hpp"
#include "tugline/tests/faults/failing_calls.hpp"

namespace {

using namespace tugline;
namespace fs = std::filesystem;

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "tugline-test-XXXXXX").string();
    if (::mkdtemp(name.data()) != nullptr) path = name;
  }
  ~Folder() { fs::remove_all(path); }
  fs::path path;
};

/// A state whose every value says which step it is of.
class State {
 public:
  explicit State(std::int64_t step, std::size_t count = 25'000) : values_(count, static_cast<float>(step)), step_(step) {}
  CheckpointContent content() const {
    const auto count = static_cast<std::int64_t>(values_.size());
    return {{{"/parameters/weight", DType::float32, {count}, values_.data()}, {"/optimizer/momentum/weight", DType::float32, {count}, values_.data()}},
            {{"config", "seed: 0\n"}, {"progress", fmt::format("{}", step_)}}};
  }

 private:
  std::vector<float> values_;
  std::int64_t step_;
};

/// The step that a checkpoint is of, when every value says the same; -1 otherwise.
std::int64_t step_in(const fs::path& file) {
  const Checkpoint checkpoint = read_checkpoint(file);
  const std::int64_t step = std::stoll(checkpoint.texts.at("progress"));
  for (const auto& [path, array] : checkpoint.arrays) {
    for (std::size_t i = 0; i < array.data.size(); i += sizeof(float)) {
      float value = 0;
      std::memcpy(&value, array.data.data() + i, sizeof value);
      if (value != static_cast<float>(step)) return -1;
    }
  }
  return step;
}

int g_failures = 0;
void report(const char* what, int good, int all, const std::string& more = "") {
  std::cout << fmt::format("{:<58} {:>6} of {}{}", what, good, all, more.empty() ? "" : "   " + more) << std::endl;
  if (good != all) ++g_failures;
}

/// A process that saves step after step is killed at a random instant.
void kill_writers(std::mt19937_64& random, int times) {
  int loadable = 0, clean = 0;
  for (int i = 0; i < times; ++i) {
    const Folder folder;
    CheckpointFolder checkpoints(folder.path);
    write_checkpoint(checkpoints.path_of(1), State(1).content());
    const pid_t writer = ::fork();
    if (writer == 0) {
      for (std::int64_t step = 2;; ++step) {
        write_checkpoint(checkpoints.path_of(step), State(step).content());
        checkpoints.prune(2, false);
      }
    }
    // The instant is what is drawn; nothing depends on how far the writer has come by then.
    std::this_thread::sleep_for(std::chrono::microseconds(std::uniform_int_distribution<int>(0, 20'000)(random)));
    ::kill(writer, SIGKILL);
    ::waitpid(writer, nullptr, 0);
    std::vector<std::string> skipped;
    const fs::path newest = checkpoints.newest_valid(&skipped);
    loadable += !newest.empty() && skipped.empty() && newest == checkpoints.list().back().file && checkpoints.path_of(step_in(newest)) == newest;
    checkpoints.prune(1, false);   // the next start's first
    clean += std::distance(fs::directory_iterator(folder.path), fs::directory_iterator()) == 1;
  }
  report("SIGKILL of the writer: the newest checkpoint loads", loadable, times);
  report("  and nothing else is left after the next prune", clean, times);
}

void damage(std::mt19937_64& random, const char* what, int times, const std::function<void(std::string&)>& change) {
  const Folder folder;
  const CheckpointFolder checkpoints(folder.path);
  write_checkpoint(checkpoints.path_of(1), State(1, 1000).content());
  write_checkpoint(checkpoints.path_of(2), State(2, 1000).content());
  std::ifstream in(checkpoints.path_of(2), std::ios::binary);
  const std::string intact((std::istreambuf_iterator<char>(in)), {});
  int found = 0, all = 0;
  for (int i = 0; i < times; ++i) {
    std::string bytes = intact;
    change(bytes);
    if (bytes == intact) continue;   // a page that was zero
    ++all;
    std::ofstream(checkpoints.path_of(2), std::ios::binary) << bytes;
    std::vector<std::string> skipped;
    found += checkpoints.newest_valid(&skipped) == checkpoints.path_of(1) && skipped.size() == 1;
  }
  report(what, found, all, "all fall back to the one before");
}

/// Every call that a save makes fails in turn, in every way.
void fail_calls() {
  struct Kind {
    Call call;
    const char* name;
    std::vector<int> errors;
  };
  const std::array<Kind, 5> kinds{Kind{Call::open, "open", {ENOSPC, EDQUOT, EACCES, EIO}}, Kind{Call::write, "write", {ENOSPC, EDQUOT, EIO, 0}},
                                  Kind{Call::fsync, "fsync", {ENOSPC, EDQUOT, EIO}}, Kind{Call::close, "close", {ENOSPC, EDQUOT, EIO}},
                                  Kind{Call::rename, "rename", {ENOSPC, EDQUOT, EIO}}};
  for (const Kind& kind : kinds) {
    int good = 0, all = 0;
    for (const int error : kind.errors) {
      for (int number = 1;; ++number) {
        const Folder folder;
        CheckpointFolder checkpoints(folder.path);
        fail_call(kind.call, 0, 0);
        write_checkpoint(checkpoints.path_of(1), State(1).content());
        fail_call(kind.call, number, error);
        std::string said;
        try {
          write_checkpoint(checkpoints.path_of(2), State(2).content());
        } catch (const CheckpointError& failure) {
          said = failure.what();
        }
        if (failure_is_due()) break;   // a save does not make so many
        ++all;
        const fs::path newest = checkpoints.newest_valid(nullptr);
        const bool named = said.find("step-00000002.h5") != said.npos && said.find(std::strerror(error)) != said.npos;
        const bool survived = step_in(newest) == (error == 0 ? 2 : 1);   // half a write is no error
        const auto files = std::distance(fs::directory_iterator(folder.path), fs::directory_iterator());
        good += survived && (error == 0 ? said.empty() : named && files == 1);
      }
    }
    report(fmt::format("{} fails: the one before loads, file and errno are named", kind.name).c_str(), good, all);
  }
}

}  // namespace

int main(int argc, char** argv) {
  bool quick = false;
  std::uint64_t seed = std::random_device()();
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--quick") quick = true;
    if (std::string(argv[i]) == "--seed" && i + 1 < argc) seed = std::stoull(argv[++i]);
  }
  std::cout << "checkpoint_faults: seed " << seed << std::endl;
  std::mt19937_64 random(seed);
  const auto below = [&](std::size_t end) { return std::uniform_int_distribution<std::size_t>(0, end - 1)(random); };
  kill_writers(random, quick ? 100 : 3000);
  fail_calls();
  fail_call(Call::open, 0, 0);   // nothing more
  damage(random, "one bit flipped: found before HDF5 opens the file", quick ? 1000 : 20'000, [&](std::string& bytes) {
    bytes[below(bytes.size())] ^= static_cast<char>(1 << below(8));
  });
  damage(random, "cut off: found", quick ? 200 : 2000, [&](std::string& bytes) { bytes.resize(below(bytes.size())); });
  damage(random, "a page of zeros: found", quick ? 200 : 2000, [&](std::string& bytes) {
    const std::size_t begin = below((bytes.size() + 4095) / 4096) * 4096;
    std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(begin), bytes.begin() + static_cast<std::ptrdiff_t>(std::min(begin + 4096, bytes.size())), '\0');
  });
  return g_failures > 0 ? static_cast<int>(ExitCode::check_said_no) : 0;
}
