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

}  // namespace

StopSignal::StopSignal() {
  g_raised = 0;
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &g_previous[i]);
}

StopSignal::~StopSignal() {
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &g_previous[i], nullptr);
  std::signal(SIGUSR1, SIG_IGN);   // a request that is repeated must not kill what has saved and is on its way out
}

bool StopSignal::raised() const noexcept { return g_raised != 0; }

}  // namespace tugline
