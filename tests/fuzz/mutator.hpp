// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "tugline/core/error.hpp"

namespace tugline {

/// Damages text as disks, editors and people do: bits, bytes, lost and doubled pieces, and words of the format in wrong
/// places. The same seed gives the same damage with every standard library.
class Mutator {
 public:
  Mutator(std::uint64_t seed, std::vector<std::string> words) : random_(seed), words_(std::move(words)) {}

  /// From 0 to below `bound`.
  std::size_t below(std::size_t bound) { return bound == 0 ? 0 : random_() % bound; }
  const std::string& pick(const std::vector<std::string>& from) { return from[below(from.size())]; }

  std::string damaged(std::string text) {
    for (std::size_t times = 1 + below(4); times > 0; --times) damage_once(text);
    return text;
  }

 private:
  void damage_once(std::string& text) {
    const std::size_t at = below(text.size() + 1);
    const std::size_t length = std::min(text.size() - at, 1 + below(below(4) == 0 ? 64 : 4));
    switch (below(7)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        break;
      case 1:
        text.replace(at, std::min<std::size_t>(length, 1), 1, static_cast<char>(below(256)));
        break;
      case 2:
        text.erase(at, length);
        break;
      case 3:
        text.insert(below(text.size() + 1), text.substr(at, length));
        break;
      case 4:
        text.resize(at);
        break;
      case 5:
        text.insert(at, pick(words_));
        break;
      default:
        text.replace(at, length, pick(words_));
        break;
    }
  }

  std::mt19937_64 random_;
  std::vector<std::string> words_;
};

/// Text that a failure can print on one line.
inline std::string escaped(const std::string& text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string result;
  for (const unsigned char c : text.substr(0, 2000)) {
    if (c >= 0x20 && c < 0x7f && c != '\\') {
      result += static_cast<char>(c);
    } else {
      result += {'\\', 'x', kHex[c / 16], kHex[c % 16]};
    }
  }
  return result;
}

/// Runs `call` on a damaged `input`: it works (true) or throws an E that says something (false). All else is a failure.
template <class E>
bool works_or_says_why(const std::string& input, auto&& call) {
  try {
    call();
    return true;
  } catch (const E& error) {
    EXPECT_FALSE(std::string(error.what()).empty()) << "input: " << escaped(input);
  } catch (const std::exception& error) {
    ADD_FAILURE() << "an error of another kind: " << error.what() << "\ninput: " << escaped(input);
  }
  return false;
}

}  // namespace tugline
