// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace tugline {

/// Hands out the pieces of a run, numbered in sample order, each once. Closed at the end of a step, where all workers meet; then opened
/// again. A view of memory that may be shared between processes. Calls must exclude each other.
class PieceCursor {
 public:
  static std::size_t bytes(int workers);
  /// `in_turns`: piece number n is for worker n mod pieces_per_step, however busy that is; else for who asks first.
  PieceCursor(void* memory, int workers, int pieces_per_step, bool in_turns);

  /// Nobody works: pieces from the first of `step` on, up to the last of the step before `end`.
  void open(std::int64_t step, std::int64_t end);
  /// No further than to the end of the step that has begun.
  void close();
  /// nullopt: none before all meet again.
  std::optional<std::int64_t> claim(int worker);
  std::int64_t next() const;   ///< all pieces before have been handed out, or are someone's turn
  std::int64_t end() const;    ///< the first piece after the next meeting

 private:
  struct Head;
  Head* head_;
  std::int64_t* turns_;   // per worker
  int size_, pieces_per_step_;
  bool in_turns_;
};

}  // namespace tugline
