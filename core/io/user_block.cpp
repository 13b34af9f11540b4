// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/io/user_block.hpp"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <vector>

#include <fmt/format.h>

#include "tugline/core/error.hpp"

namespace tugline {
namespace {

constexpr std::array<char, 8> kMagic{'T', 'U', 'G', 'L', 'I', 'N', 'E', '\n'};
constexpr std::size_t kDigestOffset = 24;
using Block = std::array<char, kUserBlockBytes>;

template <typename Integer>
void put(Block& block, std::size_t offset, Integer value) {
  for (std::size_t i = 0; i < sizeof value; ++i) block[offset + i] = static_cast<char>((value >> (8 * i)) & 0xff);
}

template <typename Integer>
Integer get(const Block& block, std::size_t offset) {
  Integer value = 0;
  for (std::size_t i = 0; i < sizeof value; ++i) {
    value |= static_cast<Integer>(static_cast<unsigned char>(block[offset + i])) << (8 * i);
  }
  return value;
}

struct Payload {
  std::uint64_t bytes = 0;
  XXH128_canonical_t digest{};
};

std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> new_digest() {
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(), XXH3_freeState);
  XXH3_128bits_reset(state.get());
  return state;
}

Payload digest_of(std::istream& in) {
  const auto state = new_digest();
  std::vector<char> chunk(1 << 18);
  Payload payload;
  in.seekg(static_cast<std::streamoff>(kUserBlockBytes));
  while (in) {
    in.read(chunk.data(), static_cast<std::streamsize>(chunk.size()));
    XXH3_128bits_update(state.get(), chunk.data(), static_cast<std::size_t>(in.gcount()));
    payload.bytes += static_cast<std::uint64_t>(in.gcount());
  }
  XXH128_canonicalFromHash(&payload.digest, XXH3_128bits_digest(state.get()));
  return payload;
}

Block block_of(const Payload& payload) {
  Block block{};
  std::copy(kMagic.begin(), kMagic.end(), block.begin());
  put<std::uint32_t>(block, 8, kCheckpointVersion);
  put<std::uint32_t>(block, 12, static_cast<std::uint32_t>(kUserBlockBytes));
  put<std::uint64_t>(block, 16, payload.bytes);
  std::memcpy(block.data() + kDigestOffset, payload.digest.digest, sizeof payload.digest.digest);
  return block;
}

std::string hexadecimal(const XXH128_canonical_t& digest) {
  std::string text;
  for (const unsigned char byte : digest.digest) text += fmt::format("{:02x}", byte);
  return text;
}

/// With the magic that it begins with; nothing else is checked.
Block read_block(std::istream& in, const std::filesystem::path& file) {
  const auto fail = [&](const std::string& what) { throw CheckpointError(file.string() + ": " + what); };
  if (!in) fail(fmt::format("cannot be opened ({})", std::strerror(errno)));
  Block block{};
  in.read(block.data(), static_cast<std::streamsize>(block.size()));
  if (in.gcount() != static_cast<std::streamsize>(block.size())) {
    fail("not a Tugline checkpoint, or cut off: shorter than its first 512 bytes");
  }
  if (!std::equal(kMagic.begin(), kMagic.end(), block.begin())) fail("not a Tugline checkpoint");
  return block;
}

}  // namespace

std::array<char, kUserBlockBytes> make_user_block(std::span<const std::string_view> payload) {
  const auto state = new_digest();
  Payload facts;
  for (const std::string_view piece : payload) {
    XXH3_128bits_update(state.get(), piece.data(), piece.size());
    facts.bytes += piece.size();
  }
  XXH128_canonicalFromHash(&facts.digest, XXH3_128bits_digest(state.get()));
  return block_of(facts);
}

std::string digest_text(std::string_view bytes) {
  XXH128_canonical_t digest{};
  XXH128_canonicalFromHash(&digest, XXH3_128bits(bytes.data(), bytes.size()));
  return hexadecimal(digest);
}

std::string digest_text(const Block& block) {
  XXH128_canonical_t digest{};
  std::memcpy(digest.digest, block.data() + kDigestOffset, sizeof digest.digest);
  return hexadecimal(digest);
}

std::string stated_digest(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return digest_text(read_block(in, file));
}

std::string verify_user_block(const std::filesystem::path& file) {
  const auto fail = [&](const std::string& what) { throw CheckpointError(file.string() + ": " + what); };
  std::ifstream in(file, std::ios::binary);
  const Block block = read_block(in, file);
  const auto version = get<std::uint32_t>(block, 8);
  if (version > kCheckpointVersion) {
    fail(fmt::format("checkpoint format {}, but this Tugline reads up to {}: use a newer Tugline", version, kCheckpointVersion));
  }
  const Payload payload = digest_of(in);
  const auto expected = get<std::uint64_t>(block, 16);
  if (payload.bytes != expected) {
    fail(fmt::format("cut off or overwritten: {} bytes after its header instead of {}", payload.bytes, expected));
  }
  if (block != block_of(payload)) fail("damaged: its contents do not match their digest");
  return digest_text(block);
}

}  // namespace tugline
