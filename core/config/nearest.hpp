// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace tugline::config {

/// Letters to insert, drop, change or swap with a neighbour to make `a` into `b`.
int edit_distance(std::string_view a, std::string_view b);

/// The word of `words` that `word` was probably meant to be; empty when none is close.
std::string nearest_word(std::string_view word, std::span<const std::string_view> words);

/// The key that `path` was probably meant to be: a slip of the pen, or the right name in the wrong section.
std::string nearest_key(std::string_view path, std::span<const std::string_view> keys);

/// "; did you mean X?", or nothing when `guess` is empty.
std::string did_you_mean(std::string_view guess);

}  // namespace tugline::config
