// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tugline/parallel/async/range_ledger.hpp"
#include "tugline/parallel/strategy.hpp"

namespace tugline {

/// What became of one piece.
struct PieceRecord {
  std::int64_t piece = 0;                  ///< number in the run's order of pieces
  int rank = 0;                            ///< who computed it
  std::int64_t samples = 0;
  bool dropped = false;                    ///< its gradient was not finite, and has moved nothing
  double waited_seconds = 0;               ///< for others, since the rank's piece before
  StepReport report;
  std::vector<std::uint32_t> read;         ///< per range: the version that its gradient was computed on
  std::vector<std::uint32_t> applied;      ///< per range: the version that the update with its gradient has made; 0: none has

  std::string encode() const;              ///< the same bytes everywhere
  static PieceRecord decode(const std::string& bytes);
};

/// How a run cuts its work; what must be the same where it is repeated.
struct UpdatePlan {
  int ranks = 0, pieces_per_step = 0, ranges = 0;
  int local_steps = 1;                     ///< parts of a piece
  bool operator==(const UpdatePlan&) const = default;
};

/// Everything that decides what a run has computed, beside its config: which rank computed which piece on what, and what was applied when. Versions
/// count from the run's first step, through all its attempts.
struct RecordedUpdates : UpdatePlan {
  std::map<std::int64_t, PieceRecord> pieces;   ///< by number; without reports
  std::set<std::int64_t> meetings;              ///< steps after which all ranks met

  /// The same from `step` on, with versions that begin at 0 there. Throws ConfigError when ranks did not meet after as many steps.
  RecordedUpdates from(std::int64_t step) const;
  std::vector<RangeScript> scripts() const;     ///< per range
};

/// The lines of a record, as JSON: one when an attempt begins, one per piece, one per meeting.
std::string attempt_line(std::int64_t from_step, const UpdatePlan& plan);
std::string piece_line(const PieceRecord& record);
std::string meeting_line(std::int64_t step);

/// Throws DataError, which names `file` and the line. A torn last line is left out. What an attempt made again counts as it made it.
RecordedUpdates parse_updates(const std::string& text, const std::string& file);

}  // namespace tugline
