// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/sync/bucket_reducer.hpp"

#include <algorithm>

#include "tugline/core/error.hpp"
#include "tugline/core/state/arena.hpp"

namespace tugline {

BucketReducer::BucketReducer(Communicator& communicator, Arena& arena)
    : communicator_(communicator),
      arena_(arena),
      ready_(arena.buckets().size(), 0),
      hooks_(arena, [this](int bucket) { on_ready(bucket); }) {}

void BucketReducer::arm(int backwards) {
  std::fill(ready_.begin(), ready_.end(), 0);
  next_ = 0;
  under_way_.clear();
  hooks_.arm(backwards);
}

void BucketReducer::on_ready(int bucket) {
  ready_[static_cast<std::size_t>(bucket)] = 1;
  launch_ready();
  // MPI moves data only inside its calls: give it a chance each time backward hands us the thread.
  for (auto& work : under_way_) work->test();
}

void BucketReducer::launch_ready() {
  while (next_ < ready_.size() && ready_[next_]) {
    const Range& range = arena_.buckets()[next_++].range;
    if (communicator_.size() == 1) continue;
    at::Tensor gradients = arena_.gradients(range);
    under_way_.push_back(
        communicator_.start_all_reduce(gradients.data_ptr(), range.size(), dtype_of(gradients), ReduceOp::sum));
  }
}

void BucketReducer::finish() {
  std::fill(ready_.begin(), ready_.end(), 1);
  launch_ready();
  for (auto& work : under_way_) work->wait();
  under_way_.clear();
}

std::int64_t BucketReducer::bytes() const {
  if (communicator_.size() == 1) return 0;
  std::int64_t bytes = 0;
  for (const auto& bucket : arena_.buckets()) {
    bytes += bucket.range.size() * arena_.flats()[static_cast<std::size_t>(bucket.range.buffer)].gradients.element_size();
  }
  return bytes;
}

DType dtype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat: return DType::float32;
    case at::kDouble: return DType::float64;
    case at::kBFloat16: return DType::bfloat16;
    case at::kHalf: return DType::float16;
    case at::kLong: return DType::int64;
    case at::kInt: return DType::int32;
    default: throw Error("tensors of type " + std::string(c10::toString(tensor.scalar_type())) + " cannot be summed over ranks");
  }
}

}  // namespace tugline
