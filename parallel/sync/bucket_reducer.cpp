// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/sync/bucket_reducer.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tugline/core/optim/clip.hpp"

#include "tugline/core/state/arena.hpp"
#include "tugline/core/trace_range.hpp"
#include "tugline/parallel/communicator.hpp"

namespace tugline {

BucketReducer::BucketReducer(Arena& arena, std::unique_ptr<BucketSum> sum, Communicator& control, int leaves, const Clock& clock)
    : arena_(arena),
      sum_(std::move(sum)),
      control_(control),
      order_(arena.buckets().size()),
      learned_(control.size() == 1),
      ready_(arena.buckets().size(), 0),
      clock_(clock),
      hooks_(arena, [this](int bucket) { on_ready(bucket); }, leaves) {
  std::iota(order_.begin(), order_.end(), 0);
}

void BucketReducer::arm(int backwards, BucketHooks::Before before) {
  std::fill(ready_.begin(), ready_.end(), 0);
  next_ = 0;
  completed_.clear();
  seconds_in_backward_ = 0;
  sum_->begin();
  hooks_.arm(backwards, before);
}

void BucketReducer::on_ready(int bucket) {
  const double start = clock_.seconds();
  ready_[static_cast<std::size_t>(bucket)] = 1;
  if (!learned_) completed_.push_back(bucket);
  launch_ready();
  sum_->progress();
  seconds_in_backward_ += clock_.seconds() - start;
}

void BucketReducer::launch_ready() {
  for (; next_ < order_.size() && ready_[static_cast<std::size_t>(order_[next_])]; ++next_) {
    const TraceRange range("bucket", order_[next_]);
    if (!squares_.empty()) note_squares(order_[next_]);
    sum_->start(order_[next_]);
  }
}

void BucketReducer::keep_squares() { squares_.resize(arena_.slots().size()); }

/// Before others add to it.
void BucketReducer::note_squares(int bucket) {
  for (const int slot : arena_.buckets()[static_cast<std::size_t>(bucket)].slots) {
    const auto index = static_cast<std::size_t>(slot);
    squares_[index] = squared_norm_there(arena_, arena_.slots()[index].range);
  }
}

std::vector<double> BucketReducer::own_norms() const {
  std::vector<double> norms;
  for (const at::Tensor& squares : squares_) norms.push_back(squares.defined() ? std::sqrt(squares.item<double>()) : 0);   // frozen ones have none
  return norms;
}

/// Registration says only roughly in which order a model's layers run.
void BucketReducer::learn_order() {
  learned_ = true;
  std::stable_partition(order_.begin(), order_.end(), [&](int bucket) {
    return std::find(completed_.begin(), completed_.end(), bucket) != completed_.end();
  });
  std::copy(completed_.begin(), completed_.end(), order_.begin());   // what backward did not reach comes last
  control_.broadcast(order_.data(), static_cast<std::int64_t>(order_.size() * sizeof(int)), 0);
}

bool BucketReducer::finite() const { return control_.size() == 1 ? hooks_.finite() : sum_->finite(); }

void BucketReducer::finish() {
  hooks_.finish();
  std::fill(ready_.begin(), ready_.end(), 1);
  launch_ready();
  const TraceRange range("wait for buckets");
  sum_->finish();
  if (!learned_) learn_order();
}

}  // namespace tugline
