// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace tugline::sweep {

/// One line "tugline 1 LENGTH CRC32C" before the payload, so that damage is found: docs/sweep-store.md.
std::string frame(std::string_view payload);

/// Why something cannot be read, as the end of a sentence: "is cut: ...".
struct Damage {
  std::string reason;
};

/// The payload of a text that is one frame and nothing else.
std::variant<std::string_view, Damage> unframe(std::string_view text);

/// The payload of the first whole frame of an append log that begins at or behind `at`, which then is where it ends; nullopt: there is none yet.
std::optional<std::string_view> next_frame(std::string_view log, std::size_t& at);

/// The payload of the newest frame of an append log that is whole, whatever is torn or broken around it; empty: there is none.
std::string_view newest_frame(std::string_view log);

}  // namespace tugline::sweep
