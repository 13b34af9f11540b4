// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/segment_link.hpp"

#include <sched.h>

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/parallel/communicator.hpp"

namespace tugline {

class SegmentLink::Waiting final : public Work {
 public:
  Waiting(SegmentLink& link, const Lane& lane) : link_(link), lane_(lane), end_(lane.promised) {}
  ~Waiting() override {
    try {
      wait();
    } catch (const CommError&) {   // nothing will come any more
    }
  }
  bool test() override {
    if (lane_.done >= end_) return true;
    link_.progress();
    return lane_.done >= end_;
  }
  void wait() override {
    while (!test()) sched_yield();
  }

 private:
  SegmentLink& link_;
  const Lane& lane_;
  std::int64_t end_;
};

SegmentLink::SegmentLink(Communicator& channel, int peer, int send_tag, int receive_tag, SegmentOptions options)
    : channel_(channel), peer_(peer), send_tag_(send_tag), receive_tag_(receive_tag), options_(options) {
  if (options_.segment_bytes < 1 || options_.in_flight < 1) throw Error("a link needs segments of a byte or more, one or more under way");
}
SegmentLink::~SegmentLink() = default;

std::unique_ptr<Work> SegmentLink::start_send(std::span<const std::byte> data) {
  return add(sends_, {const_cast<std::byte*>(data.data()), data.size()});   // is only read
}

std::unique_ptr<Work> SegmentLink::start_receive(std::span<std::byte> data) { return add(receives_, data); }

std::unique_ptr<Work> SegmentLink::add(Lane& lane, std::span<std::byte> data) {
  if (!data.empty()) lane.waiting.push_back(data);
  lane.promised += std::ssize(data);
  advance_or_break(lane);
  return std::make_unique<Waiting>(*this, lane);
}

bool SegmentLink::progress() {
  const bool sent = advance_or_break(sends_);
  return advance_or_break(receives_) || sent;
}

/// MPI forgets a request that has failed: asked again, it would count as done.
bool SegmentLink::advance_or_break(Lane& lane) {
  if (broken_) throw CommError(fmt::format("what goes to rank {} or comes from it has failed before", peer_));
  try {
    return advance(lane);
  } catch (...) {
    broken_ = true;
    throw;
  }
}

bool SegmentLink::advance(Lane& lane) {
  bool moved = false;
  for (; !lane.under_way.empty() && lane.under_way.front().work->test(); lane.under_way.pop_front()) {
    lane.done += lane.under_way.front().bytes;
    moved = true;
  }
  while (!lane.waiting.empty() && std::ssize(lane.under_way) < options_.in_flight) {
    auto& data = lane.waiting.front();
    const auto segment = data.first(std::min(data.size(), static_cast<std::size_t>(options_.segment_bytes)));
    const std::int64_t bytes = std::ssize(segment);
    lane.under_way.push_back({&lane == &sends_ ? channel_.start_send(segment.data(), bytes, peer_, send_tag_)
                                               : channel_.start_receive(segment.data(), bytes, peer_, receive_tag_), bytes});
    data = data.subspan(segment.size());
    if (data.empty()) lane.waiting.pop_front();
    moved = true;
  }
  return moved;
}

}  // namespace tugline
