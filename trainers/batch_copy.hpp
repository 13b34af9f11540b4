// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include "tugline/core/data/loader.hpp"

namespace tugline {

/// Puts batches on a device by a stream of its own, so that they travel while the device still works on the step before. One thread.
class BatchCopy {
 public:
  /// On the host, batches stay where they are.
  explicit BatchCopy(c10::Device device);

  /// `batch` there, for what the calling thread's current stream is given from here on. Where it lies in pinned memory
  /// (LoaderOptions::pinned) the host goes on at once, and may drop it: LibTorch keeps that memory until it has been read.
  Batch operator()(const Batch& batch) const;

 private:
  c10::Device device_;
  std::optional<c10::Stream> stream_;
};

}  // namespace tugline
