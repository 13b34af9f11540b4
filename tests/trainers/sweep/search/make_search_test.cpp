// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tugline/core/error.hpp"
#include "tugline/tests/trainers/sweep/search/search_lab.hpp"

namespace tugline::sweep {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string refusal(const Space& space, const std::string& method) {
  try {
    make_search(space, {method, 0});
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

TEST(MakeSearch, RefusesAMethodThatThereIsNotAndSaysWhichWasMeant) {
  EXPECT_THAT(refusal(architectures(), "regevol"),
              AllOf(HasSubstr("'regevol'"), HasSubstr("auto grid random sobol tpe gp regevo"), HasSubstr("did you mean regevo?")));
  EXPECT_THAT(refusal(architectures(), "hyperband"), AllOf(HasSubstr("'hyperband'"), testing::Not(HasSubstr("mean"))));
}

TEST(MakeSearch, RefusesASpaceThatTheMethodCannotSearch) {
  EXPECT_THAT(refusal(architectures(), "grid"), HasSubstr("optim.lr"));
  EXPECT_EQ(refusal(few_points(), "grid"), "");
  EXPECT_THAT(refusal(Space({}), "auto"), HasSubstr("nothing to search"));
}

Point suggested(const Space& space, const std::string& method, const std::vector<Observation>& history) {
  return make_search(space, {method, 3})->suggest(static_cast<std::int64_t>(history.size()), history);
}

TEST(MakeSearch, AutoEvolvesArchitecturesModelsNumbersAndGoesOnByTpe) {
  const Space nets = architectures();
  const Space numbers({{"x", Dimension::Kind::real, 0, 1, false, {}, {}}, {"c", Dimension::Kind::choice, 0, 1, false, {"a", "b"}, {}}});
  std::vector<Observation> of_nets, of_numbers;
  for (std::int64_t number = 0; number < 300; ++number) {
    of_nets.push_back({number, nets.draw(1, number), static_cast<double>(number * 7 % 50)});
    of_numbers.push_back({number, numbers.draw(1, number), static_cast<double>(number * 7 % 50)});
  }
  EXPECT_TRUE(same(suggested(nets, "auto", of_nets), suggested(nets, "tpe", of_nets)));
  of_nets.resize(30);
  of_numbers.resize(30);
  EXPECT_TRUE(same(suggested(nets, "auto", of_nets), suggested(nets, "regevo", of_nets)));
  EXPECT_TRUE(same(suggested(numbers, "auto", of_numbers), suggested(numbers, "gp", of_numbers)));
}

class EveryMethod : public testing::TestWithParam<const char*> {};

TEST_P(EveryMethod, SearchesAConditionalSpaceAndDoesItAgain) {
  const Space space = architectures();
  const SearchOptions options{GetParam(), 3};
  const std::vector<Observation> history = searched(*make_search(space, options), architecture_error, 30);
  const std::vector<Observation> again = searched(*make_search(space, options), architecture_error, 30);
  for (std::size_t i = 0; i < history.size(); ++i) {
    EXPECT_TRUE(is_valid(space, history[i].point)) << i;
    EXPECT_TRUE(same(history[i].point, again[i].point)) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(MakeSearch, EveryMethod, testing::Values("auto", "random", "sobol", "tpe", "gp", "regevo"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace tugline::sweep
