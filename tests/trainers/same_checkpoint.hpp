// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <filesystem>

#include <boost/json.hpp>

#include "tugline/core/io/checkpoint.hpp"

namespace tugline {

/// What must be equal of two runs' progress: all but the time they took.
inline boost::json::object progress_of(const Checkpoint& checkpoint) {
  auto progress = boost::json::parse(checkpoint.texts.at("progress")).as_object();
  progress.erase("seconds");
  return progress;
}

inline void expect_same_checkpoint(const std::filesystem::path& file, const std::filesystem::path& other) {
  const Checkpoint a = read_checkpoint(file), b = read_checkpoint(other);
  EXPECT_EQ(progress_of(a), progress_of(b));
  EXPECT_EQ(a.texts.at("config"), b.texts.at("config"));
  EXPECT_EQ(a.texts.at("normalisation"), b.texts.at("normalisation"));
  ASSERT_EQ(a.arrays.size(), b.arrays.size());
  for (const auto& [path, array] : a.arrays) {
    ASSERT_EQ(b.arrays.count(path), 1u) << path;
    EXPECT_EQ(array.shape, b.arrays.at(path).shape) << path;
    EXPECT_TRUE(array.data == b.arrays.at(path).data) << path;
  }
}

}  // namespace tugline
