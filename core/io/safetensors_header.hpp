// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tugline/core/dtype.hpp"

/// Private to core/io: the JSON header of a safetensors file,
///
///     {"__metadata__": {"format": "pt"}, "layers.0.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
namespace tugline::safetensors {

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;   // as the reference implementation has it
constexpr std::size_t kMaxDimensions = 64;

/// One tensor; its bytes are [begin, end) of the buffer after the header.
struct Entry {
  DType dtype = DType::float32;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;
};
using Entries = std::map<std::string, Entry>;
struct Header {
  Entries entries;
  std::map<std::string, std::string> metadata;
};

/// Throws DataError on anything but the object above. Spaces may follow it.
Header parse_header(std::string_view text);

/// The entries in the order of their bytes. Throws DataError unless each has the bytes that dtype and shape ask for, and together
/// they cover `buffer_bytes` without a hole and without overlap.
std::vector<const Entries::value_type*> in_order(const Entries& entries, std::uint64_t buffer_bytes);

/// Bytes of all elements; nothing where no file could hold that shape.
std::optional<std::uint64_t> num_bytes(DType dtype, const std::vector<std::int64_t>& shape);

/// The element types in the order in which the format stores them.
struct TypeName {
  DType dtype;
  std::string_view name;
};
constexpr std::array<TypeName, 8> kTypeNames{{{DType::int64, "I64"}, {DType::float64, "F64"}, {DType::float32, "F32"},
                                              {DType::int32, "I32"}, {DType::bfloat16, "BF16"}, {DType::float16, "F16"},
                                              {DType::uint8, "U8"}, {DType::boolean, "BOOL"}}};

/// A name for a sentence: in quotes, on one line, cut where it is very long.
std::string quoted(std::string_view name);
inline std::string tensor(std::string_view name) { return "tensor " + quoted(name); }

}  // namespace tugline::safetensors
