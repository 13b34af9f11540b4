// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "tugline/parallel/async/far_messages.hpp"
#include "tugline/parallel/segment_link.hpp"

namespace tugline {

class Communicator;
class Work;

/// The ranges that other hosts keep, as a worker sees them. It has one request at a time under way per range, and as many as it likes over all;
/// nothing here blocks but fetch(). One thread per rank. Everything throws CommError.
class FarRanges {
 public:
  /// Where this worker has each range.
  struct Memory {
    std::function<std::span<const std::byte>(int range)> gradient;   ///< stays as it is until a give has been answered
    std::function<std::span<std::byte>(int range)> values;           ///< is written to while a request is under way
  };
  /// `servers`: per range the rank that runs its host's RangeServer; -1: it is kept here. `channel`: of all ranks, see far_messages.hpp;
  /// the same that the servers listen on. It outlives this.
  FarRanges(Communicator& channel, std::vector<int> servers, Memory memory);
  /// Waits for messages that have begun; no request should be under way.
  ~FarRanges();
  FarRanges(const FarRanges&) = delete;
  FarRanges& operator=(const FarRanges&) = delete;

  bool is_far(int range) const { return servers_[static_cast<std::size_t>(range)] >= 0; }
  /// Sends it; its range must be far and have no request under way.
  void ask(const FarRequest& request);
  /// What came for the request, once; the values, if it brings any, are then in memory.
  std::optional<FarAnswer> answer(int range);
  /// Looks for what has arrived. Requests move only while somebody calls this.
  void progress();
  /// Requests are under way.
  bool busy() const { return busy_ > 0; }

  /// Nobody works: all far values become this worker's. `copies`, per range the version that it has, are kept up to date.
  void fetch(std::vector<std::uint32_t>& copies);
  /// Gradients and values that have come or gone since the last call.
  std::int64_t take_bytes();

 private:
  struct Slot;
  void finish(Slot& slot);

  Communicator& channel_;
  std::vector<int> servers_;
  std::map<int, SegmentLink> links_;   // per server
  Memory memory_;
  std::vector<Slot> slots_;          // per range
  int busy_ = 0;
  std::int64_t bytes_ = 0;
};

/// The piece cursor, as workers on other hosts than rank 0's see it. Each call waits for its answer. One thread per rank. Throws CommError.
class FarCursor {
 public:
  /// `server`: the rank whose RangeServer has the cursor.
  FarCursor(Communicator& channel, int server) : channel_(channel), server_(server) {}
  std::optional<std::int64_t> claim();
  void close();
  std::int64_t end_step();

 private:
  FarClaim ask(FarRequest::What what);
  Communicator& channel_;
  int server_;
};

}  // namespace tugline
