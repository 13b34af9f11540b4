// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/random.hpp"

#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

namespace tugline {
namespace {

using Words4 = std::array<std::uint32_t, 4>;
using Words2 = std::array<std::uint32_t, 2>;

std::uint32_t low(std::uint64_t value) { return static_cast<std::uint32_t>(value); }
std::uint32_t high(std::uint64_t value) { return static_cast<std::uint32_t>(value >> 32); }

// Two blocks, the second keyed by the first, spread (seed, purpose, a, b) over the 128 bits that identify a stream.
Words4 stream_of(std::uint64_t seed, Purpose purpose, std::uint64_t a, std::uint64_t b) {
  const Words4 first = philox({low(a), high(a), static_cast<std::uint32_t>(purpose), 0}, {low(seed), high(seed)});
  return philox({low(b), high(b), first[2], first[3]}, {first[0], first[1]});
}

}  // namespace

Words4 philox(Words4 counter, Words2 key) {
  constexpr std::uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = kMultiplier0 * counter[0], product1 = kMultiplier1 * counter[2];
    counter = {high(product1) ^ counter[1] ^ key[0], low(product1), high(product0) ^ counter[3] ^ key[1], low(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

Random::Random(std::uint64_t seed, Purpose purpose, std::uint64_t a, std::uint64_t b) {
  const Words4 stream = stream_of(seed, purpose, a, b);
  key_ = {stream[0], stream[1]};
  counter_ = {0, 0, stream[2], stream[3]};
}

std::uint32_t Random::bits() {
  if (used_ == 4) {
    block_ = philox(counter_, key_);
    if (++counter_[0] == 0) ++counter_[1];
    used_ = 0;
  }
  return block_[used_++];
}

std::uint64_t Random::bits64() {
  const std::uint64_t first = bits();
  return first << 32 | bits();
}

double Random::uniform() { return static_cast<double>(bits64() >> 11) * 0x1p-53; }

double Random::normal() {
  if (spare_normal_) return *std::exchange(spare_normal_, std::nullopt);
  // Box-Muller; 1 - uniform() is never 0.
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));
  const double angle = 2 * std::numbers::pi * uniform();
  spare_normal_ = radius * std::sin(angle);
  return radius * std::cos(angle);
}

std::uint64_t Random::below(std::uint64_t bound) {
  if (high(bound) == 0) {
    // Lemire: the high half of a product, refused when the low half falls into the uneven remainder.
    std::uint64_t product = bits() * bound;
    if (low(product) < bound) {
      const std::uint32_t uneven = (0u - low(bound)) % low(bound);
      while (low(product) < uneven) product = bits() * bound;
    }
    return product >> 32;
  }
  const std::uint64_t uneven = (0 - bound) % bound;
  std::uint64_t value = bits64();
  while (value < uneven) value = bits64();
  return value % bound;
}

std::uint64_t mix_seed(std::uint64_t seed, Purpose purpose, std::uint64_t a, std::uint64_t b) {
  const Words4 stream = stream_of(seed, purpose, a, b);
  return static_cast<std::uint64_t>(stream[0]) << 32 | stream[1];
}

std::vector<std::int64_t> permutation(std::int64_t n, Random& random) {
  std::vector<std::int64_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  for (std::int64_t last = n - 1; last > 0; --last) std::swap(order[last], order[random.below(last + 1)]);
  return order;
}

}  // namespace tugline
