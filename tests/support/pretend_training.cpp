// SPDX-License-Identifier: Apache-2.0
#include "tugline/tests/support/pretend_training.hpp"

#include <fstream>
#include <iostream>
#include <string_view>
#include <vector>

#include "tugline/core/error.hpp"
#include "tugline/trainers/run/result.hpp"
#include "tugline/trainers/run/run_directory.hpp"
#include "tugline/trainers/sweep/worker.hpp"

namespace tugline::sweep {

int PretendTraining::finish(double loss) const {
  std::filesystem::create_directories(folder);
  Result result;
  result.reason = "epochs";
  result.epochs = 1;
  result.splits["validation"] = {loss, {}};
  write_result(RunPaths(folder).result(), result);
  return static_cast<int>(ExitCode::done);
}

int PretendTraining::diverge() const {
  std::filesystem::create_directories(folder);
  std::ofstream(RunPaths(folder).metrics()) << R"({"event":"nonfinite","time":0,"step":1})" << '\n';
  return static_cast<int>(ExitCode::internal);
}

bool is_worker_or_trial(int argc, char** argv, const std::function<int(const PretendTraining&)>& train, int& exit_code) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() >= 3 && words[0] == "sweep" && words[1] == "work") {
    try {
      const SweepConfig sweep = load_sweep(words[2]);
      exit_code = static_cast<int>(Worker(sweep).run());
    } catch (const Error& error) {
      std::cerr << error.what() << std::endl;
      exit_code = static_cast<int>(error.exit_code());
    }
    return true;
  }
  if (words.empty() || words[0] != "train") return false;
  PretendTraining training;
  for (std::size_t i = 1; i < words.size(); ++i) {
    if (words[i].starts_with("seed=")) training.seed = std::stoll(words[i].substr(5));
    if (words[i] == "--run-dir") training.folder = words.at(i + 1);
  }
  training.attempt = std::stoi(training.folder.extension().string().substr(1));
  exit_code = train(training);
  return true;
}

}  // namespace tugline::sweep
