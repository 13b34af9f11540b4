// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "tugline/parallel/forwarding_communicator.hpp"
#include "tugline/parallel/ring/progress_thread.hpp"
#include "tugline/parallel/ring/ring_sum.hpp"

namespace tugline {

/// The ranks of another communicator, whose sums go around a ring while the ranks compute; everything else (max, min, 16-bit sums,
/// broadcast, ...) is done by that communicator. Any number of sums may be under way. Thread level as of any Communicator.
class RingCommunicator final : public ForwardingCommunicator {
 public:
  /// Collective. Neighbours are ranks r and r + 1: ranks of one host should follow one another.
  explicit RingCommunicator(std::unique_ptr<Communicator> inner, SegmentOptions options = {});

  /// The sum of float32 that travels as bfloat16; `residual`, `count` floats that begin as zero, is kept from one sum of the same data to
  /// the next. All ranks get the same values, each representable in bfloat16.
  std::unique_ptr<Work> start_rounded_sum(float* data, std::int64_t count, float* residual);

  std::string backend() const override { return "ring over " + ForwardingCommunicator::backend(); }
  bool takes_device_memory() const override { return false; }   // a ring adds up by itself
  std::unique_ptr<Work> start_all_reduce(void* data, std::int64_t count, DType dtype, ReduceOp op) override;

 private:
  std::unique_ptr<Communicator> wrap(std::unique_ptr<Communicator> part) override;
  std::unique_ptr<Work> start_ring(const RingData& data);

  SegmentOptions options_;
  std::unique_ptr<Communicator> channel_;   // the ring's messages; used by whoever advances them
  int next_tag_ = 0;
  std::shared_ptr<ScratchPool> scratch_ = std::make_shared<ScratchPool>();
  ProgressThread progress_;
};

}  // namespace tugline
