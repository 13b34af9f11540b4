// SPDX-License-Identifier: Apache-2.0
// What is seen of a checkpoint before HDF5 opens it: only a file with a user block that fits its bytes is let through. And its manifest.
#include <algorithm>

#include "tugline/core/error.hpp"
#include "tugline/core/io/checkpoint.hpp"
#include "tugline/core/io/user_block.hpp"
#include "tugline/tests/fuzz/targets/memory_file.hpp"
#include "tugline/tests/fuzz/targets/target.hpp"

namespace {

using namespace tugline;

void let_through_only_if_whole(const std::string& bytes) {
  static fuzz::MemoryFile file;
  file.write(bytes);
  const bool accepted = fuzz::reads_or_says_why<CheckpointError>([&] { verify_user_block(file.path()); });
  bool whole = bytes.size() >= kUserBlockBytes;
  if (whole) {
    const std::string_view payload = std::string_view(bytes).substr(kUserBlockBytes);
    const auto block = make_user_block({&payload, 1});
    whole = std::equal(block.begin(), block.end(), bytes.begin());
  }
  fuzz::must(accepted == whole, accepted ? "a damaged checkpoint is let through" : "a whole checkpoint is refused");
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string bytes = fuzz::text_of(data, size);
  fuzz::reads_or_says_why<CheckpointError>([&] { decode_manifest(bytes); });
  let_through_only_if_whole(bytes);
  if (bytes.size() < kUserBlockBytes) return 0;
  // Length and digest that fit: what else stands in the block counts too. Then a block that fits.
  const std::string_view payload = std::string_view(bytes).substr(kUserBlockBytes);
  const auto block = make_user_block({&payload, 1});
  std::copy(block.begin() + 16, block.begin() + 40, bytes.begin() + 16);
  let_through_only_if_whole(bytes);
  std::copy(block.begin(), block.end(), bytes.begin());
  let_through_only_if_whole(bytes);
  return 0;
}
