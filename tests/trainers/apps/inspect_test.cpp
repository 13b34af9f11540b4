// SPDX-License-Identifier: Apache-2.0
// Commands that only look, and the help of all.
#include <gmock/gmock.h>

#include <boost/json.hpp>
#include <sstream>

#include "tugline/tests/support/temporary_folder.hpp"
#include "tugline/tests/trainers/apps/program.hpp"

namespace tugline {
namespace {

namespace json = boost::json;
using testing::AllOf;
using testing::HasSubstr;

class Inspect : public TemporaryFolder {
 protected:
  /// What the command says on stdout; it must end well and say nothing else.
  std::string said(const Words& words, int ranks = 0) const {
    const Outcome outcome = run_program(folder_, words, ranks);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    return outcome.out;
  }
};

void expect_fits_a_screen(const std::string& text) {
  std::istringstream in(text);
  int lines = 0;
  for (std::string line; std::getline(in, line); ++lines) EXPECT_LE(line.size(), 100U) << line;
  EXPECT_LE(lines, 24) << text;
}

TEST_F(Inspect, HelpFitsAScreenAndHasAnExample) {
  for (const char* command :
       {"train", "launch", "status", "eval", "overfit", "verify", "doctor", "config", "checkpoint", "models", "datasets"}) {
    const std::string help = said({command, "--help"});
    expect_fits_a_screen(help);
    EXPECT_THAT(help, AllOf(HasSubstr(std::string("tugline ") + command), HasSubstr("Example\n"))) << command;
  }
  const std::string help = said({"--help"}, 2);
  expect_fits_a_screen(help);
  EXPECT_THAT(help, AllOf(HasSubstr("overfit"), HasSubstr("mpirun -n N tugline"), HasSubstr("Exit codes")));
  const Outcome nothing = run_program(folder_, {});
  EXPECT_EQ(nothing.exit_code, 2);
  EXPECT_EQ(nothing.out, "");
  EXPECT_EQ(nothing.err, help);
}

TEST_F(Inspect, Configs) {
  const std::string digits = source_file("configs/digits.yaml").string();
  const std::string yaml = said({"config", "show", digits, "optim.lr=0.05"});
  EXPECT_THAT(yaml, AllOf(HasSubstr("lr: 0.05"), HasSubstr("hold: 5")));
  write(folder_ / "resolved.yaml", yaml);
  EXPECT_EQ(said({"config", "show", "resolved.yaml"}), yaml) << "a resolved config is a config";
  const json::value config = json::parse(said({"config", "show", digits, "--json"}));
  EXPECT_EQ(config.at("optim").at("nesterov"), true);
  EXPECT_THAT(said({"config", "schema"}), HasSubstr("optim.lr"));
  const json::value schema = json::parse(said({"config", "schema", "--json"}));
  EXPECT_TRUE(schema.at("properties").as_object().contains("optim"));
}

TEST_F(Inspect, NamesAndMachine) {
  EXPECT_THAT(said({"models"}), AllOf(HasSubstr("mlp"), HasSubstr("convnet"), HasSubstr("transformer")));
  EXPECT_THAT(said({"datasets"}),
              AllOf(HasSubstr("digits"), HasSubstr("idx"), HasSubstr("csv"), HasSubstr("hdf5"), HasSubstr("text")));
  EXPECT_THAT(said({"--version"}), testing::MatchesRegex("tugline [0-9]+\\.[0-9]+\\.[0-9]+\n"));
  const auto before = snapshot(folder_);
  const Outcome doctor = run_program(folder_, {"doctor", "--json"}, 2);
  EXPECT_TRUE(doctor.exit_code == 0 || doctor.exit_code == 3) << doctor.err;  // as the machine is
  EXPECT_FALSE(json::parse(doctor.out).as_object().empty());
  EXPECT_TRUE(snapshot(folder_) == before) << "the doctor leaves nothing";
}

TEST_F(Inspect, StatusOfARun) {
  const Words train{"train", source_file("configs/wine.yaml").string(), "train.steps=5", "--run-dir", "run"};
  ASSERT_EQ(run_program(folder_, train, 2).exit_code, 0);
  const auto before = snapshot(folder_);
  EXPECT_THAT(said({"status", "run"}),
              AllOf(HasSubstr("run: done (steps) "), HasSubstr("step 5/5  loss "), HasSubstr("\n  test        step 5  loss "),
                    HasSubstr("\n  checkpoint  step 5, "), HasSubstr("\n  rank "), HasSubstr(" of all ranks' time")));
  EXPECT_TRUE(snapshot(folder_) == before) << "it only looks";
}

TEST_F(Inspect, Checkpoints) {
  ASSERT_EQ(run_program(folder_, {"train", source_file("configs/wine.yaml").string(), "train.steps=5", "--run-dir", "run"})
                .exit_code,
            0);
  const std::string file = "run/checkpoints/step-00000005.h5";
  EXPECT_THAT(said({"checkpoint", "ls", "run"}), AllOf(HasSubstr(file), HasSubstr("ok")));
  EXPECT_EQ(said({"checkpoint", "verify", file}), file + ": ok\n");
  EXPECT_THAT(said({"checkpoint", "verify", "run"}), HasSubstr(file));
  EXPECT_THAT(said({"checkpoint", "show", file}), AllOf(HasSubstr("/parameters/hidden0.weight"), HasSubstr("[32, 13]"),
                                                        HasSubstr("/optimizer/"), HasSubstr("cultivar")));

  // Out to safetensors and in again: the first step of a run that begins with them has the loss of their last.
  EXPECT_THAT(said({"checkpoint", "export", "run", "wine.safetensors"}), HasSubstr("wine.safetensors: "));
  const Words from_file{"train", source_file("configs/wine.yaml").string(), "train.steps=1", "optim.lr=1e-30", "train.init_from=wine.safetensors",
                        "--run-dir", "again"};
  ASSERT_EQ(run_program(folder_, from_file, 2).exit_code, 0);
  const auto test_loss = [&](const char* run) { return json::parse(read(folder_ / run / "result.json")).at("test").at("loss"); };
  EXPECT_EQ(test_loss("again"), test_loss("run"));
  const Outcome other = run_program(folder_, {"train", source_file("configs/digits.yaml").string(), "train.init_from=wine.safetensors"});
  EXPECT_EQ(other.exit_code, 65);
  EXPECT_THAT(other.err, AllOf(HasSubstr("wine.safetensors: its tensors are not those of the model"), HasSubstr("there and [")));
  EXPECT_THAT(said({"checkpoint", "diff", file, file}), HasSubstr("no bit differs"));
  const Outcome differs = run_program(folder_, {"checkpoint", "diff", file, "again/checkpoints/step-00000001.h5"});
  EXPECT_EQ(differs.exit_code, 3);
  EXPECT_THAT(differs.out, HasSubstr("/optimizer/"));
  EXPECT_THAT(said({"checkpoint", "prune", "run"}), HasSubstr("left"));

  std::string bytes = read(folder_ / file);
  bytes[bytes.size() / 2] ^= 0x10;
  write(folder_ / file, bytes);
  const Outcome damaged = run_program(folder_, {"checkpoint", "verify", "run"});
  EXPECT_EQ(damaged.exit_code, 3);
  EXPECT_THAT(damaged.out, HasSubstr("damaged"));
}

}  // namespace
}  // namespace tugline
