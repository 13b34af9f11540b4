// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tugline {

/// Element types that Tugline stores, sends and sums. The names are the ones in checkpoints and messages.
enum class DType : std::uint8_t { float32, float64, bfloat16, float16, int64, int32, uint8, boolean };

std::size_t size_of(DType) noexcept;             ///< bytes per element
std::string_view name_of(DType) noexcept;        ///< "float32", ...
DType dtype_from_name(std::string_view);         ///< throws Error on an unknown name

}  // namespace tugline
