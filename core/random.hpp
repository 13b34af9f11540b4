// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace tugline {

/// What a stream of random numbers is for. Every purpose has a stream of its own, so that drawing more of one never
/// shifts another. Values are part of the checkpoint's meaning: append, never renumber.
enum class Purpose : std::uint32_t { init = 1, order = 2, split = 3, augment = 4, dropout = 5, synthetic = 6, search = 7, fault = 8 };

/// One block of Philox4x32-10 (Salmon et al. 2011): a bijection of the 128-bit counter, another one for every key.
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

/// A counter-based generator (Philox4x32-10): the numbers are a pure function of (seed, purpose, a, b), where a and b are
/// e.g. epoch and sample index. Nothing to save but those numbers. Not thread-safe; cheap to make, one per use.
class Random {
 public:
  Random(std::uint64_t seed, Purpose purpose, std::uint64_t a = 0, std::uint64_t b = 0);

  std::uint32_t bits();                        ///< 32 random bits
  double uniform();                            ///< [0, 1)
  double normal();                             ///< mean 0, standard deviation 1
  std::uint64_t below(std::uint64_t bound);    ///< [0, bound), without modulo bias; bound > 0

 private:
  std::uint64_t bits64();

  std::array<std::uint32_t, 2> key_;
  std::array<std::uint32_t, 4> counter_;
  std::array<std::uint32_t, 4> block_{};
  int used_ = 4;                               // words of block_ that were handed out
  std::optional<double> spare_normal_;
};

/// One 64-bit seed out of (seed, purpose, a, b), to seed somebody else's generator (torch::manual_seed for dropout).
std::uint64_t mix_seed(std::uint64_t seed, Purpose purpose, std::uint64_t a = 0, std::uint64_t b = 0);

/// A permutation of 0 .. n-1 (Fisher-Yates on the given generator).
std::vector<std::int64_t> permutation(std::int64_t n, Random& random);

}  // namespace tugline
