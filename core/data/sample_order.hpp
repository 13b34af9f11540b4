// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace tugline {

/// Half-open range of positions in one epoch's sample order: what a rank computes next.
struct Piece {
  std::int64_t epoch = 0;
  std::int64_t step = 0;          ///< global step, counted over all epochs from 0
  std::int64_t global_begin = 0;  ///< this step's global batch is order[global_begin, global_end)
  std::int64_t global_end = 0;
  std::int64_t begin = 0;  ///< this rank's share of it; may be empty
  std::int64_t end = 0;

  std::int64_t size() const { return end - begin; }
  std::int64_t global_size() const { return global_end - global_begin; }
};

/// The order of samples: a pure function of (seed, epoch), never of the world size. Position p of epoch e is dataset index
/// at(e, p). Keeps the two most recent epochs' permutations in memory (8 bytes a sample). Thread-safe.
class SampleOrder {
 public:
  SampleOrder(std::int64_t num_samples, std::uint64_t seed, bool shuffle);
  ~SampleOrder();
  std::int64_t size() const { return num_samples_; }
  /// The whole order of an epoch; stays valid as long as the pointer is held.
  std::shared_ptr<const std::vector<std::int64_t>> epoch(std::int64_t epoch) const;

 private:
  struct Cache;
  std::int64_t num_samples_;
  std::uint64_t seed_;
  bool shuffle_;
  std::unique_ptr<Cache> cache_;
};

}  // namespace tugline
