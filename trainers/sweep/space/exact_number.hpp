// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include <boost/json/fwd.hpp>

namespace tugline::sweep {

/// The shortest text that reads back to the same bits; "nan", "inf", "-inf". JSON's own numbers do not: parsers may miss the last bit.
std::string exact_text(double value);
/// Nullopt when it is no such text.
std::optional<double> exact_number(const boost::json::value& text);

}  // namespace tugline::sweep
