// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/search/sobol_search.hpp"

#include <array>
#include <bit>

#include "tugline/core/random.hpp"
#include "tugline/trainers/sweep/search/random_search.hpp"

namespace tugline::sweep {
namespace {

using Directions = std::array<std::uint32_t, 32>;

/// A primitive polynomial over GF(2), its coefficients as bits, and the first direction numbers, as many as its degree.
struct Seedling {
  std::uint32_t polynomial;
  std::array<std::uint32_t, 9> first;
};

// Joe & Kuo 2008, "Constructing Sobol sequences with better two-dimensional projections": new-joe-kuo-6, dimensions 2 to 64. Copyright (c)
// 2008 Frances Y. Kuo and Stephen Joe; NOTICE has their licence.
constexpr std::array<Seedling, kSobolDimensions - 1> kSeedlings{{
    {3, {1}}, {7, {1, 3}}, {11, {1, 3, 1}}, {13, {1, 1, 1}}, {19, {1, 1, 3, 3}}, {25, {1, 3, 5, 13}}, {37, {1, 1, 5, 5, 17}},
    {41, {1, 1, 5, 5, 5}}, {47, {1, 1, 7, 11, 19}}, {55, {1, 1, 5, 1, 1}}, {59, {1, 1, 1, 3, 11}}, {61, {1, 3, 5, 5, 31}},
    {67, {1, 3, 3, 9, 7, 49}}, {91, {1, 1, 1, 15, 21, 21}}, {97, {1, 3, 1, 13, 27, 49}}, {103, {1, 1, 1, 15, 7, 5}},
    {109, {1, 3, 1, 15, 13, 25}}, {115, {1, 1, 5, 5, 19, 61}}, {131, {1, 3, 7, 11, 23, 15, 103}}, {137, {1, 3, 7, 13, 13, 15, 69}},
    {143, {1, 1, 3, 13, 7, 35, 63}}, {145, {1, 3, 5, 9, 1, 25, 53}}, {157, {1, 3, 1, 13, 9, 35, 107}}, {167, {1, 3, 1, 5, 27, 61, 31}},
    {171, {1, 1, 5, 11, 19, 41, 61}}, {185, {1, 3, 5, 3, 3, 13, 69}}, {191, {1, 1, 7, 13, 1, 19, 1}}, {193, {1, 3, 7, 5, 13, 19, 59}},
    {203, {1, 1, 3, 9, 25, 29, 41}}, {211, {1, 3, 5, 13, 23, 1, 55}}, {213, {1, 3, 7, 3, 13, 59, 17}}, {229, {1, 3, 1, 3, 5, 53, 69}},
    {239, {1, 1, 5, 5, 23, 33, 13}}, {241, {1, 1, 7, 7, 1, 61, 123}}, {247, {1, 1, 7, 9, 13, 61, 49}}, {253, {1, 3, 3, 5, 3, 55, 33}},
    {285, {1, 3, 1, 15, 31, 13, 49, 245}}, {299, {1, 3, 5, 15, 31, 59, 63, 97}}, {301, {1, 3, 1, 11, 11, 11, 77, 249}},
    {333, {1, 3, 1, 11, 27, 43, 71, 9}}, {351, {1, 1, 7, 15, 21, 11, 81, 45}}, {355, {1, 3, 7, 3, 25, 31, 65, 79}},
    {357, {1, 3, 1, 1, 19, 11, 3, 205}}, {361, {1, 1, 5, 9, 19, 21, 29, 157}}, {369, {1, 3, 7, 11, 1, 33, 89, 185}},
    {391, {1, 3, 3, 3, 15, 9, 79, 71}}, {397, {1, 3, 7, 11, 15, 39, 119, 27}}, {425, {1, 1, 3, 1, 11, 31, 97, 225}},
    {451, {1, 1, 1, 3, 23, 43, 57, 177}}, {463, {1, 3, 7, 7, 17, 17, 37, 71}}, {487, {1, 3, 1, 5, 27, 63, 123, 213}},
    {501, {1, 1, 3, 5, 11, 43, 53, 133}}, {529, {1, 3, 5, 5, 29, 17, 47, 173, 479}}, {539, {1, 3, 3, 11, 3, 1, 109, 9, 69}},
    {545, {1, 1, 1, 5, 17, 39, 23, 5, 343}}, {557, {1, 3, 1, 5, 25, 15, 31, 103, 499}}, {563, {1, 1, 1, 11, 11, 17, 63, 105, 183}},
    {601, {1, 1, 5, 11, 9, 29, 97, 231, 363}}, {607, {1, 1, 5, 15, 19, 45, 41, 7, 383}}, {617, {1, 3, 7, 7, 31, 19, 83, 137, 221}},
    {623, {1, 1, 1, 3, 23, 15, 111, 223, 83}}, {631, {1, 1, 5, 13, 31, 15, 55, 25, 161}}, {637, {1, 1, 3, 13, 25, 47, 39, 87, 257}},
}};

Directions directions_of(std::size_t dimension) {
  Directions directions{};
  if (dimension == 0) {
    for (int bit = 0; bit < 32; ++bit) directions[bit] = 0x80000000u >> bit;
    return directions;
  }
  const auto& [polynomial, first] = kSeedlings[dimension - 1];
  const int degree = std::bit_width(polynomial) - 1;
  for (int bit = 0; bit < 32; ++bit) {
    if (bit < degree) {
      directions[bit] = first[bit] << (31 - bit);
      continue;
    }
    directions[bit] = directions[bit - degree] ^ (directions[bit - degree] >> degree);
    for (int k = 1; k < degree; ++k) {
      if (polynomial >> (degree - k) & 1) directions[bit] ^= directions[bit - k];
    }
  }
  return directions;
}

const std::array<Directions, kSobolDimensions>& all_directions() {
  static const auto all = [] {
    std::array<Directions, kSobolDimensions> table;
    for (std::size_t d = 0; d < kSobolDimensions; ++d) table[d] = directions_of(d);
    return table;
  }();
  return all;
}

std::uint32_t reversed(std::uint32_t x) {
  x = (x >> 1 & 0x55555555) | (x & 0x55555555) << 1;
  x = (x >> 2 & 0x33333333) | (x & 0x33333333) << 2;
  x = (x >> 4 & 0x0F0F0F0F) | (x & 0x0F0F0F0F) << 4;
  return __builtin_bswap32(x);
}

/// Owen's nested uniform scrambling by a hash: Laine & Karras 2011, Burley 2020 ("Practical hash-based Owen scrambling"); the constants are
/// Vegdahl's, which scramble low bits better.
std::uint32_t owen_scrambled(std::uint32_t x, std::uint32_t scramble) {
  x = reversed(x);
  x ^= x * 0x3D20ADEA;
  x += scramble;
  x *= scramble >> 16 | 1;
  x ^= x * 0x05526C56;
  x ^= x * 0x53A22864;
  return reversed(x);
}

class SobolSearch : public Search {
 public:
  SobolSearch(const Space& space, std::uint64_t seed) : space_(space), seed_(seed) {}

