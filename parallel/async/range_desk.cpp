// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/async/range_desk.hpp"

#include <algorithm>
#include <utility>

#include "tugline/core/error.hpp"
#include "tugline/parallel/communicator.hpp"

namespace tugline {

using What = FarRequest::What;

RangeDesk::RangeDesk(Communicator& channel, RangeAccess& ranges, Options options)
    : channel_(channel), ranges_(ranges), options_(std::move(options)), waiting_(static_cast<std::size_t>(ranges.num_ranges())),
      snapshots_(waiting_.size()) {}
RangeDesk::~RangeDesk() = default;

void RangeDesk::stop(bool abandon) { end_ = abandon ? End::abandoned : End::stopped; }

bool RangeDesk::finished() const { return end_ == End::stopped && coming_.empty() && replies_.empty(); }

bool RangeDesk::advance() {
  if (end_ == End::abandoned) throw CommError("the job is ending");
  try {
    return serve();
  } catch (const std::exception& error) {
    if (end_ != End::abandoned && options_.failed) options_.failed(error);
    throw;
  }
}

bool RangeDesk::serve() {
  bool moved = take_requests();
  moved = progress_links() || moved;
  moved = give_what_has_come() || moved;
  for (int range = 0; range < ranges_.num_ranges(); ++range) moved = answer_range(range) || moved;
  return send_replies() || moved;
}

bool RangeDesk::progress_links() {
  bool moved = false;
  for (auto& [worker, link] : links_) moved = link.progress() || moved;
  return moved;
}

bool RangeDesk::take_requests() {
  if (!channel_.probe(-1, far_tags::kRequest)) return false;   // may name the same worker every time
  first_ = (first_ + 1) % channel_.size();
  for (int i = 0; i < channel_.size(); ++i) {
    const int worker = (first_ + i) % channel_.size();
    if (channel_.probe(worker, far_tags::kRequest)) take(worker);
  }
  return true;
}

SegmentLink& RangeDesk::link(int worker) { return links_.try_emplace(worker, channel_, worker, far_tags::kValues, far_tags::kGradient, kFarSegments).first->second; }

void RangeDesk::take(int worker) {
  Asked asked{.worker = worker, .request = {}, .gradient = {}};
  FarRequest& request = asked.request;
  channel_.receive(&request, sizeof request, worker, far_tags::kRequest);
  switch (request.what) {
    case What::claim:
    case What::close:
    case What::end_step: return answer_claim(worker, request.what);
    case What::read:
    case What::fetch: return waiting_[static_cast<std::size_t>(request.range)].push_back(std::move(asked));
    case What::give: break;
  }
  if (!request.dropped) {
    const auto inbox = options_.inbox(worker, request.range);
    asked.gradient = link(worker).start_receive(inbox);
  }
  coming_.push_back(std::move(asked));
}

void RangeDesk::answer_claim(int worker, What what) {
  const Cursor& cursor = options_.cursor;
  if (!cursor.claim) throw Error("a piece is claimed where no cursor is");
  FarClaim claim;
  if (what == What::claim) claim.piece = cursor.claim(worker).value_or(-1);
  if (what == What::close) cursor.close();
  claim.end_step = cursor.end_step();
  replies_.push_back({.to = worker, .answer = {}, .claim = claim, .snapshot = {}, .header = {}, .values = {}});
}

bool RangeDesk::give_what_has_come() {
  return std::erase_if(coming_, [&](Asked& asked) {
    if (asked.gradient && !asked.gradient->test()) return false;
    asked.gradient.reset();
    const FarRequest& request = asked.request;
    {
      LockedRange range(ranges_, request.range);
      asked.applied = range.give(asked.worker, request.push, request.dropped, request.staleness);
      range.apply_ready(rule_of(request));
    }
    progress_links();
    waiting_[static_cast<std::size_t>(request.range)].push_back(std::move(asked));
    return true;
  }) > 0;
}

bool RangeDesk::answer_range(int index) {
  auto& waiting = waiting_[static_cast<std::size_t>(index)];
  if (waiting.empty()) return false;
  LockedRange range(ranges_, index);
  return std::erase_if(waiting, [&](const Asked& asked) { return answer(range, asked); }) > 0;
}

bool RangeDesk::answer(LockedRange& range, const Asked& asked) {
  const FarRequest& request = asked.request;
  if (request.what == What::give && range.waits(asked.worker)) return false;
  const std::uint32_t version = range.version();
  if (request.exact && version != request.wanted) return false;
  const bool brings = request.brings && request.copy != version;
  replies_.push_back({.to = asked.worker,
                      .answer = FarAnswer{request.range, brings, version, asked.applied},
                      .claim = {},
                      .snapshot = brings ? snapshot(request.range, version) : nullptr,
                      .header = {},
                      .values = {}});
  if (request.what == What::read) range.read(asked.worker, rule_of(request));
  return true;
}

std::shared_ptr<RangeDesk::Snapshot> RangeDesk::snapshot(int range, std::uint32_t version) {
  auto& newest = snapshots_[static_cast<std::size_t>(range)];
  if (newest && newest->version == version) return newest;
  if (!newest || newest.use_count() > 1) newest = std::make_shared<Snapshot>();   // one that is on its way stays as it is
  const auto values = options_.values(range);
  newest->version = version;
  newest->values.assign(values.begin(), values.end());
  return newest;
}

/// Begun in order, with no range locked.
bool RangeDesk::send_replies() {
  for (Reply& reply : replies_) {
    if (reply.header) continue;
    if (reply.answer) {
      reply.header = channel_.start_send(&*reply.answer, sizeof *reply.answer, reply.to, far_tags::kAnswer);
    } else {
      reply.header = channel_.start_send(&reply.claim, sizeof reply.claim, reply.to, far_tags::kClaim);
    }
    if (!reply.snapshot) continue;
    reply.values = link(reply.to).start_send(reply.snapshot->values);
  }
  return std::erase_if(replies_, [](Reply& reply) { return reply.header->test() && (!reply.values || reply.values->test()); }) > 0;
}

}  // namespace tugline
