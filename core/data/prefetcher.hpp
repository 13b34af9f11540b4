// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "tugline/core/data/augment.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/core/data/sample_order.hpp"

namespace tugline {

/// What a Loader does apart from tensors. Threads read expected positions in small blocks; take() copies from ready blocks
/// and reads the rest itself, so what it returns never depends on what was prefetched. All calls from one thread; the
/// destructor stops and joins the threads.
class Prefetcher {
 public:
  struct Options {
    int threads = 1;
    std::int64_t max_samples = 512;  ///< in all blocks together
  };

  Prefetcher(std::shared_ptr<const Dataset> dataset, std::shared_ptr<const SampleOrder> order, Augment augment,
             std::uint64_t seed, Options options);
  void expect(std::int64_t epoch, std::int64_t begin, std::int64_t end);
  /// Fills exactly end - begin samples. Blocks that lie before `end` are dropped: training only moves forward.
  void take(std::int64_t epoch, std::int64_t begin, std::int64_t end, std::span<std::byte> inputs,
            std::span<std::byte> targets);
  /// Samples that lie ready or are being read.
  std::int64_t pending_samples() const;

 private:
  struct Block;
  using Key = std::pair<std::int64_t, std::int64_t>;  // epoch, first position

  void work(const std::stop_token& stop);
  void fill(Block& block) const noexcept;
  void load(std::int64_t epoch, std::int64_t begin, std::int64_t end, std::span<std::byte> inputs,
            std::span<std::byte> targets) const;
  /// The block at `position`, ready to copy from; null when there is none. `covered_to`: where it, or the gap before the
  /// next, ends.
  std::shared_ptr<Block> ready_block(std::int64_t epoch, std::int64_t position, std::int64_t& covered_to);
  void drop_before(std::int64_t epoch, std::int64_t end);

  const std::shared_ptr<const Dataset> dataset_;
  const std::shared_ptr<const SampleOrder> order_;
  const Augment augment_;
  const std::uint64_t seed_;
  const Options options_;
  const std::size_t input_bytes_, target_bytes_;

  mutable std::mutex mutex_;
  std::condition_variable_any work_added_, block_done_;
  std::map<Key, std::shared_ptr<Block>> blocks_;  // never overlap
  std::deque<std::shared_ptr<Block>> queue_;      // not yet begun, in the order they were expected
  std::int64_t pending_samples_ = 0;
  std::vector<std::jthread> threads_;  // last: they use all of the above, and stop when they go
};

}  // namespace tugline
