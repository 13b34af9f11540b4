// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tugline/core/config/run_config_notes.hpp"
#include "tugline/core/config/tree.hpp"

namespace tugline::config {

/// Reads a scalar of the type that the key has: "1e3" is a number for a number and three letters for a text. False, with
/// `out` unchanged, when it is not of that type or not allowed.
bool read_scalar(const Tree&, const Allowed&, bool& out);
bool read_scalar(const Tree&, const Allowed&, int& out);
bool read_scalar(const Tree&, const Allowed&, std::int64_t& out);
bool read_scalar(const Tree&, const Allowed&, std::uint64_t& out);
bool read_scalar(const Tree&, const Allowed&, double& out);
bool read_scalar(const Tree&, const Allowed&, std::string& out);

/// The shortest text that reads back to the same double, with a point so that every reader takes it for one: 1.0,
/// 0.1, 1.0e-08.
std::string number_text(double value);

/// Where the first byte stands that is no UTF-8, npos: none. YAML and JSON hold nothing else.
std::size_t invalid_utf8(std::string_view text);

}  // namespace tugline::config
