// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "tugline/parallel/communicator.hpp"

namespace tugline {

/// Passes every call on to another communicator, which it owns; what derives from it overrides what it does otherwise.
class ForwardingCommunicator : public Communicator {
 public:
  explicit ForwardingCommunicator(std::unique_ptr<Communicator> inner);
  ~ForwardingCommunicator() override;

  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::string backend() const override { return inner_->backend(); }
  bool takes_device_memory() const override { return inner_->takes_device_memory(); }
  std::unique_ptr<Work> start_all_reduce(void* data, std::int64_t count, DType dtype, ReduceOp op) override;
  std::unique_ptr<Work> start_broadcast(void* data, std::int64_t bytes, int root) override;
  std::unique_ptr<Work> start_all_gather(const void* mine, std::int64_t bytes, void* all) override;
  void barrier() override { inner_->barrier(); }
  std::unique_ptr<Work> start_send(const void* data, std::int64_t bytes, int to, int tag) override;
  std::unique_ptr<Work> start_receive(void* data, std::int64_t bytes, int from, int tag) override;
  std::optional<Incoming> probe(int from, int tag) override { return inner_->probe(from, tag); }
  std::unique_ptr<Communicator> split(int color, int key) override;
  std::unique_ptr<Communicator> duplicate() override;
  [[noreturn]] void abort(int exit_code) noexcept override;

 protected:
  Communicator& inner() { return *inner_; }
  /// What split() and duplicate() make of that of the other communicator: by default that itself.
  virtual std::unique_ptr<Communicator> wrap(std::unique_ptr<Communicator> part) { return part; }

 private:
  std::unique_ptr<Communicator> inner_;
};

}  // namespace tugline
