// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/async/gradient_turn.hpp"

#include <algorithm>
#include <numeric>

#include "tugline/parallel/async/far_ranges.hpp"

namespace tugline {

GradientTurn::GradientTurn(RangeAccess& ranges, std::vector<std::uint32_t>& copies, const Push& push, const Options& options)
    : ranges_(ranges), copies_(copies), push_(push), options_(options), phase_(Phase::giving),
      applied_(static_cast<std::size_t>(ranges.num_ranges()), 0) {
  const int size = ranges.num_ranges();
  for (int i = 0; i < size; ++i) order_.push_back((options.first_range + i) % size);
  if (options.far == nullptr) return;
  const auto here = std::stable_partition(order_.begin(), order_.end(), [&](int range) { return options.far->is_far(range); });
  num_far_ = static_cast<int>(here - order_.begin());
}

GradientTurn::GradientTurn(RangeAccess& ranges, std::vector<std::uint32_t>& copies, const Options& options)
    : GradientTurn(ranges, copies, Push{}, options) {
  phase_ = first_of_reading();
}

GradientTurn::Phase GradientTurn::first_of_reading() const { return !options_.reads ? Phase::done : num_far_ > 0 ? Phase::asking : Phase::reading; }

/// Far ranges come first, since messages take longer; but while their values are on the way, those here are read.
int GradientTurn::range() const {
  const int at = phase_ == Phase::reading ? (position_ + num_far_) % ranges_.num_ranges() : position_;
  return order_[static_cast<std::size_t>(at)];
}

bool GradientTurn::must_poll() const { return (options_.far != nullptr && options_.far->busy()) || unread_.size() > 1; }

bool GradientTurn::advance() {
  if (phase_ == Phase::done) return false;
  if (options_.far != nullptr && options_.far->busy()) options_.far->progress();
  if (phase_ == Phase::reading && options_.repeated.versions != nullptr) return read_any();
  const bool moved = advance_range();
  if (moved) next_range();
  return moved;
}

bool GradientTurn::advance_range() { return options_.far != nullptr && options_.far->is_far(range()) ? advance_far() : advance_here(); }

/// The first range whose turn it is: others may wait for this worker's read of one while it waits for another.
bool GradientTurn::read_any() {
  if (unread_.empty()) {
    unread_.resize(static_cast<std::size_t>(ranges_.num_ranges()));
    std::iota(unread_.begin(), unread_.end(), 0);
  }
  const auto read = std::find_if(unread_.begin(), unread_.end(), [&](int position) {
    position_ = position;
    return advance_range();
  });
  if (read == unread_.end()) return false;
  unread_.erase(read);
  if (unread_.empty()) phase_ = Phase::done;
  return true;
}

void GradientTurn::next_range() {
  if (++position_ < (phase_ == Phase::asking ? num_far_ : ranges_.num_ranges())) return;
  position_ = 0;
  switch (phase_) {
    case Phase::giving: phase_ = Phase::waiting; break;
    case Phase::waiting: phase_ = first_of_reading(); break;
    case Phase::asking: phase_ = Phase::reading; break;
    case Phase::reading:
    case Phase::done: phase_ = Phase::done; break;
  }
}

bool GradientTurn::advance_here() {
  LockedRange locked(ranges_, range());
  if (phase_ == Phase::waiting) return wait(locked);
  if (phase_ == Phase::reading) return read(locked);
  give(locked);
  return true;
}

void GradientTurn::give(LockedRange& locked) {
  const auto index = static_cast<std::size_t>(range());
  if (options_.repeated.applied != nullptr) push_.version = (*options_.repeated.applied)[index];
  applied_[index] = locked.give(options_.worker, push_, options_.dropped, options_.staleness);
  // Copied while it is in the cache. That it is read is said later: who has said so must not wait for anything.
  const bool brings = options_.reads && options_.repeated.versions == nullptr;   // there it may be another version that is wanted
  if (locked.apply_ready(rule(), brings) && brings) {
    copies_[index] = locked.version();
    return;
  }
  const bool another = options_.repeated.versions != nullptr && (*options_.repeated.versions)[index] != locked.version();
  if (options_.reads && !locked.waits(options_.worker) && !another && copies_[index] != locked.version()) copy(locked.version());
}

bool GradientTurn::wait(const LockedRange& locked) {
  if (!locked.waits(options_.worker)) return true;
  blocked_ = {range(), locked.version() + 1};
  return false;
}

bool GradientTurn::read(LockedRange& locked) {
  const auto index = static_cast<std::size_t>(range());
  if (options_.repeated.versions != nullptr) {
    const std::uint32_t wanted = (*options_.repeated.versions)[index];
    if (locked.version() != wanted) {
      blocked_ = {range(), wanted};
      return false;
    }
  }
  if (copies_[index] != locked.version()) copy(locked.version());
  locked.read(options_.worker, rule());
  return true;
}

void GradientTurn::copy(std::uint32_t version) {
  ranges_.copy_out(range());
  copies_[static_cast<std::size_t>(range())] = version;
}

bool GradientTurn::advance_far() {
  FarRanges& far = *options_.far;
  const auto index = static_cast<std::size_t>(range());
  FarRequest request{.range = range(), .staleness = options_.staleness, .copy = copies_[index], .push = {}};
  if (phase_ == Phase::giving) {
    if (options_.repeated.applied != nullptr) push_.version = (*options_.repeated.applied)[index];
    request.what = FarRequest::What::give;
    request.dropped = options_.dropped;
    request.brings = options_.reads && options_.staleness == 0 && options_.repeated.versions == nullptr;   // nothing follows before this worker's next gradient; else it may be sent in vain
    request.push = push_;
    far.ask(request);
    return true;
  }
  if (phase_ == Phase::asking) {
    request.what = FarRequest::What::read;
    request.exact = options_.repeated.versions != nullptr;
    if (request.exact) request.wanted = (*options_.repeated.versions)[index];
    far.ask(request);
    return true;
  }
  const auto answer = far.answer(range());
  if (!answer) return false;
  if (phase_ == Phase::waiting) applied_[index] = answer->applied;
  if (answer->brings) copies_[index] = answer->version;
  return true;
}

}  // namespace tugline
