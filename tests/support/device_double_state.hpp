// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tugline/tests/support/device_double.hpp"

/// What the two halves of the double share.
namespace tugline {

struct DeviceDouble::StreamState {
  int device = 0;
  std::deque<Task> queue;
  bool busy = false, destroyed = false;
  std::function<bool()> waits_for;   // while blocked: true when it may go on
  int unborn_launches = 0;           // of communicators that have not been asked for their status
  std::thread worker;
};

struct DeviceDouble::EventState {
  bool timed = false, destroyed = false;
  std::uint64_t recorded = 0, done = 0;
  std::chrono::steady_clock::time_point at;
};

struct DeviceDouble::Memory {
  std::unique_ptr<char[]> bytes;
  std::int64_t size = 0;
  bool pinned = false;
};

/// One call of NCCL on a stream, or a group of them.
struct DeviceDouble::Launch {
  Stream stream = nullptr;
  std::vector<StartCall> calls;
};

/// The ranks of one communicator of NCCL.
struct DeviceDouble::Clique {
  int size = 0;
  std::shared_ptr<threads::Fate> fate;
  std::vector<std::unique_ptr<Communicator>> team;   // once all are there
  std::map<int, std::weak_ptr<CommState>> members;   // by rank
  std::string refusal;
  int finalized = 0;
  struct Wish {
    std::shared_ptr<CommState> parent;
    int color, key;
    NcclComm* comm;
  };
  std::vector<Wish> wishes;                          // of a split that not all have called
};

struct DeviceDouble::CommState {
  std::shared_ptr<Clique> clique;
  int rank = 0, device = 0;
  std::string host;
  std::unique_ptr<Communicator> channel;
  std::vector<Launch> unborn;        // called, but not on the stream
  int polls = 0, running = 0;
  bool splitting = false, finalizing = false, gone = false;
  std::string error;
};

}  // namespace tugline
