// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <filesystem>

#include <fmt/format.h>

#include "tugline/trainers/sweep/store/entry.hpp"
#include "tugline/trainers/sweep/store/trial_store.hpp"

namespace tugline::sweep {

/// Reads the chain of an ended job file by file, by rules of its own: every attempt is counted, and there are no two results without a
/// reopening between them.
inline void expect_sound(Files& files, const std::filesystem::path& folder, const Job& job) {
  int finals = 0, claims = 0, reopenings = 0;
  for (int position = 0; position < job.length; ++position) {
    const auto text = files.read(folder / "jobs" / fmt::format("{:03}", job.number / 1000) / fmt::format("{:06}.{}", job.number, position));
    ASSERT_TRUE(text);
    const auto read = read_entry(*text, job.number, position);
    ASSERT_TRUE(std::holds_alternative<Entry>(read));
    const Entry& entry = std::get<Entry>(read);
    claims += entry.kind == Entry::Kind::claim ? 1 : 0;
    reopenings += entry.kind == Entry::Kind::reopen ? 1 : 0;
    finals += entry.kind == Entry::Kind::end && entry.final ? 1 : 0;
    ASSERT_EQ(entry.attempt, claims) << "attempts of job " << job.number;
    ASSERT_LE(finals, 1 + reopenings) << "results of job " << job.number;
  }
  EXPECT_EQ(job.state, Job::State::ended);
  EXPECT_EQ(finals, 1 + reopenings) << "results of job " << job.number;
  EXPECT_EQ(claims, job.attempts);
  EXPECT_EQ(job.damage, "");
}

}  // namespace tugline::sweep
