// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/threads/thread_team.hpp"

#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "tugline/parallel/threads/thread_group.hpp"

namespace tugline {

std::unique_ptr<Communicator> solo_communicator() {
  return std::move(threads::make_team(std::make_shared<threads::Fate>(1)).front());
}

void run_thread_team(int ranks, const std::function<void(std::unique_ptr<Communicator>)>& body) {
  auto fate = std::make_shared<threads::Fate>(ranks);
  std::vector<std::unique_ptr<Communicator>> communicators = threads::make_team(fate);
  std::exception_ptr first;
  std::mutex first_mutex;
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < ranks; ++rank) {
      threads.emplace_back([&, rank, mine = std::move(communicators[static_cast<std::size_t>(rank)])]() mutable {
        try {
          body(std::move(mine));
        } catch (...) {
          std::lock_guard<std::mutex> lock(first_mutex);
          if (!first) first = std::current_exception();
          fate->fail();
        }
        fate->leave(rank);
      });
    }
  }
  if (first) std::rethrow_exception(first);
}

}  // namespace tugline
