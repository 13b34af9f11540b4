// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/async/far_ranges.hpp"

#include <sched.h>

#include <utility>

#include "tugline/core/error.hpp"
#include "tugline/parallel/communicator.hpp"

namespace tugline {

struct FarRanges::Slot {
  enum class State { idle, asked, answered } state = State::idle;
  FarRequest request;
  FarAnswer answer;
  std::unique_ptr<Work> sends[2];   // the request, and what follows it
  std::unique_ptr<Work> values;     // come
};

FarRanges::FarRanges(Communicator& channel, std::vector<int> servers, Memory memory)
    : channel_(channel), servers_(std::move(servers)), memory_(std::move(memory)), slots_(servers_.size()) {
  for (const int server : servers_) {
    if (server >= 0) links_.try_emplace(server, channel_, server, far_tags::kGradient, far_tags::kValues, kFarSegments);
  }
}
FarRanges::~FarRanges() = default;

void FarRanges::ask(const FarRequest& request) {
  Slot& slot = slots_[static_cast<std::size_t>(request.range)];
  const int server = servers_[static_cast<std::size_t>(request.range)];
  if (server < 0 || slot.state != Slot::State::idle) throw Error("a request for a range that is kept here, or has another request under way");
  slot.request = request;
  slot.state = Slot::State::asked;
  ++busy_;
  slot.sends[0] = channel_.start_send(&slot.request, sizeof slot.request, server, far_tags::kRequest);
  if (request.what != FarRequest::What::give || request.dropped) return;
  const auto gradient = memory_.gradient(request.range);
  slot.sends[1] = links_.at(server).start_send(gradient);
  bytes_ += std::ssize(gradient);
}

std::optional<FarAnswer> FarRanges::answer(int range) {
  progress();
  Slot& slot = slots_[static_cast<std::size_t>(range)];
  if (slot.state != Slot::State::answered) return std::nullopt;
  slot.state = Slot::State::idle;
  return slot.answer;
}

void FarRanges::progress() {
  if (busy_ == 0) return;
  for (auto& [server, link] : links_) {
    link.progress();
    while (channel_.probe(server, far_tags::kAnswer)) {
      FarAnswer answer;
      channel_.receive(&answer, sizeof answer, server, far_tags::kAnswer);
      Slot& slot = slots_[static_cast<std::size_t>(answer.range)];
      slot.answer = answer;
      if (!answer.brings) {
        finish(slot);
        continue;
      }
      const auto values = memory_.values(answer.range);
      slot.values = link.start_receive(values);
      bytes_ += std::ssize(values);
    }
  }
  for (Slot& slot : slots_) {
    if (slot.values && slot.values->test()) finish(slot);
  }
}

/// What has been answered has been received.
void FarRanges::finish(Slot& slot) {
  slot.values.reset();
  for (auto& send : slot.sends) {
    if (send) send->wait();
    send.reset();
  }
  slot.state = Slot::State::answered;
  --busy_;
}

void FarRanges::fetch(std::vector<std::uint32_t>& copies) {
  const int ranges = static_cast<int>(servers_.size());
  for (int range = 0; range < ranges; ++range) {
    if (is_far(range)) ask({.what = FarRequest::What::fetch, .range = range, .copy = copies[static_cast<std::size_t>(range)], .push = {}});
  }
  for (int range = 0; range < ranges; ++range) {
    if (!is_far(range)) continue;
    std::optional<FarAnswer> come = answer(range);
    for (; !come; come = answer(range)) sched_yield();
    copies[static_cast<std::size_t>(range)] = come->version;
  }
}

std::int64_t FarRanges::take_bytes() { return std::exchange(bytes_, 0); }

FarClaim FarCursor::ask(FarRequest::What what) {
  FarRequest request;
  request.what = what;
  channel_.send(&request, sizeof request, server_, far_tags::kRequest);
  while (!channel_.probe(server_, far_tags::kClaim)) sched_yield();
  FarClaim claim;
  channel_.receive(&claim, sizeof claim, server_, far_tags::kClaim);
  return claim;
}

std::optional<std::int64_t> FarCursor::claim() {
  const FarClaim claimed = ask(FarRequest::What::claim);
  return claimed.piece < 0 ? std::nullopt : std::optional(claimed.piece);
}
void FarCursor::close() { ask(FarRequest::What::close); }
std::int64_t FarCursor::end_step() { return ask(FarRequest::What::end_step).end_step; }

}  // namespace tugline
