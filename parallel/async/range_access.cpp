// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/async/range_access.hpp"

namespace tugline {

std::uint32_t LockedRange::give(int worker, const Push& push, bool dropped, int staleness) {
  RangeLedger& ledger = ranges_.ledger(range_);
  if (dropped) {
    ledger.drop(worker, push, staleness);
  } else {
    ledger.push(worker, push);
  }
  return push.version > 0 ? push.version : ledger.version() + 1;   // whatever waits goes into the next update
}

void LockedRange::read(int worker, const ApplyRule& rule) {
  ranges_.ledger(range_).read(worker);
  if (rule.scripts != nullptr) apply_ready(rule);   // some update may have waited for this read
}

bool LockedRange::apply_ready(const ApplyRule& rule, bool brings) {
  RangeLedger& ledger = ranges_.ledger(range_);
  const auto ready = [&] {
    return rule.scripts != nullptr ? ledger.ready((*rule.scripts)[static_cast<std::size_t>(range_)]) : ledger.ready(rule.staleness);
  };
  const std::uint32_t before = version();
  while (ready()) ranges_.apply(range_, ledger.take(), brings);   // a repeated run may have the one after that waiting
  return version() != before;
}

}  // namespace tugline
