// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/metrics/event_log.hpp"

#include <gmock/gmock.h>

#include <boost/json.hpp>
#include <cmath>
#include <limits>

#include "tugline/core/error.hpp"
#include "tugline/core/metrics/json_text.hpp"
#include "tugline/tests/support/temporary_folder.hpp"

namespace tugline {
namespace {

namespace json = boost::json;

StepRecord a_step(std::int64_t step) {
  StepRecord record;
  record.epoch = 2;
  record.step = step;
  record.total_steps = 20;
  record.loss = 0.1;
  record.accuracy = 0.75;
  record.lr = 0.05;
  record.samples = 64;
  record.samples_per_second = 1000;
  record.seconds = {1, 2, 3, 4, 5};
  record.bytes_sent = 4096;
  record.ranks = {{40, 0.25, 0.25, 0.125}, {24, 0, 0.25, 0.25}};
  return record;
}

class EventLogTest : public TemporaryFolder {
 protected:
  std::vector<std::string> lines() const {
    std::istringstream in(read(file()));
    std::vector<std::string> all;
    for (std::string line; std::getline(in, line);) all.push_back(line);
    return all;
  }
  std::filesystem::path file() const { return folder_ / "metrics.jsonl"; }
  static double now() { return 1700000000.12345; }
};

TEST_F(EventLogTest, WritesEachFactAsOneLineOfTheSchema) {
  EventLog log(file(), now);
  log.event("start", {{"ranks", 2}});
  log.step(a_step(7));
  log.evaluation(
      {.split = "validation", .epoch = 2, .step = 7, .loss = 0.25, .accuracy = 0.5, .samples = 100, .seconds = 0.5});
  EXPECT_THAT(
      lines(),
      testing::ElementsAre(
          R"({"time":1700000000.123,"event":"start","ranks":2})",
          R"({"time":1700000000.123,"event":"step","epoch":2,"step":7,"total_steps":20,"loss":0.1,"accuracy":0.75,"lr":0.05,)"
          R"("samples":64,"samples_per_second":1000.0,)"
          R"("seconds":{"data":1.0,"compute":2.0,"exposed":3.0,"wait":4.0,"optimizer":5.0},"bytes_sent":4096,"shares":[40,24],"busy_seconds":[0.5,0.25],"data_seconds":[0.25,0.0],"cpu_seconds":[0.125,0.25]})",
          R"({"time":1700000000.123,"event":"evaluation","split":"validation","epoch":2,"step":7,"loss":0.25,"accuracy":0.5,)"
          R"("samples":100,"seconds":0.5})"));
}

TEST_F(EventLogTest, LeavesOutWhatThereIsNot) {
  EventLog log(file(), now);
  StepRecord record = a_step(1);
  record.accuracy.reset();
  log.step(record);
  const json::object line = json::parse(lines().at(0)).as_object();
  EXPECT_FALSE(line.contains("accuracy"));
  EXPECT_FALSE(line.contains("gradient_norm"));
}

TEST_F(EventLogTest, NonFiniteNumbersStayReadable) {
  EventLog log(file(), now);
  StepRecord record = a_step(1);
  record.loss = std::numeric_limits<double>::quiet_NaN();
  record.gradient_norm = std::numeric_limits<double>::infinity();
  log.step(record);
  log.event("warning", {{"value", -std::numeric_limits<double>::infinity()}});
  const json::value step = json::parse(lines().at(0));
  EXPECT_EQ(step.at("loss").as_string(), "nan");
  EXPECT_TRUE(std::isnan(json_double(step.at("loss"))));
  EXPECT_TRUE(std::isinf(json_double(step.at("gradient_norm"))));
  EXPECT_EQ(json::parse(lines().at(1)).at("value").as_string(), "-inf");
}

TEST_F(EventLogTest, EndsATornLineBeforeTheNext) {
  write(file(), "{\"time\":1,\"event\":\"start\"}\n{\"time\":2,\"ev");
  { EventLog(file(), now).event("resume", {}); }
  { EventLog(file(), now).event("end", {}); }
  EXPECT_THAT(lines(), testing::ElementsAre("{\"time\":1,\"event\":\"start\"}", "{\"time\":2,\"ev",
                                            R"({"time":1700000000.123,"event":"resume"})",
                                            R"({"time":1700000000.123,"event":"end"})"));
}

TEST_F(EventLogTest, TextInFieldsCannotBreakALine) {
  EventLog log(file(), now);
  log.event("warning", {{"text", "two\nlines and a \"quote\""}});
  ASSERT_EQ(lines().size(), 1u);
  EXPECT_EQ(json::parse(lines()[0]).at("text").as_string(), "two\nlines and a \"quote\"");
}

TEST_F(EventLogTest, AFileThatCannotBeOpenedIsAnErrorThatNamesIt) {
  try {
    EventLog log(folder_ / "absent" / "metrics.jsonl");
    FAIL() << "no error";
  } catch (const IoError& error) {
    EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("metrics.jsonl"), testing::HasSubstr("No such file")));
  }
}

TEST(JsonText, DoublesAreShortExactAndStayFloats) {
  for (const double value : {0.0, 1.0, -3.0, 0.1, 1e-5, 1e20, 123456789.0, 5e-324, 1.7976931348623157e308, 1.0 / 3}) {
    const std::string text = json_line(value);
    const json::value back = json::parse(text);
    ASSERT_TRUE(back.is_double()) << text;
    EXPECT_EQ(back.as_double(), value) << text;
    EXPECT_LE(text.size(), 23u);
  }
  EXPECT_EQ(json_line(0.1), "0.1");
}

TEST(JsonText, PrettyIsForPeople) {
  EXPECT_EQ(json_pretty({{"a", 1}, {"b", json::array{1.5, nullptr}}, {"c", json::object{}}, {"d", json::array{}}}),
            "{\n  \"a\": 1,\n  \"b\": [\n    1.5,\n    null\n  ],\n  \"c\": {},\n  \"d\": []\n}\n");
}

class CountingSink : public Sink {
 public:
  explicit CountingSink(std::vector<std::int64_t>& steps) : steps_(steps) {}
  void step(const StepRecord& record) override { steps_.push_back(record.step); }
  void evaluation(const EvalRecord& record) override { steps_.push_back(-record.step); }
  void event(std::string_view, const json::object&) override { steps_.push_back(0); }

 private:
  std::vector<std::int64_t>& steps_;
};

TEST(RunLog, GivesEachSinkItsStepsAndEverythingElse) {
  std::vector<std::int64_t> all, some;
  RunLog log;
  log.add(std::make_unique<CountingSink>(all));
  log.add(std::make_unique<CountingSink>(some), 5);
  for (std::int64_t step = 9; step <= 18; ++step) {
    StepRecord record;
    record.step = step;
    record.total_steps = 18;
    log.step(record);
  }
  log.evaluation({.split = "test", .step = 18});
  log.event("end", {});
  EXPECT_THAT(all, testing::ElementsAre(9, 10, 11, 12, 13, 14, 15, 16, 17, 18, -18, 0));
  EXPECT_THAT(some, testing::ElementsAre(9, 10, 15, 18, -18, 0));
}

}  // namespace
}  // namespace tugline
