// SPDX-License-Identifier: Apache-2.0
#include "tugline/tests/parallel/mismatches.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tugline/parallel/checked/call_site.hpp"
#include "tugline/parallel/world.hpp"

namespace tugline {
namespace {

using testing::HasSubstr;

// The names of these functions must stand in the message: they are not inlined, and do more after their call than return.
[[gnu::noinline]] void sums_floats(Communicator& communicator) {
  float values[7] = {};
  communicator.all_reduce(values, 7, DType::float32);
}
[[gnu::noinline]] void sums_other_floats(Communicator& communicator) {
  float values[7] = {1};   // equal functions would be made one
  communicator.all_reduce(values, 7, DType::float32);
}
[[gnu::noinline]] void sums_more_floats(Communicator& communicator) {
  float values[8] = {};
  communicator.all_reduce(values, 8, DType::float32);
}
[[gnu::noinline]] void sums_integers(Communicator& communicator) {
  std::int32_t values[7] = {};
  communicator.all_reduce(values, 7, DType::int32);
}
[[gnu::noinline]] void takes_the_largest(Communicator& communicator) {
  float values[7] = {};
  communicator.all_reduce(values, 7, DType::float32, ReduceOp::max);
}
[[gnu::noinline]] bool waits(Communicator& communicator) {
  communicator.barrier();
  return true;
}
[[gnu::noinline]] void hears_the_first(Communicator& communicator) {
  char text[8] = {};
  communicator.broadcast(text, 8, 0);
}
[[gnu::noinline]] void hears_the_second(Communicator& communicator) {
  char text[8] = {};
  communicator.broadcast(text, 8, 1);
}
[[gnu::noinline]] void collects(Communicator& communicator, std::int64_t bytes) {
  const std::vector<char> mine(static_cast<std::size_t>(bytes));
  std::vector<char> all(mine.size() * static_cast<std::size_t>(communicator.size()));
  communicator.all_gather(mine.data(), bytes, all.data());
}
[[gnu::noinline]] bool divides(Communicator& communicator) { return communicator.split(0, 0) != nullptr; }
[[gnu::noinline]] bool doubles(Communicator& communicator) { return communicator.duplicate() != nullptr; }

}  // namespace

bool names_are_known() {
  static const bool known = CallSite::here().text().starts_with("names_are_known");
  return known;
}

const std::vector<Mismatch>& mismatches() {
  static const std::vector<Mismatch> cases{
      {"another_count", sums_floats, sums_more_floats,
       {"number 1 differs", "calls all_reduce of 8 float32 (sum) at ", "at sums_floats", "at sums_more_floats"}},
      {"another_type", sums_floats, sums_integers, {"calls all_reduce of 7 int32 (sum) at ", "at sums_floats", "at sums_integers"}},
      {"another_reduction", sums_floats, takes_the_largest, {"(sum) at ", "(max) at ", "at sums_floats", "at takes_the_largest"}},
      {"another_operation", sums_floats, waits, {"all_reduce of 7 float32 (sum) at ", "barrier at ", "at sums_floats", "at waits"}},
      {"another_root", hears_the_first, hears_the_second,
       {"broadcast of 8 bytes from rank 0 at ", "broadcast of 8 bytes from rank 1 at ", "at hears_the_first", "at hears_the_second"}},
      {"another_length", [](Communicator& c) { collects(c, 8); }, [](Communicator& c) { collects(c, 9); },
       {"all_gather of 8 bytes at ", "all_gather of 9 bytes at ", "at collects"}},
      {"one_divides_and_one_doubles", divides, doubles, {"split at ", "duplicate at ", "at divides", "at doubles"}},
      {"one_is_a_call_ahead",
       [](Communicator& c) {
         waits(c);
         sums_floats(c);
         hears_the_first(c);
       },
       [](Communicator& c) {
         waits(c);
         hears_the_first(c);
       },
       {"number 2 differs", "all_reduce of 7 float32 (sum) at ", "broadcast of 8 bytes from rank 0 at ", "at sums_floats",
        "at hears_the_first"}},
      // The call that is missing looks like the next one, so that it shows one later.
      {"a_lost_call_shows_late",
       [](Communicator& c) {
         sums_floats(c);
         sums_other_floats(c);
         waits(c);
       },
       [](Communicator& c) {
         sums_other_floats(c);
         waits(c);
       },
       {"number 2 differs", "all_reduce of 7 float32 (sum) at ", "barrier at ", "different places since number 1, where ", "at waits",
        "from sums_floats", "from sums_other_floats"}},
  };
  return cases;
}

void expect_told(const Mismatch& mismatch, Communicator& communicator, Communicator& twin) {
  const bool odd = communicator.rank() == communicator.size() - 1;
  const auto told_by = [&](const std::function<void(Communicator&)>& collectives) -> std::string {
    try {
      collectives(communicator);
    } catch (const AgreedError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::disagree);
      return error.what();
    }
    return "nothing";
  };
  const std::string told = told_by(odd ? mismatch.odd : mismatch.most);
  for (const std::string& word : mismatch.words) {
    const bool names_a_function = word.starts_with("at ") || word.starts_with("from ");
    if (names_a_function && !names_are_known()) continue;
    EXPECT_THAT(told, HasSubstr(word));
  }
  EXPECT_THAT(twin.all_gather(told), testing::Each(told));
  EXPECT_EQ(told_by(sums_integers), told);
}

}  // namespace tugline
