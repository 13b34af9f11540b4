// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/watchdog/thread_stack.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <mutex>
#include <thread>

#include <boost/stacktrace.hpp>

#include "tugline/parallel/checked/call_site.hpp"

namespace tugline {
namespace {

constexpr std::size_t kFrames = 64, kShown = 24;
constexpr std::size_t kSkipped = 2;   // the handler, and what the kernel returns through

// A signal handler can reach nothing but statics.
std::array<const void*, kFrames + 1> g_frames;
std::atomic<bool> g_done{false};

void on_signal(int) {
  boost::stacktrace::safe_dump_to(g_frames.data(), g_frames.size() * sizeof(void*));
  g_done.store(true, std::memory_order_release);
}

}  // namespace

std::string stack_of(pthread_t thread) {
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  const int number = SIGRTMIN + 7;
  struct sigaction action {}, before {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(number, &action, &before);
  g_done = false;
  if (pthread_kill(thread, number) != 0) return "";
  for (int i = 0; i < 500 && !g_done.load(std::memory_order_acquire); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  if (!g_done) return "";   // the handler stays: the signal may still come
  sigaction(number, &before, nullptr);
  const auto stack = boost::stacktrace::stacktrace::from_dump(g_frames.data(), g_frames.size() * sizeof(void*));
  std::string text;
  for (std::size_t i = kSkipped; i < stack.size() && i < kSkipped + kShown; ++i) text += describe_call(stack[i].address()) + "\n";
  return text;
}

}  // namespace tugline