  /// Where a point is forbidden, that of the same number in another scrambling takes its place.
  Point suggest(std::int64_t number, std::span<const Observation>) override {
    return first_allowed(space_, [&](int attempt) {
      std::vector<double> unit(space_.size());
      for (std::size_t d = 0; d < unit.size(); ++d) {
        const bool random = d >= kSobolDimensions;
        Random stream(seed_, Purpose::search, random ? static_cast<std::uint64_t>(number) : ~static_cast<std::uint64_t>(attempt), d);
        for (int skipped = 0; random && skipped < attempt; ++skipped) stream.uniform();
        unit[d] = random ? stream.uniform() : sobol(static_cast<std::uint32_t>(number), d, stream.bits());
      }
      return space_.at(unit);
    });
  }

 private:
  const Space& space_;
  std::uint64_t seed_;
};

}  // namespace

double sobol(std::uint32_t number, std::size_t dimension, std::uint32_t scramble) {
  const Directions& directions = all_directions()[dimension];
  std::uint32_t x = 0;
  for (std::uint32_t bits = number; bits != 0; bits &= bits - 1) x ^= directions[std::countr_zero(bits)];
  return (owen_scrambled(x, scramble) + 0.5) * 0x1p-32;
}

std::unique_ptr<Search> make_sobol(const Space& space, std::uint64_t seed) { return std::make_unique<SobolSearch>(space, seed); }

}  // namespace tugline::sweep
