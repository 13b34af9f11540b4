// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace tugline {

/// Figures as a person writes them.
std::string duration_text(double seconds);  ///< "0:42", "3:58", "2:07:15"
std::string number_text(double value);      ///< four significant digits, an exponent only where it is needed

}  // namespace tugline
