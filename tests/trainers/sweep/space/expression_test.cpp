// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/space/expression.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tugline/core/random.hpp"

namespace tugline::sweep {
namespace {

constexpr double kInactive = std::numeric_limits<double>::quiet_NaN();
using Kind = Dimension::Kind;

std::vector<Dimension> dimensions() {
  return {{.key = "optim.name", .kind = Kind::choice, .high = 1, .values = {"sgd", "adamw"}, .parents = {}},
          {.key = "optim.lr", .low = 1e-5, .high = 1, .values = {}, .parents = {}},
          {.key = "model.layers", .kind = Kind::integer, .low = -2, .high = 6, .values = {}, .parents = {}},
          {.key = "data.batch", .kind = Kind::ordinal, .high = 2, .values = {"16", "32", "64"}, .parents = {}},
          {.key = "model.tied", .kind = Kind::choice, .high = 1, .values = {"true", "false"}, .parents = {}},
          {.key = "$op[0]", .kind = Kind::choice, .high = 2, .values = {"conv", "'a b'", "sgd"}, .parents = {}},
          {.key = "$op[1]", .kind = Kind::choice, .high = 2, .values = {"conv", "'a b'", "sgd"}, .parents = {}}};
}

/// sgd, 0.1, 3 layers, batch 64, tied, and op[1] is not active.
const Point kPoint{0, 0.1, 3, 2, 0, 1, kInactive};

bool holds(const std::string& text) { return Expression(text, dimensions(), 0).holds(kPoint); }

TEST(Expression, Holds) {
  for (const char* text :
       {"optim.name == sgd", "optim.name != adamw", "optim.name in [adamw, sgd]", "optim.name == 'sgd'", "$op[0] == 'a b'",
        "$op[i] != conv", "optim.name != $op[0]",                           // a key on the right is its value
        "data.batch == 64", "data.batch * model.layers > 191",             // numbers, not indices
        "1 + 2 * 3 == 7", "(1 + 2) * 3 == 9", "8 - 4 - 2 == 2", "8 / 4 / 2 == 1", "7 % 4 == 3", "-model.layers + 4 == 1", "2 - -1 == 3",
        "model.layers <= 3 and model.layers >= 3 and not model.layers < 3 and not model.layers > 3", "optim.lr == 1e-1", ".5 < 1",
        "model.tied", "model.tied == true", "not (model.tied == false)", "true or false and false", "not false and true", "i == 0",
        "model.layers in [1, i + 3]", "not $op[1] == conv", "true"}) {
    EXPECT_TRUE(holds(text)) << text;
  }
  for (const char* text : {"optim.name == adamw", "optim.name in [adamw]", "not model.tied", "false or model.layers == 2", "1 < 0",
                           "i > 0"}) {
    EXPECT_FALSE(holds(text)) << text;
  }
}

TEST(Expression, ComparisonsWithSomethingInactiveAreFalse) {
  for (const char* op : {"==", "!=", "<", "<=", ">", ">="}) {
    const Expression expression(fmt::format("model.layers * 2 + 1 {} 5", op), dimensions());
    EXPECT_FALSE(expression.holds({0, 0, kInactive, 0, 0, 0, 0})) << op;
    const Expression not_so(fmt::format("not model.layers * 2 + 1 {} 5", op), dimensions());
    EXPECT_TRUE(not_so.holds({0, 0, kInactive, 0, 0, 0, 0})) << op;
  }
  EXPECT_FALSE(holds("$op[1] == conv") || holds("$op[1] != conv") || holds("$op[1] in [conv, sgd]") || holds("$op[0] != $op[1]"));
  const Point untied{0, 0.1, 3, 2, kInactive, 0, 0};
  EXPECT_FALSE(Expression("model.tied", dimensions()).holds(untied));
  EXPECT_TRUE(Expression("not model.tied", dimensions()).holds(untied));
  EXPECT_FALSE(holds("1 % 0 == 0") || holds("1 % 0 != 0") || holds("0 / 0 < 1"));   // no number either
}

TEST(Expression, NamesAreItsDimensions) {
  Expression expression("data.batch > 16 and (optim.name == sgd or data.batch < optim.lr)", dimensions());
  EXPECT_EQ(expression.dimensions(), (std::vector<std::size_t>{0, 1, 3}));
  expression.renumber(std::vector<std::size_t>{5, 1, 2, 0, 4, 3, 6});
  EXPECT_EQ(expression.dimensions(), (std::vector<std::size_t>{0, 1, 5}));
  EXPECT_TRUE(expression.holds({1, 0, 0, 0, 0, 0, 0}));
  EXPECT_FALSE(expression.holds({0, 0, 0, 0, 0, 0, 0}));
}

// What a box promises is kept by every point in it.
TEST(Expression, BoxesSpeakForTheirPoints) {
  const std::vector<Dimension> all = dimensions();
  int promised = 0;
  for (const char* text : {"model.layers * data.batch > 64", "optim.lr / model.layers < 0.1", "optim.name == sgd or model.layers % 2 == 0",
                           "not (model.layers - data.batch / 16 != 1) and optim.lr <= 0.5", "optim.name in [sgd, adamw]", "not model.tied",
                           "model.layers / model.layers * 0 == 0", "$op[0] != $op[1] and -model.layers * optim.lr >= -1"}) {
    const Expression expression(text, all);
    for (std::uint64_t trial = 0; trial < 300; ++trial) {
      Random random(7, Purpose::search, trial);
      Point low(all.size()), high(all.size());
      for (std::size_t d = 0; d < all.size(); ++d) {
        low[d] = from_unit(all[d], random.uniform());
        high[d] = std::max(low[d], random.below(2) == 0 ? low[d] : from_unit(all[d], random.uniform()));
        if (random.below(5) == 0) low[d] = high[d] = kInactive;
      }
      promised += expression.must_hold(low, high) || !expression.may_hold(low, high);
      for (int k = 0; k < 20; ++k) {
        Point point = low;
        for (std::size_t d = 0; d < all.size(); ++d) {
          const double between = low[d] + random.uniform() * (high[d] - low[d]);
          if (!std::isnan(low[d])) point[d] = all[d].kind == Kind::real ? between : std::round(between);
        }
        EXPECT_TRUE(!expression.holds(point) || expression.may_hold(low, high)) << text;
        EXPECT_TRUE(expression.holds(point) || !expression.must_hold(low, high)) << text;
      }
    }
  }
  EXPECT_GT(promised, 800);   // and it does promise something
}

std::string refusal(const std::string& text) {
  try {
    Expression(text, dimensions());
    return "accepted";
  } catch (const ExpressionError& error) {
    return fmt::format("{}: {}", error.column(), error.what());
  }
}

TEST(Expression, SaysWhatIsWrongAndWhere) {
  const std::pair<const char*, const char*> cases[] = {
      {"optim.nam == sgd", "1: nothing in the space is called 'optim.nam'; did you mean optim.name?"},
      {"", "1: the expression ends too early"},
      {"optim.name = sgd", "12: write == to compare"},
      {"optim.name == sdg", "15: optim.name is never 'sdg'; did you mean sgd?"},
      {"sgd == optim.name", "1: nothing in the space is called 'sgd'"},
      {"optim.name in [sgd, sdg]", "21: optim.name is never 'sdg'; did you mean sgd?"},
      {"data.batch == 48", "15: data.batch is never '48'"},
      {"optim.name < sgd", "1: only numbers are less or greater; texts are equal or not"},
      {"optim.name == 3", "15: cannot compare a text with a number"},
      {"model.layers > model.layer", "16: cannot compare a number with the text 'model.layer'; did you mean model.layers?"},
      {"model.layers > 2 * foo", "20: nothing in the space is called 'foo'"},
      {"model.layers == 'x'", "17: cannot compare a number with the text 'x'"},
      {"model.layers + optim.name > 2", "16: expected a number, found a text"},
      {"model.layers", "1: expected a condition, found a number"},
      {"model.layers and true", "1: expected a condition, found a number"},
      {"not 'x'", "5: expected a condition, found the text 'x'"},
      {"1 < model.layers < 3", "18: comparisons do not chain; join two with 'and'"},
      {"model.layers > 1 2", "18: unexpected '2'"},
      {"model.layers > ", "16: the expression ends too early"},
      {"(model.layers > 1", "18: expected ')'"},
      {"model.layers > 1)", "17: unexpected ')'"},
      {"model.layers in 1", "17: expected '['"},
      {"model.layers in [1", "19: expected ']'"},
      {"model.layers in []", "18: unexpected ']'"},
      {"model.layers == 3x", "17: not a number; put a text in quotes"},
      {"model.layers & 1", "14: unexpected '&'"},
      {"$op[0] == 'a", "11: the closing quote is missing"},
      {"$op[7] == conv", "1: nothing in the space is called '$op[7]'; did you mean $op[0]?"},
      {"$op[i] == conv", "4: [i] is only known where there is a `for`"},
      {"$op[x] == conv", "4: expected an index such as [i] or [3]"},
      {"model.layers == and", "17: unexpected 'and'"},
      {"model.tied == 1", "15: cannot compare true or false with a number"},
      {"model.tied < true", "1: only numbers are less or greater; texts are equal or not"},
      {"model.layers > 1 or", "20: the expression ends too early"},
      {"optim.name == $op[9]", "15: nothing in the space is called '$op[9]'; did you mean $op[0]?"}};
  for (const auto& [text, told] : cases) EXPECT_EQ(refusal(text), told) << text;
  EXPECT_EQ(refusal(std::string(100, '(') + "1"), "66: nested too deeply");
  EXPECT_EQ(refusal(std::string(100, '-') + "1 > 0"), "66: nested too deeply");
  EXPECT_EQ(refusal(std::string(20'000, ' ')), "1: the expression is too long");
}

}  // namespace
}  // namespace tugline::sweep
