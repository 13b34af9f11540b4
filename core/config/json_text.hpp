// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json/value.hpp>
#include <string>

namespace tugline::config {

enum class Layout { one_line, indented };

/// JSON with numbers as people write them (0.1, not 1E-1), which Boost.JSON's own writer does not do.
std::string json_text(const boost::json::value&, Layout);

}  // namespace tugline::config
