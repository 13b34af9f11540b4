// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/threads/thread_team.hpp"

#include <cstdlib>
#include <cstring>

#include "tugline/core/error.hpp"

namespace tugline {
namespace {

class DoneWork final : public Work {
 public:
  bool test() override { return true; }
  void wait() override {}
};

class SoloCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::string backend() const override { return "threads"; }
  std::unique_ptr<Work> start_all_reduce(void*, std::int64_t, DType, ReduceOp) override { return done(); }
  std::unique_ptr<Work> start_broadcast(void*, std::int64_t, int) override { return done(); }
  std::unique_ptr<Work> start_all_gather(const void* mine, std::int64_t bytes, void* all) override {
    std::memcpy(all, mine, static_cast<std::size_t>(bytes));
    return done();
  }
  void barrier() override {}
  std::unique_ptr<Work> start_send(const void*, std::int64_t, int, int) override { throw CommError("one rank alone"); }
  std::unique_ptr<Work> start_receive(void*, std::int64_t, int, int) override { throw CommError("one rank alone"); }
  std::optional<Incoming> probe(int, int) override { return std::nullopt; }
  std::unique_ptr<Communicator> split(int color, int) override { return color < 0 ? nullptr : duplicate(); }
  std::unique_ptr<Communicator> duplicate() override { return std::make_unique<SoloCommunicator>(); }
  [[noreturn]] void abort(int exit_code) noexcept override { std::_Exit(exit_code); }

 private:
  static std::unique_ptr<Work> done() { return std::make_unique<DoneWork>(); }
};

}  // namespace

std::unique_ptr<Communicator> solo_communicator() { return std::make_unique<SoloCommunicator>(); }

}  // namespace tugline
