// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tugline/parallel/async/far_ranges.hpp"
#include "tugline/parallel/async/gradient_turn.hpp"
#include "tugline/parallel/async/range_server.hpp"
#include "tugline/parallel/async/shared_ranges.hpp"

namespace tugline {

/// The common parameters of a whole job: each host, or each that has one of the servers, keeps a part of the ranges, in memory that its ranks share, and serves it to the others by
/// messages; the first host hands out the pieces. One thread per rank, and on one rank of each host that serves others another: on its first server, or
/// where there is none, on its first rank.
class JobRanges {
 public:
  struct Options {
    std::shared_ptr<NodeTeam> node;               ///< the ranks of this host; null: there is only this rank
    std::vector<std::string> hosts;               ///< one name per rank; empty: there is one host
    int servers = 0;                              ///< ranks, the last ones, whose hosts alone keep ranges; 0: all hosts do
    int pieces_per_step = 1;
    bool in_turns = false;
    double staleness_power = 0, clip_value = 0;   ///< see SharedRangesOptions
    const std::vector<RangeScript>* scripts = nullptr;   ///< per range, of the run that this one repeats; null: a run of its own
  };
  /// See SharedRanges. `control` is duplicated where there are several hosts. Collective.
  JobRanges(Communicator& control, Arena& arena, Optimizer& optimizer, const std::vector<at::Tensor>& common, const Schedule& schedule, Options options,
            const Clock& clock);
  /// Where no turn is under way. Collective.
  ~JobRanges();

  int num_ranges() const { return here_->num_ranges(); }
  RangeAccess& here() { return *here_; }
  FarRanges* far() { return far_ ? &*far_ : nullptr; }   ///< for turns; null where there is one host
  /// Takes all steps of `turn`, and waits where it must.
  void run(GradientTurn& turn);
  /// Throws what has ended this rank's server, if anything has.
  void check() {
    if (server_) server_->check();
  }
  /// Of one range that this host keeps (it must keep some), how many it has had.
  std::uint32_t updates();
  std::optional<std::int64_t> claim();
  void close();
  std::int64_t end_step();

  // Where nobody works, each collective:
  /// The common values become those of the arena, which are the same on all ranks; pieces from `step` up to `end` are handed out.
  void publish(std::int64_t step, std::int64_t end);
  void open(std::int64_t step, std::int64_t end);
  /// Each rank's values become the common ones, of `copies`; and each host's optimizer slots those of the hosts that keep them.
  void fetch(std::vector<std::uint32_t>& copies);

  SharedRanges::Spent take_spent();

 private:
  bool keeps(int range) const { return keepers_[static_cast<std::size_t>(range)] == host_; }
  std::vector<Range> kept_ranges() const;
  void serve();
  void share_slots();

  Communicator& control_;
  Arena& arena_;
  Optimizer& optimizer_;
  Options options_;
  const Clock& clock_;
  std::vector<int> host_of_;                // per rank
  int host_ = 0;                            // this rank's
  std::vector<int> first_ranks_;            // per host
  std::vector<int> serving_ranks_;          // per host: runs its server, if it needs one
  std::vector<int> keepers_;                // per range: its host
  std::optional<SharedRanges> here_;
  std::unique_ptr<Communicator> channel_;   // of far ranges and servers
  std::optional<FarRanges> far_;
  std::optional<FarCursor> far_cursor_;     // on other hosts than the first
  std::optional<RangeServer> server_;
};

}  // namespace tugline
