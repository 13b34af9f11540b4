// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/async/job_ranges.hpp"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <optional>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/core/log.hpp"
#include "tugline/core/optim/optimizer.hpp"
#include "tugline/parallel/communicator.hpp"
#include "tugline/parallel/node/node_team.hpp"
#include "tugline/parallel/world.hpp"

namespace tugline {
namespace {

constexpr double kYieldSeconds = 2e-3;   // before a rank that looks at several ranges sleeps between its looks
constexpr std::chrono::microseconds kNap{200};

/// Hosts count from 0, in the order of their first ranks.
std::vector<int> numbers_of(const std::vector<std::string>& hosts, int ranks) {
  std::vector<int> numbers;
  std::vector<std::string> names;
  for (const std::string& host : hosts) {
    const auto found = std::find(names.begin(), names.end(), host);
    numbers.push_back(static_cast<int>(found - names.begin()));
    if (found == names.end()) names.push_back(host);
  }
  numbers.resize(static_cast<std::size_t>(ranks), 0);
  return numbers;
}

/// Neighbouring ranges stay together, so that what a host keeps of a flat is one piece; by their bytes, to each about as many.
std::vector<int> keepers_of(const Arena& arena, const std::vector<int>& hosts) {
  const auto bytes_of = [&](const Arena::Bucket& bucket) {
    return static_cast<double>(bucket.range.size()) * static_cast<double>(arena.flats()[static_cast<std::size_t>(bucket.range.buffer)].values.element_size());
  };
  double all = 0, before = 0;
  for (const auto& bucket : arena.buckets()) all += bytes_of(bucket);
  std::vector<int> keepers;
  for (const auto& bucket : arena.buckets()) {
    const double bytes = bytes_of(bucket);
    const auto number = static_cast<std::size_t>((before + bytes / 2) / all * static_cast<double>(hosts.size()));
    keepers.push_back(hosts[std::min(hosts.size() - 1, number)]);
    before += bytes;
  }
  return keepers;
}

}  // namespace

JobRanges::JobRanges(Communicator& control, Arena& arena, Optimizer& optimizer, const std::vector<at::Tensor>& common, const Schedule& schedule,
                     Options options, const Clock& clock)
    : control_(control), arena_(arena), optimizer_(optimizer), options_(std::move(options)), clock_(clock),
      host_of_(numbers_of(options_.hosts, control.size())), host_(host_of_[static_cast<std::size_t>(control.rank())]) {
  for (int rank = 0; rank < control.size(); ++rank) {
    if (host_of_[static_cast<std::size_t>(rank)] == std::ssize(first_ranks_)) first_ranks_.push_back(rank);
  }
  std::vector<int> keeping_hosts;
  serving_ranks_ = first_ranks_;
  for (int rank = control.size() - 1; rank >= control.size() - options_.servers; --rank) {
    const int host = host_of_[static_cast<std::size_t>(rank)];
    serving_ranks_[static_cast<std::size_t>(host)] = rank;
    if (std::find(keeping_hosts.begin(), keeping_hosts.end(), host) == keeping_hosts.end()) keeping_hosts.insert(keeping_hosts.begin(), host);
  }
  if (options_.servers == 0) {
    keeping_hosts.resize(first_ranks_.size());
    std::iota(keeping_hosts.begin(), keeping_hosts.end(), 0);
  }
  keepers_ = keepers_of(arena, keeping_hosts);
  const auto idle = std::find_if(keeping_hosts.begin(), keeping_hosts.end(), [&](int host) { return std::find(keepers_.begin(), keepers_.end(), host) == keepers_.end(); });
  if (options_.servers > 0 && idle != keeping_hosts.end()) {
    throw AgreedError(ExitCode::config, fmt::format("parallel.async.servers {}: rank {} would keep none of the {} ranges; use fewer servers, or smaller ranges "
                                                    "(parallel.bucket_mib)", options_.servers, serving_ranks_[static_cast<std::size_t>(*idle)], keepers_.size()));
  }
  here_.emplace(arena, optimizer, common, schedule,
                SharedRangesOptions{options_.node, host_of_, control.rank(), kept_ranges(), options_.pieces_per_step, options_.in_turns,
                                    options_.staleness_power, options_.clip_value}, clock);
  if (first_ranks_.size() > 1) serve();
}
JobRanges::~JobRanges() = default;

/// Per flat, from the first to the last.
std::vector<Range> JobRanges::kept_ranges() const {
  std::vector<Range> kept;
  for (std::size_t f = 0; f < arena_.flats().size(); ++f) kept.push_back({static_cast<int>(f), 0, 0});
  for (std::size_t r = 0; r < keepers_.size(); ++r) {
    const Range& range = arena_.buckets()[r].range;
    Range& all = kept[static_cast<std::size_t>(range.buffer)];
    if (!keeps(static_cast<int>(r))) continue;
    all.begin = all.size() == 0 ? range.begin : std::min(all.begin, range.begin);
    all.end = std::max(all.end, range.end);
  }
  return kept;
}

void JobRanges::serve() {
  channel_ = control_.duplicate();
  const int rank = control_.rank();
  std::vector<int> servers;
  for (const int keeper : keepers_) servers.push_back(keeper == host_ ? -1 : serving_ranks_[static_cast<std::size_t>(keeper)]);
  const auto values_of = [this](int range) {   // this rank's own
    const Range& whole = arena_.buckets()[static_cast<std::size_t>(range)].range;
    const at::Tensor flat = arena_.values(whole);
    return std::span(static_cast<std::byte*>(flat.data_ptr()), flat.nbytes());
  };
  far_.emplace(*channel_, std::move(servers), FarRanges::Memory{[this, rank](int range) { return here_->gradient(rank, range); }, values_of});
  if (host_ != 0) far_cursor_.emplace(*channel_, serving_ranks_.front());
  if (rank != serving_ranks_[static_cast<std::size_t>(host_)]) return;
  if (host_ != 0 && std::find(keepers_.begin(), keepers_.end(), host_) == keepers_.end()) return;   // nobody will ask
  RangeDesk::Options desk;
  desk.inbox = [this, keeper = here_->inboxes()](int worker, int range) { return here_->gradient(worker, range); };   // may outlive this in the end
  desk.values = [this](int range) { return here_->values(range); };
  desk.scripts = options_.scripts;
  if (host_ == 0) desk.cursor = {[this](int worker) { return here_->claim(worker); }, [this] { here_->close(); }, [this] { return here_->end_step(); }};
  desk.failed = [this, rank](const std::exception& error) {   // the others would wait for answers
    log::error("[rank {}] while it served parameters to other hosts: {}", rank, error.what());
    control_.abort(static_cast<int>(ExitCode::internal));
  };
  server_.emplace(*channel_, *here_, std::move(desk));
}

void JobRanges::run(GradientTurn& turn) {
  std::optional<double> waiting;   // since when, for other ranks of this host
  while (!turn.done()) {
    const bool moved = turn.advance();
    if (waiting && moved) here_->add_wait(clock_.seconds() - *std::exchange(waiting, std::nullopt));
    if (moved || turn.done()) continue;
    check();
    if (far_ && far_->busy()) {
      sched_yield();
    } else if (turn.must_poll()) {
      if (!waiting) waiting = clock_.seconds();
      if (clock_.seconds() - *waiting < kYieldSeconds) {
        sched_yield();
      } else {
        options_.node->look_around();
        std::this_thread::sleep_for(kNap);
      }
    } else {
      const auto [range, version] = turn.blocked_on();
      here_->wait_for(range, version);
    }
  }
}

std::uint32_t JobRanges::updates() {
  const auto kept = std::find(keepers_.begin(), keepers_.end(), host_);
  return LockedRange(*here_, static_cast<int>(kept - keepers_.begin())).version();
}

std::optional<std::int64_t> JobRanges::claim() { return far_cursor_ ? far_cursor_->claim() : here_->claim(control_.rank()); }
void JobRanges::close() { far_cursor_ ? far_cursor_->close() : here_->close(); }
std::int64_t JobRanges::end_step() { return far_cursor_ ? far_cursor_->end_step() : here_->end_step(); }

void JobRanges::publish(std::int64_t step, std::int64_t end) {
  if (control_.rank() == first_ranks_[static_cast<std::size_t>(host_)]) here_->publish();
  open(step, end);
}

void JobRanges::open(std::int64_t step, std::int64_t end) {
  if (control_.rank() == first_ranks_[static_cast<std::size_t>(host_)]) here_->open(step, end);
  control_.barrier();
}

void JobRanges::fetch(std::vector<std::uint32_t>& copies) {
  for (int range = 0; range < num_ranges(); ++range) {
    if (!keeps(range)) continue;
    here_->copy_out(range);
    copies[static_cast<std::size_t>(range)] = here_->ledger(range).version();
  }
  if (!far_) return;
  far_->fetch(copies);
  share_slots();
}

/// What is saved is the same on all hosts.
void JobRanges::share_slots() {
  Communicator* const lane = options_.node->rank() == 0 ? options_.node->lane() : nullptr;   // of the hosts' first ranks, in their order
  for (int range = 0; range < num_ranges() && lane != nullptr; ++range) {
    const Range& whole = arena_.buckets()[static_cast<std::size_t>(range)].range;
    for (auto& slot : optimizer_.slots()) {
      const at::Tensor part = slot.buffers[static_cast<std::size_t>(whole.buffer)].narrow(0, whole.begin, whole.size());
      lane->broadcast(part.data_ptr(), static_cast<std::int64_t>(part.nbytes()), keepers_[static_cast<std::size_t>(range)]);
    }
  }
  options_.node->barrier();
}

SharedRanges::Spent JobRanges::take_spent() {
  SharedRanges::Spent spent = here_->take_spent();
  if (far_) spent.bytes += far_->take_bytes();
  return spent;
}

}  // namespace tugline
