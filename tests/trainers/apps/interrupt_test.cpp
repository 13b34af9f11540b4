// SPDX-License-Identifier: Apache-2.0
// A run that is stopped by a signal and started again ends as if it had never been stopped.
#include <gmock/gmock.h>

#include <boost/json.hpp>
#include <csignal>
#include <cstring>

#include "tugline/core/error.hpp"
#include "tugline/core/io/checkpoint.hpp"
#include "tugline/tests/support/temporary_folder.hpp"
#include "tugline/tests/trainers/apps/program.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using testing::HasSubstr;

constexpr std::int64_t kSteps = 3000;

class Interrupt : public TemporaryFolder {
 protected:
  void SetUp() override {
    TemporaryFolder::SetUp();
    write(folder_ / "long.yaml",
          "data: {name: digits, batch: 50}\nmodel: {name: mlp, hidden: [16], dropout: 0.1}\noptim: {lr: 0.01}\n"
          "train: {epochs: 1000, steps: 3000, eval_every: 20}\nlog: {every_steps: 1, tensorboard: false}\n");
  }
  static Words train(const std::string& run) { return {"train", "long.yaml", "--run-dir", run}; }
  /// Starts the run and sends SIGUSR1 to mpirun once it shows its first step: 2999 are still to come.
  Outcome stop_in_the_middle(const std::string& run) const {
    Program program(folder_, train(run), 2);
    program.wait_for("step ");
    program.signal(SIGUSR1);
    return program.wait();
  }
  json::object result(const std::string& run) const { return json::parse(read(folder_ / run / "result.json")).as_object(); }
  Checkpoint last(const std::string& run) const {
    return read_checkpoint(CheckpointFolder(folder_ / run / "checkpoints").path_of(kSteps));
  }
};

TEST_F(Interrupt, StoppedAndContinuedEqualsNeverStopped) {
  const Outcome stopped = stop_in_the_middle("stopped");
  ASSERT_EQ(stopped.exit_code, static_cast<int>(ExitCode::run_again)) << stopped.err;
  EXPECT_EQ(result("stopped").at("status"), "stopped");
  const std::int64_t at = result("stopped").at("steps").as_int64();
  ASSERT_LT(at, kSteps);
  EXPECT_EQ(CheckpointFolder(folder_ / "stopped" / "checkpoints").list().back().step, at);

  const Outcome continued = run_program(folder_, train("stopped"), 2);
  ASSERT_EQ(continued.exit_code, 0) << continued.err;
  EXPECT_THAT(continued.out, HasSubstr("continuing at step " + std::to_string(at)));
  const Outcome straight = run_program(folder_, train("straight"), 2);
  ASSERT_EQ(straight.exit_code, 0) << straight.err;
  for (const char* key : {"status", "epochs", "steps", "train", "validation", "test"}) {
    EXPECT_EQ(result("stopped").at(key), result("straight").at(key)) << key;
  }

  const Checkpoint one = last("stopped"), other = last("straight");
  ASSERT_EQ(one.arrays.size(), other.arrays.size());
  for (const auto& [path, array] : one.arrays) {
    EXPECT_TRUE(array.data == other.arrays.at(path).data) << path << " differs in some bit";
  }
}

TEST_F(Interrupt, ADamagedCheckpointIsSkippedOnTheWay) {
  ASSERT_EQ(stop_in_the_middle("run").exit_code, static_cast<int>(ExitCode::run_again));
  const CheckpointFolder checkpoints(folder_ / "run" / "checkpoints");
  const auto entries = checkpoints.list();
  fs::copy_file(entries.back().file, checkpoints.path_of(0));   // an older one that is intact
  std::string bytes = read(entries.back().file);
  bytes[bytes.size() / 2] ^= 0x10;
  write(entries.back().file, bytes);
  const Outcome continued = run_program(folder_, train("run"), 2);
  EXPECT_EQ(continued.exit_code, 0) << continued.err;
  EXPECT_THAT(continued.err, HasSubstr(entries.back().file.filename().string() + ": damaged"));
  EXPECT_EQ(result("run").at("steps"), kSteps);
}

TEST_F(Interrupt, ARunWithoutAnIntactCheckpointIsNotStartedOver) {
  ASSERT_EQ(stop_in_the_middle("run").exit_code, static_cast<int>(ExitCode::run_again));
  std::string name;
  for (const auto& entry : CheckpointFolder(folder_ / "run" / "checkpoints").list()) {
    write(entry.file, "not a checkpoint");
    name = entry.file.filename().string();
  }
  const Outcome refused = run_program(folder_, train("run"), 2);
  EXPECT_EQ(refused.exit_code, static_cast<int>(ExitCode::io));
  EXPECT_THAT(refused.err, testing::AllOf(HasSubstr("no checkpoint of this run is intact"), HasSubstr(name), HasSubstr("--fresh")));
  EXPECT_EQ(read(folder_ / "run" / "checkpoints" / name), "not a checkpoint") << "nothing was overwritten";
}

TEST_F(Interrupt, ACheckpointOfAnotherModelIsRefused) {
  ASSERT_EQ(stop_in_the_middle("run").exit_code, static_cast<int>(ExitCode::run_again));
  ASSERT_EQ(
      run_program(folder_, {"train", source_file("configs/wine.yaml").string(), "train.steps=1", "--run-dir", "other"})
          .exit_code,
      0);
  fs::copy_file(CheckpointFolder(folder_ / "other" / "checkpoints").path_of(1),
                CheckpointFolder(folder_ / "run" / "checkpoints").path_of(99999999));
  const Outcome refused = run_program(folder_, train("run"), 2);
  EXPECT_EQ(refused.exit_code, static_cast<int>(ExitCode::io));
  EXPECT_THAT(refused.err, HasSubstr("step-99999999.h5: /parameters/"));
}

}  // namespace
}  // namespace tugline
