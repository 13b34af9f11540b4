// SPDX-License-Identifier: Apache-2.0
#include "tugline/tests/trainers/apps/bad_input.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

namespace tugline {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

namespace {

/// AddressSanitizer says a line of its own when it refuses an absurd size.
std::string without_sanitizer(const std::string& err) {
  std::string kept;
  std::istringstream lines(err);
  for (std::string line; std::getline(lines, line);) {
    if (line.find("AddressSanitizer failed to allocate") == std::string::npos) kept += line + '\n';
  }
  return kept;
}

}  // namespace

void expect_one_message(const fs::path& folder, const BadInput& input) {
  const auto before = snapshot(folder);
  Outcome outcome = run_program(folder, input.words, input.ranks);
  outcome.err = without_sanitizer(outcome.err);
  EXPECT_EQ(outcome.exit_code, static_cast<int>(input.exit_code)) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_TRUE(outcome.err.starts_with("tugline: ")) << outcome.err;
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), input.lines) << outcome.err;
  for (const std::string& text : input.says) EXPECT_THAT(outcome.err, HasSubstr(text));
  for (const char* noise : {"Exception raised from", "terminate called", "what():", "HDF5-DIAG", "MPI_ABORT", "Primary job",
                            "[rank ", "*** ", "----"}) {
    EXPECT_THAT(outcome.err, Not(HasSubstr(noise)));
  }
  EXPECT_TRUE(snapshot(folder) == before) << "the folder was changed";
}

void BadInputTest::make_folder(void (*fill)(const fs::path& folder)) {
  std::string name = (fs::temp_directory_path() / "tugline-bad-XXXXXX").string();
  ASSERT_NE(::mkdtemp(name.data()), nullptr);
  folder_ = name;
  fill(folder_);
}

void write_text(const fs::path& file, const std::string& text) {
  fs::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << text;
}

}  // namespace tugline
