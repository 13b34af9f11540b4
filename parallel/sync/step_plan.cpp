// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <numeric>

#include "tugline/parallel/sync/sync_strategy.hpp"

namespace tugline {

std::int64_t StepPlan::steps_per_epoch() const {
  const std::int64_t full = num_samples / global_batch;
  const bool ragged = num_samples % global_batch != 0;
  // An epoch smaller than one batch is one ragged step even with drop_last: dropping it would leave nothing to train on.
  return full + (ragged && (!drop_last || full == 0) ? 1 : 0);
}

Piece StepPlan::global_piece(std::int64_t step) const {
  Piece piece;
  piece.step = step;
  piece.epoch = step / steps_per_epoch();
  piece.global_begin = (step % steps_per_epoch()) * global_batch;
  piece.global_end = std::min(num_samples, piece.global_begin + global_batch);
  return piece;
}

Piece equal_share(Piece global, int rank, int size) {
  const std::int64_t count = global.global_size();
  global.begin = global.global_begin + count * rank / size;
  global.end = global.global_begin + count * (rank + 1) / size;
  return global;
}

Piece share_of(Piece global, std::span<const std::int64_t> shares, int rank) {
  const auto mine = shares.begin() + rank;
  global.begin = std::accumulate(shares.begin(), mine, global.global_begin);
  global.end = global.begin + *mine;
  return global;
}

StepReport add_pairwise(std::vector<StepReport> reports) {
  if (reports.empty()) return {};
  for (; reports.size() > 1; reports.resize((reports.size() + 1) / 2)) {
    for (std::size_t i = 0; i < reports.size(); i += 2) {
      StepReport sum = reports[i];
      if (i + 1 < reports.size()) {
        sum.weight += reports[i + 1].weight;
        sum.loss_sum += reports[i + 1].loss_sum;
        sum.correct += reports[i + 1].correct;
        sum.counted += reports[i + 1].counted;
      }
      reports[i / 2] = sum;
    }
  }
  return reports.front();
}

std::int64_t shard_size(const Piece& global, int shards) { return (global.global_size() + shards - 1) / shards; }

Piece shards_of(Piece global, int shards, int rank, int size) {
  const std::int64_t samples = shard_size(global, shards) * (shards / size);   // of a rank
  global.begin = std::min(global.global_end, global.global_begin + samples * rank);
  global.end = std::min(global.global_end, global.begin + samples);
  return global;
}

}  // namespace tugline
