// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <iosfwd>
#include <mutex>
#include <string>
#include <string_view>

namespace tugline {

/// The last line of a terminal, redrawn in place under lines that stay. While it lives, lines of the log appear above it, too. Its last
/// text stays, on a line of its own. Any thread.
class LiveLine {
 public:
  /// `out` must outlive it. `columns` of the terminal; 0: not known, taken for 80.
  LiveLine(std::ostream& out, int columns);
  ~LiveLine();
  LiveLine(const LiveLine&) = delete;
  LiveLine& operator=(const LiveLine&) = delete;

  std::size_t room() const { return room_; }   ///< in characters; what is longer is cut off
  void draw(std::string_view text);
  /// Above the live line, to stay.
  void print(std::string_view line);

 private:
  std::ostream& out_;
  const std::size_t room_;
  std::mutex mutex_;
  std::string text_;   // that stands there; empty: nothing does
};

}  // namespace tugline
