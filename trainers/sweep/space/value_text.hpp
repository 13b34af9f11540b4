// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tugline/core/config/tree.hpp"

namespace tugline::sweep {

/// A value of the file as the right side of a command-line override: sgd, 0.1, [16,32], 'a b'. Maps have none.
std::string value_text(const config::Tree& value);
/// The way back.
config::Tree value_tree(const std::string& text);

std::optional<double> as_number(const config::Tree& value);
std::optional<bool> as_bool(const config::Tree& value);

/// "model.hidden[i]", 2 -> "model.hidden[2]".
std::string with_element(std::string text, std::int64_t element);
/// Whether it has an [i].
bool is_repeated(std::string_view key);
/// "model.hidden[2]" -> "model.hidden"; as it is when it does not end with an index.
std::string_view list_key(std::string_view key);

}  // namespace tugline::sweep
