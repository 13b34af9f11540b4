// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>
#include <vector>

#include "tugline/core/error.hpp"
#include "tugline/parallel/communicator.hpp"
#include "tugline/parallel/node/node_memory.hpp"
#include "tugline/parallel/reduce.hpp"
#include "tugline/parallel/sync/bucket_sum.hpp"

namespace tugline {
namespace {

class NodeSum final : public BucketSum {
 public:
  NodeSum(std::shared_ptr<NodeTeam> team, Arena& arena, const ExchangeOptions& options)
      : team_(std::move(team)), arena_(arena), filled_(team_->make_signals()), summed_(team_->make_signals()) {
    for (const auto& flat : arena.flats()) {
      everywhere_.push_back(flat.gradients.defined() ? team_->everywhere(flat.gradients.data_ptr()) : std::vector<std::byte*>());
      if (flat.gradients.defined() && everywhere_.back().empty()) throw Error("the gradients do not lie in memory that the ranks share");
    }
    write_back_ = !has_common_values(team_.get(), arena);
    pairwise_ = options.pairwise;
    if (pairwise_ && team_->num_hosts() > 1) throw Error("ranks of several hosts are added up pairwise by message only");
    if (team_->lane() != nullptr) exchange_.emplace(*team_->lane(), arena, options);
  }

  /// Others may still be reading this rank's gradients of the step before.
  void begin() override {
    team_->wait_for_all(summed_, step_);
    started_.clear();
    added_ = spread_ = 0;
    exchanges_.clear();
    if (exchange_) exchange_->begin();
    finite_ = true;
  }
  void start(int bucket) override {
    started_.push_back(bucket);
    raise(mine(filled_), first_of_step() + static_cast<std::uint32_t>(started_.size()));
  }
  void progress() override {
    while (added_ < started_.size() && all_have_filled(added_)) add(started_[added_++]);
    while (spread_ < exchanges_.size() && exchanges_[spread_].work->test()) spread(exchanges_[spread_++].bucket);
  }
  void finish() override {
    while (added_ < started_.size()) {
      team_->wait_for_all(filled_, first_of_step() + static_cast<std::uint32_t>(added_) + 1);
      add(started_[added_++]);
    }
    for (; spread_ < exchanges_.size(); ++spread_) {
      exchanges_[spread_].work->wait();
      spread(exchanges_[spread_].bucket);
    }
    raise(mine(summed_), ++step_);
    if (write_back_) team_->wait_for_all(summed_, step_);
  }

  Range held(int bucket) const override {
    const Range& whole = arena_.buckets()[static_cast<std::size_t>(bucket)].range;
    return write_back_ ? whole : own(whole);
  }
  Range watched(int bucket) const override {
    const Range slice = own(arena_.buckets()[static_cast<std::size_t>(bucket)].range);
    return exchange_ ? slice_of(slice, team_->lane()->rank(), team_->num_hosts()) : slice;
  }
  bool finite() const override { return finite_; }
  void forget() override {
    if (exchange_) exchange_->forget();
  }
  std::vector<Residual> residuals() const override {
    std::vector<Residual> all;
    for (const auto& bucket : arena_.buckets()) {
      const auto residual = exchange_ ? exchange_->residual(own(bucket.range)) : std::nullopt;
      if (residual) all.push_back(*residual);
    }
    return all;
  }
  std::int64_t bytes() const override {
    std::int64_t bytes = 0;
    for (const auto& bucket : arena_.buckets()) {
      const auto element = static_cast<std::int64_t>(arena_.flats()[static_cast<std::size_t>(bucket.range.buffer)].gradients.element_size());
      bytes += (team_->size() - 1) * bucket.range.size() * element / team_->size() * (write_back_ ? 2 : 1);
      if (exchange_) bytes += exchange_->bytes(own(bucket.range));
    }
    return bytes;
  }

