// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/checkpoint_saver.hpp"

#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/core/clock.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/log.hpp"
#include "tugline/trainers/fault_injector.hpp"

namespace tugline {

CheckpointSaver::CheckpointSaver(CheckpointFolder folder, const CheckpointConfig& config, RunLog& log, FaultInjector* faults)
    : folder_(std::move(folder)), config_(config), log_(log), faults_(faults) {}

void CheckpointSaver::save(const TrainState& state, const std::string& config_yaml, Mark mark) {
  settle();
  if (mark.write) snapshot_.take(state, config_yaml);
  job_.start([this, progress = state.progress, mark] { write(progress, mark); });
}

void CheckpointSaver::settle() {
  try {
    job_.wait();
  } catch (const std::exception& error) {
    if (config_.on_error == "stop") throw CheckpointError(error.what());
    const std::string text = fmt::format("{}; the run goes on without this checkpoint", error.what());
    log::warn("{}", text);
    log_.event("warning", {{"text", text}});
  }
  const Written written = std::exchange(written_, {});
  if (written.file.empty()) return;
  log_.event("checkpoint", {{"file", written.file.string()}, {"step", written.step}, {"seconds", written.seconds}});
}

/// On the job's thread.
void CheckpointSaver::write(const Progress& progress, Mark mark) {
  const bool missing = mark.best && !std::filesystem::exists(folder_.path_of(progress.step));   // it could not be written
  if (mark.write || missing) {
    const double start = Clock::steady().seconds();
    const auto file = folder_.path_of(progress.step);
    try {
      if (faults_ != nullptr) faults_->before_save(progress.step);
    } catch (const IoError& error) {
      throw CheckpointError(fmt::format("cannot write {}: {}", file.string(), error.what()));
    }
    write_checkpoint(file, snapshot_.content());
    written_ = {file, progress.step, Clock::steady().seconds() - start};
  }
  if (mark.best) folder_.mark_best(progress.step, progress.best_metric, progress.best_value);
  folder_.prune(config_.keep_last, config_.keep_best);
}

}  // namespace tugline
