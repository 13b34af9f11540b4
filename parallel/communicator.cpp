// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/communicator.hpp"

namespace tugline {

void Communicator::all_reduce(void* data, std::int64_t count, DType dtype, ReduceOp op) {
  start_all_reduce(data, count, dtype, op)->wait();
}
void Communicator::broadcast(void* data, std::int64_t bytes, int root) { start_broadcast(data, bytes, root)->wait(); }
void Communicator::all_gather(const void* mine, std::int64_t bytes, void* all) { start_all_gather(mine, bytes, all)->wait(); }
void Communicator::send(const void* data, std::int64_t bytes, int to, int tag) { start_send(data, bytes, to, tag)->wait(); }
void Communicator::receive(void* data, std::int64_t bytes, int from, int tag) { start_receive(data, bytes, from, tag)->wait(); }

double Communicator::all_reduce(double value, ReduceOp op) {
  all_reduce(&value, 1, DType::float64, op);
  return value;
}
std::int64_t Communicator::all_reduce(std::int64_t value, ReduceOp op) {
  all_reduce(&value, 1, DType::int64, op);
  return value;
}

std::string Communicator::broadcast(const std::string& text, int root) {
  std::int64_t bytes = static_cast<std::int64_t>(text.size());
  broadcast(&bytes, sizeof bytes, root);
  std::string result = rank() == root ? text : std::string(static_cast<std::size_t>(bytes), '\0');
  broadcast(result.data(), bytes, root);
  return result;
}

std::vector<std::string> Communicator::all_gather(const std::string& text) {
  std::vector<std::string> result(static_cast<std::size_t>(size()));
  for (int r = 0; r < size(); ++r) result[static_cast<std::size_t>(r)] = broadcast(text, r);
  return result;
}

}  // namespace tugline
