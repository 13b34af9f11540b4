// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/config/nearest.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <vector>

namespace tugline::config {
namespace {

// About one slip in three letters.
int tolerance(std::string_view word) { return std::max(1, (static_cast<int>(word.size()) + 1) / 3); }

std::string_view leaf(std::string_view path) { return path.substr(path.rfind('.') + 1); }

// One is the start of the other: `optimizer` for `optim`, `epoch` for `epochs`; but `optim.lr` is no form of `optim`.
bool abbreviates(std::string_view a, std::string_view b) {
  if (a.size() > b.size()) std::swap(a, b);
  return a.size() >= 3 && b.starts_with(a) && b.find('.', a.size()) == b.npos;
}

/// Only as far as `limit`: a file that is no config may have words of megabytes.
int word_distance(std::string_view a, std::string_view b, int limit) {
  const int distance = std::abs(std::ssize(a) - std::ssize(b)) > limit ? limit + 1 : edit_distance(a, b);
  return abbreviates(a, b) ? std::min(distance, 2) : distance;
}

template <class Distance>
std::string nearest(std::string_view word, std::span<const std::string_view> words, int limit, Distance distance) {
  std::string_view best;
  for (const std::string_view candidate : words) {
    const int d = distance(word, candidate, limit);
    if (d <= limit) {
      best = candidate;
      limit = d - 1;  // on a tie the first stays
    }
  }
  return std::string(best);
}

}  // namespace

int edit_distance(std::string_view a, std::string_view b) {
  std::vector<int> before(b.size() + 1), last(b.size() + 1), now(b.size() + 1);
  std::iota(last.begin(), last.end(), 0);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    now[0] = static_cast<int>(i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      now[j] = std::min({last[j] + 1, now[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) now[j] = std::min(now[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, now);
  }
  return last[b.size()];
}

std::string nearest_word(std::string_view word, std::span<const std::string_view> words) {
  return nearest(word, words, std::max(2, tolerance(word)), word_distance);
}

std::string nearest_key(std::string_view path, std::span<const std::string_view> keys) {
  const std::string_view name = leaf(path);
  return nearest(path, keys, std::max(name.size() >= 3 ? 2 : 1, tolerance(name)),
                 [&](std::string_view written, std::string_view key, int limit) {
                   return std::min(word_distance(written, key, limit), 1 + word_distance(name, leaf(key), limit - 1));
                 });
}

std::string did_you_mean(std::string_view guess) { return guess.empty() ? "" : fmt::format("; did you mean {}?", guess); }

}  // namespace tugline::config
