// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <vector>

#include "tugline/core/error.hpp"
#include "tugline/core/finite.hpp"
#include "tugline/parallel/communicator.hpp"
#include "tugline/parallel/sync/bucket_reducer.hpp"
#include "tugline/parallel/sync/bucket_sum.hpp"

namespace tugline {
namespace {

class MessageSum final : public BucketSum {
 public:
  MessageSum(Communicator& communicator, Arena& arena) : communicator_(communicator), arena_(arena) {}

  void begin() override { under_way_.clear(); }
  void start(int bucket) override {
    if (communicator_.size() == 1) return;
    at::Tensor gradients = arena_.gradients(arena_.buckets()[static_cast<std::size_t>(bucket)].range);
    under_way_.push_back(
        communicator_.start_all_reduce(gradients.data_ptr(), gradients.numel(), dtype_of(gradients), ReduceOp::sum));
  }
  /// MPI moves data only inside its calls: give it a chance each time backward hands us the thread.
  void progress() override {
    for (auto& work : under_way_) work->test();
  }
  void finish() override {
    for (auto& work : under_way_) work->wait();
    under_way_.clear();
  }
  bool sums_everywhere() const override { return true; }
  bool finite() const override {
    for (const auto& bucket : arena_.buckets()) {
      const at::Tensor slice = arena_.gradients(slice_of(bucket.range, communicator_.rank(), communicator_.size()));
      if (!all_finite(slice.const_data_ptr(), slice.numel(), dtype_of(slice))) return false;
    }
    return true;
  }
  std::int64_t bytes() const override { return communicator_.size() == 1 ? 0 : gradient_bytes(arena_); }

 private:
  Communicator& communicator_;
  Arena& arena_;
  std::vector<std::unique_ptr<Work>> under_way_;
};

}  // namespace

Range slice_of(const Range& range, int rank, int size) {
  constexpr std::int64_t kUnit = 32;   // elements: 64 bytes of the smallest dtype
  const std::int64_t units = (range.size() + kUnit - 1) / kUnit;
  const auto cut = [&](std::int64_t index) { return std::min(range.end, range.begin + kUnit * (units * index / size)); };
  return {range.buffer, cut(rank), cut(rank + 1)};
}

std::int64_t gradient_bytes(const Arena& arena) {
  std::int64_t bytes = 0;
  for (const auto& bucket : arena.buckets()) {
    bytes += bucket.range.size() * arena.flats()[static_cast<std::size_t>(bucket.range.buffer)].gradients.element_size();
  }
  return bytes;
}

std::unique_ptr<BucketSum> make_message_sum(Communicator& communicator, Arena& arena) {
  return std::make_unique<MessageSum>(communicator, arena);
}

}  // namespace tugline
