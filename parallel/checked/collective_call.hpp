// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "tugline/parallel/communicator.hpp"

namespace tugline {

enum class Collective : std::uint8_t { all_reduce, broadcast, all_gather, barrier, split, duplicate };

/// What must be equal on all ranks when one calls a collective. Plain bytes: ranks send it to each other as it lies there.
struct CollectiveCall {
  std::uint64_t number = 0;    ///< on its communicator, from 1
  std::int64_t amount = 0;     ///< elements of an all_reduce, bytes of the others
  std::int32_t root = 0;       ///< broadcast
  Collective what = Collective::barrier;
  DType dtype = DType::uint8;       ///< all_reduce
  ReduceOp op = ReduceOp::sum;      ///< all_reduce
  std::uint8_t unused = 0;     // where padding would be

  bool operator==(const CollectiveCall&) const = default;
};

/// "all_reduce of 1024 float32 (sum)"
std::string describe(const CollectiveCall& call);

/// "rank 0 calls barrier at save; ranks 1-3 call split at load", of one text per rank; the first few that differ.
std::string by_rank(std::span<const std::string> texts);

}  // namespace tugline
