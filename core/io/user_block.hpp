// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace tugline {

/// The 512 bytes before the HDF5 part of a checkpoint (an HDF5 user block, so that HDF5 and h5py skip it):
///
///     offset  bytes  content (integers little-endian)
///     0       8      "TUGLINE\n"
///     8       4      format version, 1
///     12      4      size of this block, 512
///     16      8      number of bytes after this block
///     24      16     XXH3-128 of the bytes after this block, canonical (big-endian) form
///     40      472    zero
constexpr std::uint64_t kUserBlockBytes = 512;
constexpr std::uint32_t kCheckpointVersion = 1;

/// The block for a file whose bytes after it are `payload`, piece by piece.
std::array<char, kUserBlockBytes> make_user_block(std::span<const std::string_view> payload);
/// XXH3-128 of some bytes as 32 hexadecimal digits, its canonical form.
std::string digest_text(std::string_view bytes);
/// The digest that a block holds, as such a text.
std::string digest_text(const std::array<char, kUserBlockBytes>& block);
/// The same of the block of a file, whose other bytes are not looked at. Throws CheckpointError when there is none.
std::string stated_digest(const std::filesystem::path& file);
/// Reads the file once and compares; returns its digest as text. Throws CheckpointError that says what is wrong; never opens the file as
/// HDF5.
std::string verify_user_block(const std::filesystem::path& file);

}  // namespace tugline