 private:
  Signal& mine(const std::vector<Signal*>& signals) const { return *signals[static_cast<std::size_t>(team_->rank())]; }
  /// Signals count buckets through all steps, modulo 2^32.
  std::uint32_t first_of_step() const { return step_ * static_cast<std::uint32_t>(arena_.buckets().size()); }
  /// The first `index` + 1 buckets that have started.
  bool all_have_filled(std::size_t index) const {
    const std::uint32_t value = first_of_step() + static_cast<std::uint32_t>(index) + 1;
    return std::all_of(filled_.begin(), filled_.end(), [&](const Signal* signal) { return has_reached(*signal, value); });
  }
  /// What this rank adds up: its lane's part, nothing beyond the last lane.
  Range own(const Range& range) const {
    const int lane = std::min(team_->rank(), team_->lanes());
    return lane < team_->lanes() ? slice_of(range, lane, team_->lanes()) : Range{range.buffer, range.end, range.end};
  }

  /// The sum over this host, and on it goes to the others.
  void add(int bucket) {
    const Range range = own(arena_.buckets()[static_cast<std::size_t>(bucket)].range);
    if (range.size() == 0) return;
    places_of(range);
    std::byte* const here = places_[static_cast<std::size_t>(team_->rank())];
    in_.assign(places_.begin(), places_.end());
    out_.clear();
    for (std::byte* const place : places_) {
      if (place == here || (write_back_ && !exchange_)) out_.push_back(place);
    }
    const DType dtype = dtype_of(arena_.flats()[static_cast<std::size_t>(range.buffer)].gradients);
    if (pairwise_) {
      finite_ = sum_pairwise(in_, out_, range.size(), dtype) && finite_;
    } else if (in_.size() > 1 || !exchange_) {
      finite_ = reduce(in_, out_, range.size(), dtype, ReduceOp::sum) && finite_;
    }
    if (exchange_) exchanges_.push_back({bucket, exchange_->start(range)});
  }

  /// The sum over all hosts has arrived, here alone.
  void spread(int bucket) {
    finite_ = all_finite(arena_, watched(bucket)) && finite_;
    if (!write_back_) return;
    const Range range = own(arena_.buckets()[static_cast<std::size_t>(bucket)].range);
    places_of(range);
    const std::byte* const here = places_[static_cast<std::size_t>(team_->rank())];
    const auto bytes = static_cast<std::size_t>(range.size()) * arena_.flats()[static_cast<std::size_t>(range.buffer)].gradients.element_size();
    for (std::byte* const place : places_) {
      if (place != here) std::copy_n(here, bytes, place);
    }
  }

  /// Into places_: where each rank of the host has `range`.
  void places_of(const Range& range) {
    const auto buffer = static_cast<std::size_t>(range.buffer);
    const auto offset = range.begin * static_cast<std::int64_t>(arena_.flats()[buffer].gradients.element_size());
    places_.clear();
    for (std::byte* const base : everywhere_[buffer]) places_.push_back(base + offset);
  }

  std::shared_ptr<NodeTeam> team_;
  Arena& arena_;
  std::vector<Signal*> filled_;                       // per rank: buckets filled
  std::vector<Signal*> summed_;                       // per rank: steps whose slices are summed
  std::vector<std::vector<std::byte*>> everywhere_;   // per flat, per rank
  std::optional<Exchange> exchange_;                  // with the other hosts
  bool write_back_ = true, pairwise_ = false, finite_ = true;
  std::uint32_t step_ = 0;
  std::vector<int> started_;                          // buckets of this step, in the order that all ranks have in common
  std::size_t added_ = 0;                             // how many of them are summed over this host
  struct UnderWay {
    int bucket = 0;
    std::unique_ptr<Work> work;
  };
  std::vector<UnderWay> exchanges_;                   // of this step, in order
  std::size_t spread_ = 0;                            // how many of them have arrived and been dealt with
  std::vector<std::byte*> places_;
  std::vector<const void*> in_;
  std::vector<void*> out_;
};

}  // namespace

std::unique_ptr<BucketSum> make_node_sum(std::shared_ptr<NodeTeam> team, Arena& arena, const ExchangeOptions& options) {
  return std::make_unique<NodeSum>(std::move(team), arena, options);
}

}  // namespace tugline
