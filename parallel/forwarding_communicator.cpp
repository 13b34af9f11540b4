// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/forwarding_communicator.hpp"

#include <cstdlib>
#include <utility>

namespace tugline {

ForwardingCommunicator::ForwardingCommunicator(std::unique_ptr<Communicator> inner) : inner_(std::move(inner)) {}
ForwardingCommunicator::~ForwardingCommunicator() = default;

std::unique_ptr<Work> ForwardingCommunicator::start_all_reduce(void* data, std::int64_t count, DType dtype, ReduceOp op) {
  return inner_->start_all_reduce(data, count, dtype, op);
}

std::unique_ptr<Work> ForwardingCommunicator::start_broadcast(void* data, std::int64_t bytes, int root) {
  return inner_->start_broadcast(data, bytes, root);
}

std::unique_ptr<Work> ForwardingCommunicator::start_all_gather(const void* mine, std::int64_t bytes, void* all) {
  return inner_->start_all_gather(mine, bytes, all);
}

std::unique_ptr<Work> ForwardingCommunicator::start_send(const void* data, std::int64_t bytes, int to, int tag) {
  return inner_->start_send(data, bytes, to, tag);
}

std::unique_ptr<Work> ForwardingCommunicator::start_receive(void* data, std::int64_t bytes, int from, int tag) {
  return inner_->start_receive(data, bytes, from, tag);
}

std::unique_ptr<Communicator> ForwardingCommunicator::split(int color, int key) {
  auto part = inner_->split(color, key);
  return part ? wrap(std::move(part)) : nullptr;
}

std::unique_ptr<Communicator> ForwardingCommunicator::duplicate() { return wrap(inner_->duplicate()); }

void ForwardingCommunicator::abort(int exit_code) noexcept {
  inner_->abort(exit_code);
  std::_Exit(exit_code);   // not reached, but GCC 12 does not believe it of a virtual function
}

}  // namespace tugline
