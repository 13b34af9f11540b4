// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

#include "tugline/core/error.hpp"
#include "tugline/tests/trainers/apps/program.hpp"

namespace tugline {

/// A mistake and what a user must read about it.
struct BadInput {
  std::string name;
  Words words;
  ExitCode exit_code;
  std::vector<std::string> says;
  int ranks = 0;  ///< > 0: under mpirun
  int lines = 1;  ///< of the message: one for each error of a config
};

inline void PrintTo(const BadInput& input, std::ostream* out) { *out << input.name; }
inline std::string name_of(const testing::TestParamInfo<BadInput>& info) { return info.param.name; }

/// One message with the right exit code, nothing else on the terminal, nothing changed or left behind in `folder`.
void expect_one_message(const std::filesystem::path& folder, const BadInput& input);

/// All cases of a suite share one folder, which `fill` fills once.
class BadInputTest : public testing::TestWithParam<BadInput> {
 protected:
  static void make_folder(void (*fill)(const std::filesystem::path& folder));
  static void TearDownTestSuite() { std::filesystem::remove_all(folder_); }
  static inline std::filesystem::path folder_;
};

void write_text(const std::filesystem::path& file, const std::string& text);

}  // namespace tugline
