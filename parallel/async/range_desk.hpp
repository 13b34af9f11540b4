// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "tugline/parallel/async/far_messages.hpp"
#include "tugline/parallel/async/range_access.hpp"
#include "tugline/parallel/ring/progress_thread.hpp"
#include "tugline/parallel/segment_link.hpp"

namespace tugline {

class Communicator;
class Work;

/// Answers what workers on other hosts ask of the ranges that this host keeps (far_messages.hpp): does for each with the ledgers what a worker
/// here does for itself. A worker is its rank in the channel. Values are copied under the range's lock and sent from the copy, which all who
/// want that version have in common.
class RangeDesk final : public Errand {
 public:
  /// Only where the job has its cursor. Called on the desk's thread.
  struct Cursor {
    std::function<std::optional<std::int64_t>(int worker)> claim;
    std::function<void()> close;
    std::function<std::int64_t()> end_step;
  };
  /// Called on the desk's thread. A desk that was abandoned may be written to by messages until the process ends: `inbox` keeps its memory alive.
  struct Options {
    /// Where a far worker's gradient is received. It must stay as it is from then until it is applied, by whoever on this host does that.
    std::function<std::span<std::byte>(int worker, int range)> inbox;
    std::function<std::span<const std::byte>(int range)> values;   ///< present; called with the range locked
    const std::vector<RangeScript>* scripts = nullptr;             ///< see ApplyRule
    Cursor cursor;
    /// Called with what advance() is about to throw, unless the job is ending anyway: nobody else may look for a while.
    std::function<void(const std::exception&)> failed;
  };
  /// Everything outlives it. apply() of `ranges` is called on the desk's thread, with gradients of any workers.
  RangeDesk(Communicator& channel, RangeAccess& ranges, Options options);
  ~RangeDesk() override;

  /// Takes at most one request of each worker. Throws what a call of the above throws.
  bool advance() override;
  /// It was stopped, and nothing is under way.
  bool finished() const override;
  /// No request will come or is unanswered; from any thread. `abandon`: or the job is ending, and what is under way may never arrive: the next
  /// advance() throws CommError.
  void stop(bool abandon);

 private:
  struct Snapshot {
    std::uint32_t version = 0;
    std::vector<std::byte> values;
  };
  /// Asked for and not answered.
  struct Asked {
    int worker = 0;
    FarRequest request;
    std::unique_ptr<Work> gradient;   // comes
    std::uint32_t applied = 0;
  };
  /// Answered, and on its way.
  struct Reply {
    int to = 0;
    std::optional<FarAnswer> answer;      // nullopt: the claim is the answer
    FarClaim claim;
    std::shared_ptr<Snapshot> snapshot;   // null: no values follow
    std::unique_ptr<Work> header, values;
  };
  enum class End { none, stopped, abandoned };

  bool serve();
  bool take_requests();
  SegmentLink& link(int worker);
  bool progress_links();
  void take(int worker);
  void answer_claim(int worker, FarRequest::What what);
  bool give_what_has_come();
  bool answer_range(int range);
  bool answer(LockedRange& range, const Asked& asked);
  std::shared_ptr<Snapshot> snapshot(int range, std::uint32_t version);
  bool send_replies();
  ApplyRule rule_of(const FarRequest& request) const { return {request.staleness, options_.scripts}; }

  Communicator& channel_;
  RangeAccess& ranges_;
  Options options_;
  std::map<int, SegmentLink> links_;                    // per worker that has asked
  int first_ = 0;                                       // worker whose request is looked for first
  std::vector<Asked> coming_;                           // their gradients have not arrived yet
  std::vector<std::vector<Asked>> waiting_;             // per range
  std::vector<std::shared_ptr<Snapshot>> snapshots_;    // per range, the newest
  std::list<Reply> replies_;
  std::atomic<End> end_{End::none};
};

}  // namespace tugline
