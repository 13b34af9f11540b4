// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/io/safetensors.hpp"

#include <algorithm>
#include <bit>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <cstring>
#include <fstream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tugline/core/atomic_file.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/io/safetensors_header.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using namespace safetensors;

static_assert(std::endian::native == std::endian::little);   // as the format
constexpr std::size_t kLengthBytes = 8, kAlignment = 8;

std::size_t rank_of(DType dtype) {
  return static_cast<std::size_t>(std::ranges::find(kTypeNames, dtype, &TypeName::dtype) - kTypeNames.begin());
}

std::uint64_t bytes_of(const ArrayView& array) {
  const auto bytes = num_bytes(array.dtype, array.shape);
  if (!bytes) throw DataError(tensor(array.path) + " has a shape that no file can hold");
  return *bytes;
}

/// The header's text for arrays in this order, padded so that the buffer is aligned.
std::string header_of(const std::vector<ArrayView>& arrays, const std::map<std::string, std::string>& metadata) {
  std::string text = "{";
  if (!metadata.empty()) {
    json::object object;
    for (const auto& [key, value] : metadata) object[key] = value;
    text += "\"__metadata__\":" + json::serialize(object);
  }
  std::uint64_t begin = 0;
  for (const ArrayView& array : arrays) {
    const std::uint64_t end = begin + bytes_of(array);
    text += fmt::format(R"({}{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", text.size() > 1 ? "," : "",
                        json::serialize(json::string_view(array.path)), kTypeNames[rank_of(array.dtype)].name,
                        fmt::join(array.shape, ","), begin, end);
    begin = end;
  }
  text += '}';
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  // Whatever the reader would refuse is refused here, by the reader.
  if (text.size() > kMaxHeaderBytes) throw DataError(fmt::format("its header would have more than {} bytes", kMaxHeaderBytes));
  in_order(parse_header(text).entries, begin);
  return text;
}

std::string file_of(std::vector<ArrayView> arrays, const std::map<std::string, std::string>& metadata) {
  std::ranges::sort(arrays, {}, [](const ArrayView& array) { return std::pair(rank_of(array.dtype), array.path); });
  const std::string header = header_of(arrays, metadata);
  const std::uint64_t length = header.size();
  std::uint64_t size = kLengthBytes + length;
  for (const ArrayView& array : arrays) size += bytes_of(array);
  std::string file;
  file.reserve(size);
  file.append(reinterpret_cast<const char*>(&length), sizeof length).append(header);
  for (const ArrayView& array : arrays) {
    if (const std::uint64_t bytes = bytes_of(array); bytes > 0) file.append(static_cast<const char*>(array.data), bytes);
  }
  return file;
}

/// Everything is there, unless the file shrinks meanwhile.
void read_exactly(std::istream& in, void* to, std::uint64_t bytes) {
  in.read(static_cast<char*>(to), static_cast<std::streamsize>(bytes));
  if (in.gcount() != static_cast<std::streamsize>(bytes)) throw DataError("cannot be read to its end");
}

std::string read_header(std::istream& in, std::uint64_t file_bytes) {
  if (file_bytes < kLengthBytes) throw DataError("not a safetensors file, or cut off: shorter than 8 bytes");
  std::uint64_t length = 0;
  read_exactly(in, &length, sizeof length);
  if (length > kMaxHeaderBytes) {
    throw DataError(fmt::format("not a safetensors file: a header of {} bytes, of at most {}", length, kMaxHeaderBytes));
  }
  if (length > file_bytes - kLengthBytes) {
    throw DataError(fmt::format("not a safetensors file, or cut off: a header of {} bytes in a file of {}", length, file_bytes));
  }
  std::string header(length, '\0');
  read_exactly(in, header.data(), length);
  return header;
}

Array read_array(std::istream& in, std::string_view name, const Entry& entry) {
  Array array{entry.dtype, entry.shape, std::vector<std::byte>(entry.end - entry.begin)};
  read_exactly(in, array.data.data(), array.data.size());
  const auto is_boolean = [](std::byte value) { return value <= std::byte{1}; };
  if (array.dtype == DType::boolean && !std::ranges::all_of(array.data, is_boolean)) {
    throw DataError(tensor(name) + " has a BOOL that is neither 0 nor 1");
  }
  return array;
}

}  // namespace

void write_safetensors(const fs::path& file, const std::vector<ArrayView>& arrays,
                       const std::map<std::string, std::string>& metadata) {
  try {
    write_file_atomically(file, file_of(arrays, metadata));
  } catch (const DataError& error) {
    throw CheckpointError(fmt::format("cannot write {}: {}", file.string(), error.what()));
  } catch (const IoError& error) {
    throw CheckpointError(error.what());
  }
}

Safetensors read_safetensors(const fs::path& file) {
  try {
    std::error_code missing;
    const std::uint64_t file_bytes = fs::file_size(file, missing);
    if (missing) throw DataError(fmt::format("cannot be read ({})", missing.message()));
    std::ifstream in(file, std::ios::binary);
    if (!in) throw DataError(fmt::format("cannot be opened ({})", std::strerror(errno)));
    const std::string text = read_header(in, file_bytes);
    Header header = parse_header(text);
    Safetensors result;
    for (const auto* named : in_order(header.entries, file_bytes - kLengthBytes - text.size())) {
      result.arrays[named->first] = read_array(in, named->first, named->second);
    }
    result.metadata = std::move(header.metadata);
    return result;
  } catch (const std::exception& error) {   // bad_alloc too: more than fits into memory
    throw DataError(file.string() + ": " + error.what());
  }
}

}  // namespace tugline
