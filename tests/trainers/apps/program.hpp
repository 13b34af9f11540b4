// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace tugline {

using Words = std::vector<std::string>;

/// How a process ended and what it said.
struct Outcome {
  int exit_code = -1;
  std::string out, err;
};

/// `tugline WORDS` in `folder`, as a real process; with `ranks` > 0 under mpirun. It dies with the test that started it.
class Program {
 public:
  Program(const std::filesystem::path& folder, const Words& words, int ranks = 0);
  ~Program();
  /// Blocks until a line of its stdout holds `text`, or its stdout ends.
  void wait_for(const std::string& text);
  void signal(int number);  ///< to the process, which is mpirun's where there is one
  Outcome wait();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Starts it and waits for its end.
Outcome run_program(const std::filesystem::path& folder, const Words& words, int ranks = 0);

/// A file of the source tree.
std::filesystem::path source_file(const std::string& name);
/// The mpirun of this build.
const char* mpirun();

std::string read_file(const std::filesystem::path& file);

/// Every path below `folder` with what it holds: equal snapshots mean that nothing was changed or left behind.
std::map<std::string, std::string> snapshot(const std::filesystem::path& folder);

}  // namespace tugline
