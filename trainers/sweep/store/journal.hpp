// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include "tugline/trainers/sweep/store/entry.hpp"
#include "tugline/trainers/sweep/store/files.hpp"

namespace tugline::sweep {

/// A copy of each entry, appended by who made it: whoever knows the rest reads on here, in one file, in the place of opening every other.
/// Only a help: what is missing, torn or late here is at its place all the same. One thread.
class Journal {
 public:
  Journal(Files& files, std::filesystem::path file) : files_(files), file_(std::move(file)) {}

  /// The text of an entry that is at its place.
  void add(std::string_view text);
  /// Entries that were added since the last call. The first one brings none: what is older is to be read at its place, where damage shows.
  std::vector<Entry> read_on();

 private:
  Files& files_;
  std::filesystem::path file_;
  std::optional<std::int64_t> read_;   // bytes
};

}  // namespace tugline::sweep
