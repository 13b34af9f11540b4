// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "tugline/parallel/communicator.hpp"
#include "tugline/parallel/ring/progress_thread.hpp"
#include "tugline/parallel/ring/ring_sum.hpp"

namespace tugline {

/// The ranks of another communicator, whose sums go around a ring while the ranks compute; everything else (max, min, 16-bit sums,
/// broadcast, ...) is done by that communicator. Any number of sums may be under way. Thread level as of any Communicator.
class RingCommunicator final : public Communicator {
 public:
  /// Collective. Neighbours are ranks r and r + 1: ranks of one host should follow one another.
  explicit RingCommunicator(std::unique_ptr<Communicator> inner, RingOptions options = {});

  /// The sum of float32 that travels as bfloat16; `residual`, `count` floats that begin as zero, is kept from one sum of the same data to
  /// the next. All ranks get the same values, each representable in bfloat16.
  std::unique_ptr<Work> start_rounded_sum(float* data, std::int64_t count, float* residual);

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::string backend() const override { return "ring over " + inner_->backend(); }
  std::unique_ptr<Work> start_all_reduce(void* data, std::int64_t count, DType dtype, ReduceOp op) override;
  std::unique_ptr<Work> start_broadcast(void* data, std::int64_t bytes, int root) override;
  std::unique_ptr<Work> start_all_gather(const void* mine, std::int64_t bytes, void* all) override;
  void barrier() override { inner_->barrier(); }
  std::unique_ptr<Work> start_send(const void* data, std::int64_t bytes, int to, int tag) override;
  std::unique_ptr<Work> start_receive(void* data, std::int64_t bytes, int from, int tag) override;
  std::optional<Incoming> probe(int from, int tag) override { return inner_->probe(from, tag); }
  std::unique_ptr<Communicator> split(int color, int key) override;
  std::unique_ptr<Communicator> duplicate() override;
  [[noreturn]] void abort(int exit_code) noexcept override;

 private:
  std::unique_ptr<Work> start_ring(const RingData& data);

  RingOptions options_;
  std::unique_ptr<Communicator> inner_;
  std::unique_ptr<Communicator> channel_;   // the ring's messages; used by whoever advances them
  int next_tag_ = 0;
  std::shared_ptr<ScratchPool> scratch_ = std::make_shared<ScratchPool>();
  ProgressThread progress_;
};

}  // namespace tugline
