// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/stop_signal.hpp"

#include <csignal>

#include <array>

namespace tugline {
namespace {

// A signal handler can reach nothing but statics.
volatile std::sig_atomic_t g_raised = 0;
constexpr std::array kSignals{SIGUSR1, SIGTERM, SIGINT};
std::array<struct sigaction, kSignals.size()> g_previous;

void on_signal(int signal) {
  if (signal == SIGINT && g_raised != 0) {
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);
  }
  g_raised = 1;
}

void catch_signal(int signal, struct sigaction* previous) {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(signal, &action, previous);
}

}  // namespace

StopSignal::StopSignal() {
  g_raised = 0;
  for (std::size_t i = 0; i < kSignals.size(); ++i) catch_signal(kSignals[i], &g_previous[i]);
}

void StopSignal::also(int signal) {
  catch_signal(signal, nullptr);
  more_.push_back(signal);
}

StopSignal::~StopSignal() {
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &g_previous[i], nullptr);
  for (const int signal : more_) std::signal(signal, SIG_IGN);
  std::signal(SIGUSR1, SIG_IGN);   // a request that is repeated must not kill what has saved and is on its way out
}

bool StopSignal::raised() const noexcept { return g_raised != 0; }

}  // namespace tugline
