// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tugline/parallel/communicator.hpp"

namespace tugline {

/// Collectives that do not match: the last rank does `odd`, the others `most`. All ranks must be told the same, with these words.
struct Mismatch {
  const char* name;
  std::function<void(Communicator&)> most, odd;
  std::vector<std::string> words;
};
const std::vector<Mismatch>& mismatches();

/// Collective, on two ranks or more. With EXPECT_: every rank is told by `communicator`, which is checked; later collectives of it say it
/// again, and `twin`, the same ranks on another channel, goes on.
void expect_told(const Mismatch& mismatch, Communicator& communicator, Communicator& twin);

/// Whether messages have functions' names here; without libbacktrace they have addresses.
bool names_are_known();

}  // namespace tugline
