// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace tugline {

/// The number of one of the signals that train.stop_signals may name ("USR2"): those that are requests and neither faults nor news. -1: another.
int signal_number(std::string_view name);

}  // namespace tugline
