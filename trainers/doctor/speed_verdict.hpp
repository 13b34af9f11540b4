// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "tugline/trainers/doctor/speed_probe.hpp"

namespace tugline {

struct SpeedRow {
  SpeedFacts facts;
  double speed = 1;         ///< of its arithmetic, the fastest rank's being 1
  double memory_speed = 1;  ///< of its streaming, likewise
  double steadiness = 1;    ///< p90 / median of its arithmetic rounds; 1: all took the same
  std::string why;          ///< "stolen CPU", "slow core", "memory"; empty: nothing holds it back
};

struct SpeedVerdict {
  std::vector<SpeedRow> rows;  ///< as the facts were ordered
  bool good = true;            ///< no rank is slower than 0.9 of the fastest
  double lost = 0;             ///< part of all ranks' time that goes into waiting, when all have equal shares
  std::string sentence;
  std::vector<std::string> advice;
};

/// Facts of at least one rank in, verdict out; looks at nothing else.
SpeedVerdict judge_speeds(const std::vector<SpeedFacts>& ranks);

/// A table, the sentence and the advice. Of more than 32 ranks it shows the slowest 8 and the fastest 4.
std::string speed_text(const SpeedVerdict& verdict);
/// All ranks, however many.
std::string speed_json(const SpeedVerdict& verdict);

}  // namespace tugline
