// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/async/piece_cursor.hpp"

#include <algorithm>

namespace tugline {

struct PieceCursor::Head {
  std::int64_t next, end;
};

std::size_t PieceCursor::bytes(int workers) { return sizeof(Head) + static_cast<std::size_t>(workers) * sizeof(std::int64_t); }

PieceCursor::PieceCursor(void* memory, int workers, int pieces_per_step, bool in_turns)
    : head_(static_cast<Head*>(memory)), turns_(reinterpret_cast<std::int64_t*>(head_ + 1)), size_(workers), pieces_per_step_(pieces_per_step),
      in_turns_(in_turns) {}

void PieceCursor::open(std::int64_t step, std::int64_t end) {
  head_->next = step * pieces_per_step_;
  head_->end = end * pieces_per_step_;
  for (int worker = 0; worker < size_; ++worker) turns_[worker] = head_->next + worker;
}

void PieceCursor::close() {
  const std::int64_t begun = (head_->next + pieces_per_step_ - 1) / pieces_per_step_;
  head_->end = std::min(head_->end, begun * pieces_per_step_);
}

std::optional<std::int64_t> PieceCursor::claim(int worker) {
  const std::int64_t piece = in_turns_ ? turns_[worker] : head_->next;
  if (piece >= head_->end) return std::nullopt;
  turns_[worker] += pieces_per_step_;
  head_->next = std::max(head_->next, piece + 1);
  return piece;
}

std::int64_t PieceCursor::next() const { return head_->next; }
std::int64_t PieceCursor::end() const { return head_->end; }

}  // namespace tugline
