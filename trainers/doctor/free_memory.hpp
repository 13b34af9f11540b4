// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>

namespace tugline {

/// Memory that this process may still take, in bytes: what the machine has free, or the limit of a control group (v1 or v2)
/// where that is less. Reads /proc and /sys below `root`; 0: unknown. Never throws.
std::int64_t free_memory_bytes(const std::filesystem::path& root = "/");

}  // namespace tugline
