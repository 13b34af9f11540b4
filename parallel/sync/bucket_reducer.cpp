// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/sync/bucket_reducer.hpp"

#include <algorithm>

#include "tugline/core/state/arena.hpp"

namespace tugline {

BucketReducer::BucketReducer(Arena& arena, std::unique_ptr<BucketSum> sum, int ranks, int leaves)
    : sum_(std::move(sum)),
      alone_(ranks == 1),
      ready_(arena.buckets().size(), 0),
      hooks_(arena, [this](int bucket) { on_ready(bucket); }, leaves) {}

void BucketReducer::arm(int backwards, BucketHooks::Before before) {
  std::fill(ready_.begin(), ready_.end(), 0);
  next_ = 0;
  sum_->begin();
  hooks_.arm(backwards, before);
}

void BucketReducer::on_ready(int bucket) {
  ready_[static_cast<std::size_t>(bucket)] = 1;
  launch_ready();
  sum_->progress();
}

void BucketReducer::launch_ready() {
  while (next_ < ready_.size() && ready_[next_]) sum_->start(static_cast<int>(next_++));
}

void BucketReducer::finish() {
  hooks_.finish();
  std::fill(ready_.begin(), ready_.end(), 1);
  launch_ready();
  sum_->finish();
}

}  // namespace tugline
