// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <vector>

#include "tugline/core/error.hpp"
#include "tugline/parallel/node/node_team.hpp"
#include "tugline/parallel/reduce.hpp"
#include "tugline/parallel/sync/bucket_reducer.hpp"
#include "tugline/parallel/sync/bucket_sum.hpp"

namespace tugline {
namespace {

class NodeSum final : public BucketSum {
 public:
  NodeSum(std::shared_ptr<NodeTeam> team, Arena& arena)
      : team_(std::move(team)), arena_(arena), filled_(team_->make_signals(filled_memory_)), summed_(team_->make_signals(summed_memory_)) {
    for (const auto& flat : arena.flats()) {
      everywhere_.push_back(flat.gradients.defined() ? team_->everywhere(flat.gradients.data_ptr()) : std::vector<std::byte*>());
      if (flat.gradients.defined() && everywhere_.back().empty()) throw Error("the gradients do not lie in memory that the ranks share");
    }
    write_back_ = arena.flats().empty() || !team_->is_common(arena.flats().front().values.data_ptr());
  }

  /// Others may still be reading this rank's gradients of the step before.
  void begin() override {
    team_->wait_for_all(summed_, step_);
    started_ = done_ = 0;
    finite_ = true;
  }
  void start(int /*bucket*/) override { raise(mine(filled_), first_of_step() + ++started_); }
  void progress() override {
    while (done_ < started_ && all_have_filled(done_)) sum(done_++);
  }
  void finish() override {
    while (done_ < started_) {
      team_->wait_for_all(filled_, first_of_step() + done_ + 1);
      sum(done_++);
    }
    raise(mine(summed_), ++step_);
    if (write_back_) team_->wait_for_all(summed_, step_);
  }
  bool sums_everywhere() const override { return write_back_; }
  bool finite() const override { return finite_; }
  std::int64_t bytes() const override {
    const std::int64_t size = team_->size();
    return gradient_bytes(arena_) * (size - 1) / size * (write_back_ ? 2 : 1);
  }

 private:
  Signal& mine(const std::vector<Signal*>& signals) const { return *signals[static_cast<std::size_t>(team_->rank())]; }
  /// Signals count buckets through all steps, modulo 2^32.
  std::uint32_t first_of_step() const { return step_ * static_cast<std::uint32_t>(arena_.buckets().size()); }
  bool all_have_filled(std::uint32_t bucket) const {
    return std::all_of(filled_.begin(), filled_.end(),
                       [&](const Signal* signal) { return has_reached(*signal, first_of_step() + bucket + 1); });
  }

  void sum(std::uint32_t bucket) {
    const Range range = slice_of(arena_.buckets()[bucket].range, team_->rank(), team_->size());
    if (range.size() == 0) return;
    const at::Tensor& gradients = arena_.flats()[static_cast<std::size_t>(range.buffer)].gradients;
    const auto offset = range.begin * static_cast<std::int64_t>(gradients.element_size());
    in_.clear();
    out_.clear();
    for (std::byte* const base : everywhere_[static_cast<std::size_t>(range.buffer)]) in_.push_back(base + offset);
    for (const void* const place : in_) {
      if (write_back_ || place == in_[static_cast<std::size_t>(team_->rank())]) out_.push_back(const_cast<void*>(place));
    }
    finite_ = reduce(in_, out_, range.size(), dtype_of(gradients), ReduceOp::sum) && finite_;
  }

  std::shared_ptr<NodeTeam> team_;
  Arena& arena_;
  std::shared_ptr<void> filled_memory_, summed_memory_;
  std::vector<Signal*> filled_;                       // per rank: buckets filled
  std::vector<Signal*> summed_;                       // per rank: steps whose slices are summed
  std::vector<std::vector<std::byte*>> everywhere_;   // per flat, per rank
  bool write_back_ = true, finite_ = true;
  std::uint32_t step_ = 0, started_ = 0, done_ = 0;
  std::vector<const void*> in_;
  std::vector<void*> out_;
};

}  // namespace

std::unique_ptr<BucketSum> make_node_sum(std::shared_ptr<NodeTeam> team, Arena& arena) {
  return std::make_unique<NodeSum>(std::move(team), arena);
}

}  // namespace tugline
