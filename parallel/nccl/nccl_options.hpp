// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "tugline/core/clock.hpp"
#include "tugline/parallel/nccl/device_api.hpp"

namespace tugline {

/// The stream on which the calling thread computes. Communication starts after what it holds, and wait() puts what comes next behind the
/// communication. Threads that use several communicators at once need streams of their own, or these wait for each other.
/// LibTorch: `[] { return at::cuda::getCurrentCUDAStream().stream(); }`. Null: the device's default stream.
using CurrentStream = std::function<Stream()>;

struct NcclOptions {
  int device = 0;                       ///< this rank's, see device_map.hpp
  CurrentStream current_stream;
  double init_seconds = 120;            ///< until all ranks are connected; split() and duplicate() too
  double operation_seconds = 600;       ///< for one operation, from when the caller's stream reaches it and those before it are done
  double look_seconds = 0.05;           ///< between two looks at what is under way
  const Clock* clock = &Clock::steady();
};

}  // namespace tugline
