// SPDX-License-Identifier: Apache-2.0
// A safetensors file, and a header alone with a length that fits: arrays of the size that the file has, or a DataError.
#include "tugline/core/error.hpp"
#include "tugline/core/io/safetensors.hpp"
#include "tugline/tests/fuzz/targets/memory_file.hpp"
#include "tugline/tests/fuzz/targets/target.hpp"

namespace {

void read(const std::string& bytes) {
  using namespace tugline;
  static fuzz::MemoryFile file;
  file.write(bytes);
  fuzz::reads_or_says_why<DataError>([&] {
    std::size_t total = 0;
    for (const auto& [name, array] : read_safetensors(file.path()).arrays) total += array.data.size();
    fuzz::must(total < bytes.size(), "more bytes than the file has");
  });
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes = tugline::fuzz::text_of(data, size);
  read(bytes);
  const std::string::size_type end = bytes.rfind('}');
  if (bytes.starts_with('{') && end != bytes.npos) {   // the length in front would seldom fit
    std::string length(8, '\0');
    for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>((end + 1) >> (8 * i));
    read(length + bytes);
  }
  return 0;
}
