// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tugline/core/dtype.hpp"
#include "tugline/parallel/work.hpp"

namespace tugline {

enum class ReduceOp : std::uint8_t { sum, max, min };

/// A group of ranks that talk to each other. Collectives are called by all of them in one order. Thread level: one thread
/// at a time per communicator, but messages from several, each with tags of its own; the control twin may be used by another thread at the same time
/// (MPI_THREAD_MULTIPLE or SERIALIZED with the backend's own lock). Every call throws CommError.
///
/// Sums of bfloat16 and float16 accumulate in float32 (nccl: each partial sum is rounded). All ranks get the same bits.
///
/// Buffers are memory of the host; those of "nccl" and "staged" may also be memory of this rank's device, which then follow the order of
/// streams (work.hpp). What a call gives or takes by value is always the host's.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string backend() const = 0;   ///< "mpi", "threads", "nccl", ...
  virtual bool takes_device_memory() const { return false; }   ///< sums in memory of its device, and Work in the order of streams

  // Collectives that return at once. Counts are elements.
  virtual std::unique_ptr<Work> start_all_reduce(void* data, std::int64_t count, DType dtype, ReduceOp op) = 0;
  virtual std::unique_ptr<Work> start_broadcast(void* data, std::int64_t bytes, int root) = 0;
  virtual std::unique_ptr<Work> start_all_gather(const void* mine, std::int64_t bytes, void* all) = 0;  ///< `all`: size() * bytes
  virtual void barrier() = 0;

  // Tagged point-to-point. 0 <= tag <= 32767. Messages between two ranks with one tag arrive in order.
  virtual std::unique_ptr<Work> start_send(const void* data, std::int64_t bytes, int to, int tag) = 0;
  virtual std::unique_ptr<Work> start_receive(void* data, std::int64_t bytes, int from, int tag) = 0;
  struct Incoming {
    int from = 0;
    std::int64_t bytes = 0;
  };
  /// A message with `tag` that has arrived from anyone (`from` < 0) or from one rank; never blocks.
  virtual std::optional<Incoming> probe(int from, int tag) = 0;

  /// Collective. Ranks of one colour get a communicator of their own, ordered by (key, rank); colour < 0: null.
  virtual std::unique_ptr<Communicator> split(int color, int key) = 0;
  /// Collective. The same ranks on a channel of their own: for records, watchdogs, batch norm.
  virtual std::unique_ptr<Communicator> duplicate() = 0;
  /// Ends the whole job at once, from any thread: for errors that only this rank saw.
  [[noreturn]] virtual void abort(int exit_code) noexcept = 0;

  // Blocking forms, written once over those above.
  void all_reduce(void* data, std::int64_t count, DType dtype, ReduceOp op = ReduceOp::sum);
  void broadcast(void* data, std::int64_t bytes, int root);
  void all_gather(const void* mine, std::int64_t bytes, void* all);
  void send(const void* data, std::int64_t bytes, int to, int tag);
  void receive(void* data, std::int64_t bytes, int from, int tag);
  double all_reduce(double value, ReduceOp op = ReduceOp::sum);
  std::int64_t all_reduce(std::int64_t value, ReduceOp op = ReduceOp::sum);
  std::string broadcast(const std::string& text, int root);           ///< any length; `text` is read on the root only
  std::vector<std::string> all_gather(const std::string& text);       ///< one per rank, any lengths
};

}  // namespace tugline
