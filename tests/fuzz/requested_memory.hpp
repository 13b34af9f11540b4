// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace tugline {

/// What operator new was asked for, in bytes, by any thread. Counted in a program that links requested_memory.cpp.
struct RequestedMemory {
  std::size_t largest = 0, all = 0;
};
RequestedMemory requested_memory();
void forget_requested_memory();

}  // namespace tugline
