// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/fwd.hpp>

#include <string>

namespace tugline {

/// JSON for people and for every parser: doubles in their shortest exact form ("0.1", not "1E-1"), and NaN and infinities,
/// which JSON does not have, as the strings "nan", "inf" and "-inf".
std::string json_line(const boost::json::value&);    ///< on one line, no newline at the end
std::string json_pretty(const boost::json::value&);  ///< indented by two, newline at the end

/// The double behind a JSON number, or behind one of those three strings. Throws Error on anything else.
double json_double(const boost::json::value&);

}  // namespace tugline
