// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

namespace tugline {

/// What a terminal would show: \r goes to the line's begin, ESC[K erases to its end.
inline std::vector<std::string> screen_of(const std::string& bytes, std::size_t* widest = nullptr) {
  std::vector<std::string> lines(1);
  std::size_t column = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes.compare(i, 3, "\x1b[K") == 0) {
      lines.back().resize(std::min(column, lines.back().size()));
      i += 2;
    } else if (bytes[i] == '\r') {
      column = 0;
    } else if (bytes[i] == '\n') {
      lines.emplace_back(), column = 0;
    } else {
      if (lines.back().size() <= column) lines.back().resize(column + 1);
      lines.back()[column++] = bytes[i];
      if (widest) *widest = std::max(*widest, column);
    }
  }
  return lines;
}

}  // namespace tugline
