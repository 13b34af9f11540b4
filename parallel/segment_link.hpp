// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>

#include "tugline/parallel/work.hpp"

namespace tugline {

class Communicator;

/// How data travels between hosts. Messages are just below what Open MPI sends over TCP without asking (64 KiB with its header): longer ones
/// wait for an answer that queues behind the other direction's data, and two hosts then get half of their link.
struct SegmentOptions {
  std::int64_t segment_bytes = 60 << 10;   ///< of one message
  int in_flight = 8;                       ///< messages under way at a time, each way; both at least 1
};

/// Memory that goes to one rank and comes from it, of any size, one after the other and in segments: what was started first arrives first,
/// and can be made use of while the next is on its way. Used by one thread at a time; all works must be gone before it is. Throws CommError, and
/// does nothing more after it has: works are then over without being done.
class SegmentLink {
 public:
  /// Nothing else goes from this rank to `peer` with send_tag, or comes with receive_tag; over there they are exchanged, and segments as long.
  /// `channel` outlives this.
  SegmentLink(Communicator& channel, int peer, int send_tag, int receive_tag, SegmentOptions options = {});
  ~SegmentLink();
  SegmentLink(const SegmentLink&) = delete;
  SegmentLink& operator=(const SegmentLink&) = delete;

  /// The other side starts the opposite, of as many bytes, as often and in the same order.
  std::unique_ptr<Work> start_send(std::span<const std::byte> data);
  std::unique_ptr<Work> start_receive(std::span<std::byte> data);
  /// True when a segment was begun or is over. Data moves only in here and in a work's calls.
  bool progress();

 private:
  /// One direction. Bytes count from the beginning of the link.
  struct Lane {
    std::deque<std::span<std::byte>> waiting;   // what is left to begin, in order
    struct Segment {
      std::unique_ptr<Work> work;
      std::int64_t bytes = 0;
    };
    std::deque<Segment> under_way;
    std::int64_t promised = 0, done = 0;
  };
  class Waiting;
  std::unique_ptr<Work> add(Lane& lane, std::span<std::byte> data);
  bool advance_or_break(Lane& lane);
  bool advance(Lane& lane);

  Communicator& channel_;
  int peer_, send_tag_, receive_tag_;
  SegmentOptions options_;
  Lane sends_, receives_;
  bool broken_ = false;
};

}  // namespace tugline
