// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pthread.h>

#include <string>

namespace tugline {

/// Where another thread of this process is now, a call per line, innermost first; "" when it does not say so within half a second. It is
/// interrupted by a real-time signal. For reports about what does not move: one line of code is not kept from anything else.
std::string stack_of(pthread_t thread);

}  // namespace tugline
