// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace tugline {

/// A double of a device, for tests: tensors on at::kHPU, a type that LibTorch knows and nobody here has. Its memory cannot be read by the
/// host (a pointer that is followed is a SIGSEGV, or EFAULT in a system call): only copies between devices open it. Operators are those of
/// the CPU, on copies, and done when they return; but a copy from pinned memory on another stream than the first, that does not block, is
/// made when an event of that stream is waited for, as late as may be. Backward runs on a thread of its own, as with any device.
///
/// Communication reaches it by a DeviceDouble that copies from and to that memory; ranks are processes, so parallel.backend mpi alone.
///
/// Its graphs (DeviceGraph) do operators again, one after the other; a number that the host waits for, or a copy from or to the host, cannot be
/// recorded.
///
/// Linking this file makes the device. No convolutions.
inline constexpr const char* kOpaqueDevice = "hpu";

/// How often the host has waited for the device so far: for an event, for a copy that blocks, or for a number (item()).
std::int64_t opaque_host_waits();

}  // namespace tugline
