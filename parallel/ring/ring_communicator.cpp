// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/ring/ring_communicator.hpp"

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

RingCommunicator::RingCommunicator(std::unique_ptr<Communicator> inner, SegmentOptions options)
    : ForwardingCommunicator(std::move(inner)), options_(options), channel_(this->inner().duplicate()) {}

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
  if (op != ReduceOp::sum || is_16_bit_float(dtype)) return inner().start_all_reduce(data, count, dtype, op);
  return start_ring({data, count, dtype, nullptr});
}

std::unique_ptr<Communicator> RingCommunicator::wrap(std::unique_ptr<Communicator> part) {
  return std::make_unique<RingCommunicator>(std::move(part), options_);
}

}  // namespace tugline
