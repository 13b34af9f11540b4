// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/dtype.hpp"

#include <array>
#include <string>

#include "tugline/core/error.hpp"

namespace tugline {
namespace {

struct Row {
  std::string_view name;
  std::size_t bytes;
};
constexpr std::array<Row, 8> kRows{{{"float32", 4}, {"float64", 8}, {"bfloat16", 2}, {"float16", 2},
                                    {"int64", 8}, {"int32", 4}, {"uint8", 1}, {"boolean", 1}}};

}  // namespace

std::size_t size_of(DType dtype) noexcept { return kRows[static_cast<std::size_t>(dtype)].bytes; }
std::string_view name_of(DType dtype) noexcept { return kRows[static_cast<std::size_t>(dtype)].name; }

DType dtype_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kRows.size(); ++i) {
    if (kRows[i].name == name) return static_cast<DType>(i);
  }
  throw Error("unknown element type '" + std::string(name) + "'");
}

}  // namespace tugline
