// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/checkpoint_saver.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <optional>
#include <thread>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/core/atomic_file.hpp"
#include "tugline/core/clock.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/io/user_block.hpp"
#include "tugline/core/log.hpp"
#include "tugline/parallel/communicator.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/fault_injector.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;

constexpr int kSlice = 1;   // tag: kWritten and the slice's digest, or kFailed and why
constexpr char kWritten = '+', kFailed = '-';

/// The first rank of each host.
std::vector<int> first_ranks(const World& world) {
  std::vector<int> ranks;
  for (int rank = 0; rank < world.size(); ++rank) {
    const auto& hosts = world.hosts();
    if (std::find(hosts.begin(), hosts.begin() + rank, hosts[static_cast<std::size_t>(rank)]) == hosts.begin() + rank) ranks.push_back(rank);
  }
  return ranks;
}

std::int64_t bytes_of(const TrainState& state) {
  std::int64_t bytes = 0;
  for (const auto& flat : state.parameters.flats()) bytes += static_cast<std::int64_t>(flat.values.nbytes());
  for (const auto& slot : state.slots) {
    for (const auto& flat : slot.buffers) bytes += static_cast<std::int64_t>(flat.nbytes());
  }
  return bytes;
}

/// All ranks see what rank 0 has written there.
bool is_shared(World& world, const fs::path& folder) {
  const fs::path probe = folder / fmt::format("step-probe.{}.tmp", world.control().broadcast(std::to_string(::getpid()), 0));
  agree(world.control(), [&] {
    if (world.rank() != 0) return;
    fs::create_directories(folder);
    write_file_atomically(probe, "");
  });
  std::error_code error;
  const bool seen = world.control().all_reduce(fs::exists(probe, error) ? 0.0 : 1.0) == 0;
  if (world.rank() == 0) fs::remove(probe, error);
  return seen;
}

/// Polls: MPI's own waiting would take a core from training for as long as a disk takes.
std::string receive_text(Communicator& channel, int from) {
  std::optional<Communicator::Incoming> incoming;
  while (!(incoming = channel.probe(from, kSlice))) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::string text(static_cast<std::size_t>(incoming->bytes), ' ');
  channel.receive(text.data(), incoming->bytes, from, kSlice);
  return text;
}

}  // namespace

CheckpointWriters choose_writers(World& world, const CheckpointConfig& config, const TrainState& state, const fs::path& folder) {
  CheckpointWriters writers;
  const bool residuals = world.control().all_reduce(state.residuals.empty() ? 0.0 : 1.0) > 0;
  if (config.slice_mib <= 0 || (world.num_hosts() == 1 && !residuals)) return writers;
  std::vector<int> ranks = first_ranks(world);
  if (residuals) {
    ranks.resize(static_cast<std::size_t>(world.size()));
    std::iota(ranks.begin(), ranks.end(), 0);
  } else {
    const double slices = static_cast<double>(bytes_of(state)) / (config.slice_mib * (1 << 20));
    ranks.resize(std::min(ranks.size(), static_cast<std::size_t>(std::max(1.0, std::ceil(slices)))));
  }
  if (ranks.size() == 1) return writers;
  if (!is_shared(world, folder)) {
    if (world.rank() == 0) {
      log::warn("{}: other ranks do not see what rank 0 writes there, so it writes all of a checkpoint{}", folder.string(),
                residuals ? ", without what rounding left over (parallel.wire: bfloat16)" : "");
    }
    return writers;
  }
  writers.ranks = std::move(ranks);
  writers.channel = world.control().duplicate();
  return writers;
}

CheckpointSaver::CheckpointSaver(int rank, CheckpointWriters writers, CheckpointFolder folder, const CheckpointConfig& config, RunLog& log,
                                 FaultInjector* faults)
    : writers_(std::move(writers)), folder_(std::move(folder)), config_(config), log_(log), faults_(faults) {
  const auto mine = std::find(writers_.ranks.begin(), writers_.ranks.end(), rank);
  slice_.count = static_cast<std::int64_t>(writers_.ranks.size());
  slice_.number = mine == writers_.ranks.end() ? 0 : 1 + (mine - writers_.ranks.begin());
}

void CheckpointSaver::prepare(const TrainState& state, const std::string& config_yaml, Mark mark) {
  settle();
  progress_ = state.progress;
  mark_ = mark;
  // Slices of this step that somebody else left, and a damaged file that names them.
  if (slice_.number == 1 && slice_.count > 1 && mark.write) folder_.discard_step(progress_.step);
  if (writes() && mark.write) snapshot_.take(state, config_yaml, slice_);
}

void CheckpointSaver::start() {
  if (writes()) job_.start([this] { write(); });
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

/// On the job's thread, as what follows.
void CheckpointSaver::write() {
  if (mark_.write) {
    const double start = Clock::steady().seconds();
    write_files();
    written_ = {folder_.path_of(progress_.step), progress_.step, Clock::steady().seconds() - start};
  }
  if (slice_.number != 1) return;
  if (mark_.best) folder_.mark_best(progress_.step, progress_.best_metric, progress_.best_value);
  folder_.prune(config_.keep_last, config_.keep_best, mark_.write ? progress_.step : -1);
}

/// Returns the digest.
std::string CheckpointSaver::write_own(const fs::path& file) {
  try {
    if (faults_ != nullptr) faults_->before_save(progress_.step);
  } catch (const IoError& error) {
    throw CheckpointError(fmt::format("cannot write {}: {}", file.string(), error.what()));
  }
  return write_checkpoint(file, snapshot_.content());
}

void CheckpointSaver::write_files() {
  const fs::path file = folder_.path_of(progress_.step);
  if (slice_.count == 1) {
    write_own(file);
    return;
  }
  std::string outcome;
  try {
    outcome = kWritten + write_own(slice_path(file, slice_.number, slice_.count));
  } catch (const std::exception& error) {   // to be told to the first, who waits for all
    outcome = kFailed + std::string(error.what());
  }
  Communicator& channel = *writers_.channel;
  if (slice_.number != 1) return channel.send(outcome.data(), static_cast<std::int64_t>(outcome.size()), writers_.ranks.front(), kSlice);
  std::vector<Manifest::File> slices;
  std::string failure;
  for (const int rank : writers_.ranks) {
    if (!slices.empty()) outcome = receive_text(channel, rank);
    const auto number = static_cast<std::int64_t>(slices.size()) + 1;
    slices.push_back({slice_path(file, number, slice_.count).filename().string(), outcome.substr(1)});
    if (outcome.front() == kFailed && failure.empty()) failure = fmt::format("rank {}: {}", rank, outcome.substr(1));
  }
  if (!failure.empty()) throw CheckpointError(failure);
  for (std::size_t i = 0; i < slices.size(); ++i) {
    const fs::path slice = file.parent_path() / slices[i].name;
    if (stated_digest(slice) != slices[i].digest) {
      throw CheckpointError(fmt::format("{}: rank {} has written something else there than rank 0 sees; checkpoint.slice_mib: 0 lets rank 0 "
                                        "write everything", slice.string(), writers_.ranks[i]));
    }
  }
  write_checkpoint(file, snapshot_.cover(slices));
}

}  // namespace tugline
