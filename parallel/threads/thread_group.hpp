// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "tugline/parallel/communicator.hpp"

/// How ranks that are threads of one process talk: through memory, under one lock for the whole team.
namespace tugline::threads {

/// What all groups of one team share: the lock, and who is still there.
struct Fate {
  explicit Fate(int ranks) : left(static_cast<std::size_t>(ranks), false) {}
  void fail();             ///< some rank threw: nobody waits any longer
  void leave(int rank);    ///< this rank's body has returned

  std::mutex mutex;
  std::condition_variable changed;
  bool failed = false;
  std::vector<bool> left;
};

/// One collective, from its first rank's arrival on. The last rank to arrive does the work for all.
struct Operation {
  std::string name;                         ///< with everything that must match: "all_reduce 7 float32"
  std::vector<void*> buffers;               ///< per rank; null until it arrives
  std::vector<const void*> inputs;          ///< per rank, where input and output differ
  std::vector<bool> arrived;
  int num_arrived = 0;
  bool executing = false, done = false, broken = false;
};

/// A message, or a receive that waits for one.
struct Message {
  std::vector<char> bytes;
};
struct PostedReceive {
  void* data = nullptr;
  std::int64_t capacity_bytes = 0;
  bool done = false, too_long = false;
};
struct Channel {
  std::deque<Message> messages;
  std::deque<std::shared_ptr<PostedReceive>> receives;
};

/// The ranks of one communicator. Everything in it is guarded by fate->mutex, but for the work of an executing operation.
struct Group {
  std::shared_ptr<Fate> fate;
  std::vector<int> members;                                      ///< rank in the group -> rank in the team
  std::map<std::uint64_t, std::shared_ptr<Operation>> open;      ///< by the ranks' common count of collectives
  std::map<std::tuple<int, int, int>, Channel> channels;         ///< by (from, to, tag)

  int size() const { return static_cast<int>(members.size()); }
};

/// The whole team's communicators, one per rank.
std::vector<std::unique_ptr<Communicator>> make_team(std::shared_ptr<Fate> fate);

}  // namespace tugline::threads
