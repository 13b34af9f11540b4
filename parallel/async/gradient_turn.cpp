// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/async/gradient_turn.hpp"

namespace tugline {
namespace {

class Locked {
 public:
  Locked(RangeAccess& ranges, int range) : ranges_(ranges), range_(range) { ranges_.lock(range_); }
  ~Locked() { ranges_.unlock(range_); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  RangeAccess& ranges_;
  int range_;
};

}  // namespace

GradientTurn::GradientTurn(RangeAccess& ranges, std::vector<std::uint32_t>& copies, const Push& push, const Options& options)
    : ranges_(ranges), copies_(copies), push_(push), options_(options), phase_(Phase::giving),
      applied_(static_cast<std::size_t>(ranges.num_ranges()), 0) {}

GradientTurn::GradientTurn(RangeAccess& ranges, std::vector<std::uint32_t>& copies, const Options& options)
    : GradientTurn(ranges, copies, Push{}, options) {
  phase_ = options.reads ? Phase::reading : Phase::done;
}

bool GradientTurn::advance() {
  if (phase_ == Phase::done) return false;
  const Locked locked(ranges_, range());
  RangeLedger& ledger = ranges_.ledger(range());
  switch (phase_) {
    case Phase::giving: give(ledger); break;
    case Phase::waiting:
      if (!wait(ledger)) return false;
      break;
    case Phase::reading:
      if (!read(ledger)) return false;
      break;
    case Phase::done: return false;
  }
  next_range();
  return true;
}

void GradientTurn::next_range() {
  if (++position_ < ranges_.num_ranges()) return;
  position_ = 0;
  phase_ = phase_ == Phase::giving ? Phase::waiting : phase_ == Phase::waiting && options_.reads ? Phase::reading : Phase::done;
}

void GradientTurn::give(RangeLedger& ledger) {
  const auto index = static_cast<std::size_t>(range());
  if (options_.repeated.applied != nullptr) push_.version = (*options_.repeated.applied)[index];
  if (options_.dropped) {
    ledger.drop(options_.worker, push_, options_.staleness);
  } else {
    ledger.push(options_.worker, push_);
  }
  applied_[index] = push_.version > 0 ? push_.version : ledger.version() + 1;   // whatever waits goes into the next update
  apply_if_ready(ledger);
  // While it is in the cache. That it is read is said later: who has said so must not wait for anything.
  if (options_.reads && !ledger.waits(options_.worker)) copy(ledger.version());
}

bool GradientTurn::wait(RangeLedger& ledger) {
  if (!ledger.waits(options_.worker)) return true;
  blocked_ = {range(), ledger.version() + 1};
  return false;
}

bool GradientTurn::read(RangeLedger& ledger) {
  const auto index = static_cast<std::size_t>(range());
  if (options_.repeated.versions != nullptr) {
    const std::uint32_t wanted = (*options_.repeated.versions)[index];
    if (ledger.version() != wanted) {
      blocked_ = {range(), wanted};
      return false;
    }
  }
  if (copies_[index] != ledger.version()) copy(ledger.version());
  ledger.read(options_.worker);
  if (options_.repeated.scripts != nullptr) apply_if_ready(ledger);   // some update may have waited for this read
  return true;
}

void GradientTurn::apply_if_ready(RangeLedger& ledger) {
  const auto* const scripts = options_.repeated.scripts;
  const auto ready = [&] {
    return scripts != nullptr ? ledger.ready((*scripts)[static_cast<std::size_t>(range())]) : ledger.ready(options_.staleness);
  };
  while (ready()) ranges_.apply(range(), ledger.take());   // a repeated run may have the one after that waiting
}

void GradientTurn::copy(std::uint32_t version) {
  ranges_.copy_out(range());
  copies_[static_cast<std::size_t>(range())] = version;
}

}  // namespace tugline
