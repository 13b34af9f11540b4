// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/ring/ring_communicator.hpp"

#include <cstdlib>
#include <utility>

namespace tugline {
namespace {

constexpr int kTags = 1 << 14;   // more than there will ever be sums under way

/// Of one rank alone.
class DoneWork final : public Work {
 public:
  bool test() override { return true; }
  void wait() override {}
};

bool is_16_bit_float(DType dtype) { return dtype == DType::bfloat16 || dtype == DType::float16; }

}  // namespace

RingCommunicator::RingCommunicator(std::unique_ptr<Communicator> inner, RingOptions options)
    : options_(options), inner_(std::move(inner)), channel_(inner_->duplicate()) {}

std::unique_ptr<Work> RingCommunicator::start_ring(const RingData& data) {
  if (size() == 1) return std::make_unique<DoneWork>();
  const int tag = next_tag_;
  next_tag_ = (next_tag_ + 1) % kTags;
  return progress_.start(std::make_shared<RingSum>(*channel_, tag, data, options_, scratch_));
}

std::unique_ptr<Work> RingCommunicator::start_rounded_sum(float* data, std::int64_t count, float* residual) {
  return start_ring({data, count, DType::float32, residual});
}

std::unique_ptr<Work> RingCommunicator::start_all_reduce(void* data, std::int64_t count, DType dtype, ReduceOp op) {
  // 16-bit sums would be rounded at each hop.
  if (op != ReduceOp::sum || is_16_bit_float(dtype)) return inner_->start_all_reduce(data, count, dtype, op);
  return start_ring({data, count, dtype, nullptr});
}

std::unique_ptr<Work> RingCommunicator::start_broadcast(void* data, std::int64_t bytes, int root) {
  return inner_->start_broadcast(data, bytes, root);
}

std::unique_ptr<Work> RingCommunicator::start_all_gather(const void* mine, std::int64_t bytes, void* all) {
  return inner_->start_all_gather(mine, bytes, all);
}

std::unique_ptr<Work> RingCommunicator::start_send(const void* data, std::int64_t bytes, int to, int tag) {
  return inner_->start_send(data, bytes, to, tag);
}

std::unique_ptr<Work> RingCommunicator::start_receive(void* data, std::int64_t bytes, int from, int tag) {
  return inner_->start_receive(data, bytes, from, tag);
}

void RingCommunicator::abort(int exit_code) noexcept {
  inner_->abort(exit_code);
  std::_Exit(exit_code);   // for compilers that do not see that the line above is the last
}

std::unique_ptr<Communicator> RingCommunicator::split(int color, int key) {
  auto part = inner_->split(color, key);
  return part ? std::make_unique<RingCommunicator>(std::move(part), options_) : nullptr;
}

std::unique_ptr<Communicator> RingCommunicator::duplicate() {
  return std::make_unique<RingCommunicator>(inner_->duplicate(), options_);
}

}  // namespace tugline
