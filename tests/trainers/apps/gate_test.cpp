// SPDX-License-Identifier: Apache-2.0
// The two checks on every config that ships.
#include <gmock/gmock.h>

#include <boost/json.hpp>

#include "tugline/tests/support/temporary_folder.hpp"
#include "tugline/tests/trainers/apps/program.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using testing::HasSubstr;

struct Shipped {
  const char* name;
  const char* data;  ///< data that do not ship with it, beside the source tree; empty: all is there
};

class Gate : public TemporaryFolder, public testing::WithParamInterface<Shipped> {
 protected:
  /// The config and what it needs here; empty when its data are elsewhere.
  static Words config() {
    const auto& [name, data] = GetParam();
    Words words{source_file(std::string("configs/") + name + ".yaml").string()};
    if (*data == '\0') return words;
    const fs::path there = source_file("../shared/data") / data;
    if (!fs::exists(there)) return {};
    words.push_back("data.path=" + there.lexically_normal().string());
    return words;
  }
  Outcome run(Words words, const Words& more) const {
    words.insert(words.end(), more.begin(), more.end());
    return run_program(folder_, words, 2);
  }
};

TEST_P(Gate, OverfitPasses) {
  Words words = config();
  if (words.empty()) GTEST_SKIP() << "no ../shared/data/" << GetParam().data;
  words.insert(words.begin(), "overfit");
  const Outcome outcome = run(words, {"--json", "verdict.json", "--junit", "verdict.xml"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.out << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr(std::string("overfit ") + GetParam().name + ": PASSED"));
  const json::value verdict = json::parse(read(folder_ / "verdict.json"));
  EXPECT_EQ(verdict.at("passed"), true);
  EXPECT_EQ(verdict.at("reason"), "learned");
  EXPECT_EQ(verdict.at("ranks"), 2);
  EXPECT_THAT(read(folder_ / "verdict.xml"),
              testing::AllOf(HasSubstr("tests=\"1\" failures=\"0\""), HasSubstr("</testsuite>")));
  EXPECT_EQ(snapshot(folder_).size(), 2U) << "nothing but the two files";
}

TEST_P(Gate, VerifyPasses) {
  Words words = config();
  if (words.empty()) GTEST_SKIP() << "no ../shared/data/" << GetParam().data;
  words.insert(words.begin(), "verify");
  // Gradients of MNIST's first convolution are sums of 50,000 terms that cancel: float32 rounds them to 3e-5, which verify must know.
  const Outcome outcome = run(words, {});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.out << outcome.err;
  EXPECT_EQ(outcome.err, "");
  EXPECT_TRUE(snapshot(folder_).empty());
}

void PrintTo(const Shipped& shipped, std::ostream* out) { *out << shipped.name; }
std::string config_name(const testing::TestParamInfo<Shipped>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Configs, Gate,
                         testing::Values(Shipped{"digits", ""}, Shipped{"wine", ""}, Shipped{"hdf5", ""},
                                         Shipped{"mnist", "mnist"},
                                         Shipped{"shakespeare", "text/tinyshakespeare.txt"}),
                         config_name);

class GateFails : public TemporaryFolder {};

TEST_F(GateFails, AndSaysWhy) {
  const Outcome outcome = run_program(
      folder_,
      {"overfit", source_file("configs/wine.yaml").string(), "optim.lr=1e-9", "--json", "v.json", "--junit", "v.xml"}, 2);
  EXPECT_EQ(outcome.exit_code, 3) << outcome.err;
  EXPECT_EQ(outcome.err, "") << "the verdict is the answer, not an error";
  EXPECT_THAT(outcome.out, testing::AllOf(HasSubstr("FAILED"), HasSubstr("learning rate"), HasSubstr("too small"),
                                          HasSubstr("optim.lr=")));
  EXPECT_EQ(json::parse(read(folder_ / "v.json")).at("reason"), "lr_too_small");
  EXPECT_THAT(read(folder_ / "v.xml"),
              testing::AllOf(HasSubstr("failures=\"1\""), HasSubstr("<failure type=\"lr_too_small\"")));
}

}  // namespace
}  // namespace tugline
