// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/checked/checked_communicator.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "tugline/core/log.hpp"
#include "tugline/parallel/checked/call_site.hpp"
#include "tugline/parallel/checked/collective_call.hpp"
#include "tugline/parallel/forwarding_communicator.hpp"
#include "tugline/parallel/world.hpp"

namespace tugline {
namespace {

constexpr double kPatienceSeconds = 60;

struct Record {
  CollectiveCall call;
  std::uint64_t site = 0;
};

class CheckedCommunicator final : public ForwardingCommunicator {
 public:
  CheckedCommunicator(std::unique_ptr<Communicator> inner, const Clock& clock)
      : ForwardingCommunicator(std::move(inner)), channel_(this->inner().duplicate()), clock_(clock), records_(static_cast<std::size_t>(size())) {}

  std::unique_ptr<Work> start_all_reduce(void* data, std::int64_t count, DType dtype, ReduceOp op) override {
    check({.amount = count, .what = Collective::all_reduce, .dtype = dtype, .op = op});
    return ForwardingCommunicator::start_all_reduce(data, count, dtype, op);
  }
  std::unique_ptr<Work> start_broadcast(void* data, std::int64_t bytes, int root) override {
    check({.amount = bytes, .root = root, .what = Collective::broadcast});
    return ForwardingCommunicator::start_broadcast(data, bytes, root);
  }
  std::unique_ptr<Work> start_all_gather(const void* mine, std::int64_t bytes, void* all) override {
    check({.amount = bytes, .what = Collective::all_gather});
    return ForwardingCommunicator::start_all_gather(mine, bytes, all);
  }
  void barrier() override {
    check({.what = Collective::barrier});
    ForwardingCommunicator::barrier();
  }
  std::unique_ptr<Communicator> split(int color, int key) override {
    check({.what = Collective::split});
    return ForwardingCommunicator::split(color, key);
  }
  std::unique_ptr<Communicator> duplicate() override {
    check({.what = Collective::duplicate});
    return ForwardingCommunicator::duplicate();
  }

 private:
  std::unique_ptr<Communicator> wrap(std::unique_ptr<Communicator> part) override { return checked(std::move(part), clock_); }
  void check(CollectiveCall call);
  void exchange(const Record& mine, const CallSite& site);
  std::vector<std::string> texts_of_all(const CallSite& site);
  std::string explain(const CallSite& site);

  /// When all ranks last began to call from different places: a lost call shows itself later than it is made.
  struct Parting {
    std::uint64_t number;
    CallSite site;
  };

  std::unique_ptr<Communicator> channel_;
  const Clock& clock_;
  std::uint64_t number_ = 0;
  SiteDigest digest_;
  std::vector<Record> records_;   // of all ranks
  std::optional<Parting> parting_;
  std::string failure_;
};

void CheckedCommunicator::check(CollectiveCall call) {
  if (failure_.empty()) {
    call.number = ++number_;
    const CallSite site = CallSite::here();
    exchange({call, digest_(site)}, site);
    const auto all_equal = [&](auto Record::*part) {
      return std::all_of(records_.begin(), records_.end(), [&](const Record& other) { return other.*part == records_[0].*part; });
    };
    if (all_equal(&Record::site)) {
      parting_.reset();
    } else if (!parting_) {
      parting_ = {number_, site};
    }
    if (all_equal(&Record::call)) return;
    failure_ = explain(site);
  }
  throw AgreedError(ExitCode::disagree, failure_);
}

void CheckedCommunicator::exchange(const Record& mine, const CallSite& site) {
  const auto work = channel_->start_all_gather(&mine, sizeof mine, records_.data());
  const double start = clock_.seconds();
  bool told = false;
  while (!work->test()) {
    std::this_thread::yield();
    if (told || clock_.seconds() - start < kPatienceSeconds) continue;
    told = true;
    log::error("rank {} has waited a minute for the others to call collective number {} of this communicator: {} at {}", rank(),
               mine.call.number, describe(mine.call), site.text());
  }
}

/// What each rank's call site is called. All ranks come here together.
std::vector<std::string> CheckedCommunicator::texts_of_all(const CallSite& site) {
  using Text = std::array<char, 512>;   // cut to size: what ranks send must be equally long
  Text mine{};
  site.text().copy(mine.data(), mine.size() - 1);
  std::vector<Text> all(records_.size());
  channel_->all_gather(mine.data(), sizeof mine, all.data());
  std::vector<std::string> texts;
  for (const Text& text : all) texts.emplace_back(text.data());
  return texts;
}

std::string CheckedCommunicator::explain(const CallSite& site) {
  auto calls = texts_of_all(site);
  for (std::size_t r = 0; r < calls.size(); ++r) {
    const CollectiveCall& call = records_[r].call;
    const bool late = call.number != records_[0].call.number;
    calls[r] = fmt::format("{}{} at {}", describe(call), late ? fmt::format(" (its number {})", call.number) : "", calls[r]);
  }
  auto text = fmt::format("collective number {} differs between ranks: {}", records_[0].call.number, by_rank(calls));
  if (parting_ && parting_->number != number_) {
    auto partings = texts_of_all(parting_->site);
    for (std::string& place : partings) place.insert(0, "from ");
    text += fmt::format("; they have called from different places since number {}, where {}", parting_->number, by_rank(partings));
  }
  return text;
}

}  // namespace

std::unique_ptr<Communicator> checked(std::unique_ptr<Communicator> inner, const Clock& clock) {
  if (inner->size() == 1) return inner;
  return std::make_unique<CheckedCommunicator>(std::move(inner), clock);
}

}  // namespace tugline
