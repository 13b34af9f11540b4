// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include <ATen/core/Tensor.h>

#include "tugline/core/data/dataset.hpp"
#include "tugline/core/data/sample_order.hpp"

namespace tugline {

struct AugmentConfig;

/// Samples stacked: input [batch, ...input_shape], target [batch, ...target_shape]. Owns its memory.
struct Batch {
  at::Tensor input;
  at::Tensor target;
  std::int64_t size() const;
};

struct LoaderOptions {
  int threads = 1;                      ///< prefetch threads; 0 reads in take()
  std::int64_t prefetch_samples = 512;  ///< how many samples may lie ready
  bool augment = true;
  bool pinned = false;                  ///< batches lie in memory that the accelerator of this process reads by itself
};

/// Prefetches *samples* with threads of its own and assembles batches late, so a piece may change size from one step to the
/// next without reloading anything. An error in a thread is thrown by the take() that needed the sample.
/// All calls from one thread. The destructor stops and joins the threads.
class Loader {
 public:
  /// `augmentation` may be null; its randomness is a function of (seed, epoch, dataset index).
  Loader(std::shared_ptr<const Dataset> dataset, std::shared_ptr<const SampleOrder> order,
         const AugmentConfig* augmentation, std::uint64_t seed, LoaderOptions options);
  ~Loader();

  /// A hint: positions [begin, end) of `epoch` will be asked for soon. Never blocks; asking twice costs nothing.
  void expect(std::int64_t epoch, std::int64_t begin, std::int64_t end);
  /// The samples at positions [begin, end) of `epoch`, in that order. Reads what was not prefetched. begin == end gives an
  /// empty batch of the right shape.
  Batch take(std::int64_t epoch, std::int64_t begin, std::int64_t end);
  /// Seconds that take() has spent waiting for samples so far.
  double wait_seconds() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tugline
