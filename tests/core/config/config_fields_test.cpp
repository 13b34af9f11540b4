// SPDX-License-Identifier: Apache-2.0
// Each key is described exactly once, and everything a user sees of it comes from there.
#include "tugline/core/config/fields.hpp"

#include <gtest/gtest.h>

#include <boost/describe.hpp>
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/mp11/algorithm.hpp>
#include <boost/pfr.hpp>
#include <fstream>
#include <set>
#include <sstream>

#include "tugline/core/config/describe.hpp"
#include "tugline/core/config/load.hpp"
#include "tugline/core/config/nearest.hpp"
#include "tugline/core/config/scalar.hpp"

namespace tugline {
namespace {

namespace json = boost::json;

template <class... T>
constexpr bool described_in_full() {
  return ((boost::pfr::tuple_size_v<T> ==
           boost::mp11::mp_size<boost::describe::describe_members<T, boost::describe::mod_public>>::value) &&
          ...);
}
static_assert(described_in_full<AugmentConfig, SplitConfig, DataConfig, ModelConfig, TaskConfig, ScheduleConfig,
                                GroupConfig, OptimConfig, EarlyStopConfig, TrainConfig, CheckpointConfig, ParallelConfig,
                                OverfitConfig, LogConfig, RunConfig>(),
              "a member of a config struct is missing in core/config/describe.hpp");

TEST(ConfigFields, NotesAndStructsHoldTheSameKeysInTheSameOrder) {
  std::vector<std::string> keys, noted;
  for (const config::Field& field : config::fields()) keys.push_back(field.key);
  for (const config::Note& note : config::notes()) noted.emplace_back(note.key);
  EXPECT_EQ(keys, noted);
  EXPECT_EQ(std::set<std::string>(keys.begin(), keys.end()).size(), keys.size());
}

TEST(ConfigFields, EveryDefaultIsAllowedAndEveryKeyHasHelp) {
  EXPECT_NO_THROW(parse_config(to_yaml(RunConfig{}), "defaults"));
  for (const config::Field& field : config::fields()) {
    EXPECT_FALSE(field.note->help.empty()) << field.key;
    EXPECT_FALSE(field.note->help.ends_with('.')) << field.key;
    EXPECT_LT(field.note->help.size(), 100u) << field.key;
  }
}

TEST(ConfigFields, NumbersAreShortAndExact) {
  const std::pair<double, const char*> cases[] = {
      {0.1, "0.1"}, {1, "1.0"}, {1e-8, "1.0e-08"}, {1.5e300, "1.5e+300"}, {-2, "-2.0"}, {1.0 / 3, "0.3333333333333333"},
      {0, "0.0"}};
  for (const auto& [value, text] : cases) {
    EXPECT_EQ(config::number_text(value), text);
    EXPECT_EQ(std::stod(text), value);
  }
}

TEST(ConfigFields, NearestFindsSlipsButNotStrangers) {
  EXPECT_EQ(config::edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(config::edit_distance("sdg", "sgd"), 1);
  EXPECT_EQ(config::edit_distance("", "abc"), 3);
  const std::vector<std::string_view> keys = {"optim",      "optim.lr",    "optim.momentum",
                                              "data.batch", "train.steps", "overfit.steps"};
  EXPECT_EQ(config::nearest_key("optim.mometum", keys), "optim.momentum");
  EXPECT_EQ(config::nearest_key("data.momentum", keys), "optim.momentum");
  EXPECT_EQ(config::nearest_key("steps", keys), "train.steps");
  EXPECT_EQ(config::nearest_key("overfit.step", keys), "overfit.steps");
  EXPECT_EQ(config::nearest_key("zebra", keys), "");
  EXPECT_EQ(config::nearest_key("optim.q", keys), "");
}

// What draft 2020-12 asks of the parts that we use.
void check_schema(const json::object& schema, const std::string& where) {
  SCOPED_TRACE(where);
  if (const auto* properties = schema.if_contains("properties")) {
    EXPECT_EQ(schema.at("type"), "object");
    EXPECT_EQ(schema.at("additionalProperties"), false);
    for (const auto& entry : properties->as_object()) {
      check_schema(entry.value().as_object(), where + "." + std::string(entry.key()));
    }
    return;
  }
  EXPECT_TRUE(schema.contains("type"));
  if (const auto* items = schema.if_contains("items")) check_schema(items->as_object(), where + "[]");
  const auto* fallback = schema.if_contains("default");
  if (fallback == nullptr) return;
  EXPECT_FALSE(schema.at("description").as_string().empty());
  if (const auto* choices = schema.if_contains("enum")) {
    EXPECT_NE(std::find(choices->as_array().begin(), choices->as_array().end(), *fallback), choices->as_array().end());
  }
  if (const auto* least = schema.if_contains("minimum"); least != nullptr && fallback->is_number()) {
    EXPECT_GE(fallback->to_number<double>(), least->to_number<double>());
  }
}

TEST(ConfigSchema, JsonSchemaIsWellFormed) {
  const json::object schema = json::parse(schema_json()).as_object();
  EXPECT_EQ(schema.at("$schema"), "https://json-schema.org/draft/2020-12/schema");
  check_schema(schema, "");
  const auto at = [&](const char* pointer) { return json::value(schema).at_pointer(pointer); };
  EXPECT_EQ(at("/properties/optim/properties/lr/type"), "number");
  EXPECT_EQ(at("/properties/optim/properties/lr/exclusiveMinimum"), 0);
  EXPECT_EQ(at("/properties/optim/properties/lr/default"), 0.1);
  EXPECT_EQ(at("/properties/data/properties/batch/minimum"), 1);
  EXPECT_EQ(at("/properties/data/properties/split/properties/test/exclusiveMaximum"), 1);
  EXPECT_EQ(at("/properties/data/properties/header/type"), (json::array{"boolean", "null"}));
  EXPECT_EQ(at("/properties/optim/properties/name/enum"), (json::array{"sgd", "adam", "adamw", "adagrad"}));
  EXPECT_EQ(at("/properties/model/properties/options/additionalProperties/type"), "string");
  EXPECT_EQ(at("/properties/model/properties/hidden/items/minimum"), 1);
  EXPECT_EQ(at("/properties/optim/properties/groups/items/properties/match/type"), "string");
  EXPECT_EQ(at("/properties/extends/type"), "string");
}

TEST(ConfigSchema, JsonSchemaNamesEveryKey) {
  const json::value schema = json::parse(schema_json());
  for (const config::Field& field : config::fields()) {
    std::string pointer = "/properties/" + field.key;
    for (auto at = pointer.find("[]."); at != pointer.npos; at = pointer.find("[]."))
      pointer.replace(at, 3, "/items/properties/");
    for (auto at = pointer.find('.'); at != pointer.npos; at = pointer.find('.')) pointer.replace(at, 1, "/properties/");
    boost::system::error_code missing;
    EXPECT_NE(schema.find_pointer(pointer, missing), nullptr) << field.key;
  }
}

TEST(ConfigSchema, ThePageOfKeysIsUpToDate) {
  std::ifstream page(TUGLINE_CONFIG_KEYS_PAGE);
  ASSERT_TRUE(page) << TUGLINE_CONFIG_KEYS_PAGE;
  std::ostringstream text;
  text << page.rdbuf();
  const std::string block = "```text\n" + schema_text() + "```\n";
  EXPECT_NE(text.str().find(block), std::string::npos)
      << "docs/config-keys.md is out of date: put the output of `tugline config schema` into its block";
}

TEST(ConfigSchema, TextTellsDefaultTypeRangeAndUnit) {
  EXPECT_NE(schema_text().find("data.batch=64                    a whole number >= 1 [samples]\n"
                               "      the global batch: all ranks' samples of one step\n"),
            std::string::npos);
}

}  // namespace
}  // namespace tugline
