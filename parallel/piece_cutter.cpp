// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/piece_cutter.hpp"

#include <utility>

#include "tugline/parallel/balance/share_rule.hpp"
#include "tugline/parallel/communicator.hpp"

namespace tugline {

PieceCutter::PieceCutter(const Communicator& ranks, StepPlan plan, Options options)
    : plan_(plan), options_(std::move(options)), rank_(ranks.rank()), size_(ranks.size()), step_(options_.first_step) {}

std::optional<Piece> PieceCutter::next() {
  const auto next = piece(step_);
  if (!next) return next;
  ++step_;
  current_ = *next;
  return next;
}

std::optional<Piece> PieceCutter::upcoming(const Piece& piece_now) const { return piece(piece_now.step + 1); }

std::optional<Piece> PieceCutter::piece(std::int64_t step) const {
  if (step >= plan_.total_steps) return std::nullopt;
  const Piece global = plan_.global_piece(step);
  if (options_.shards > 0) return shards_of(global, options_.shards, rank_, size_);
  return options_.shares ? share_of(global, options_.shares->shares(global), rank_) : equal_share(global, rank_, size_);
}

}  // namespace tugline
