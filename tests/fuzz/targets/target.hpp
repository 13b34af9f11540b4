// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

/// What libFuzzer, or replay.cpp, calls with one input. Whatever escapes it is a finding.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace tugline::fuzz {

inline std::string text_of(const std::uint8_t* data, std::size_t size) { return {reinterpret_cast<const char*>(data), size}; }

inline void must(bool holds, const char* what) {
  if (!holds) throw std::logic_error(what);
}

/// Runs `read`, which works (true) or throws an E that says something (false).
template <class E>
bool reads_or_says_why(auto&& read) {
  try {
    read();
    return true;
  } catch (const E& error) {
    must(*error.what() != '\0', "an error without a word");
    return false;
  }
}

}  // namespace tugline::fuzz
