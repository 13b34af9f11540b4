// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "tugline/parallel/world.hpp"

namespace tugline {

/// Every test has all ranks of the job as its world.
class MpiWorldTest : public testing::Test {
 protected:
  bool alone() const { return world_.size() == 1; }
  bool last() const { return world_.rank() == world_.size() - 1; }
  /// Collective.
  bool same_on_all_ranks(const std::string& bytes) {
    const auto all = world_.control().all_gather(bytes);
    return std::all_of(all.begin(), all.end(), [&](const std::string& other) { return other == all.front(); });
  }

 private:
  int argc_ = 0;
  char** argv_ = nullptr;

 protected:
  World world_{argc_, argv_, "mpi"};
};

}  // namespace tugline
