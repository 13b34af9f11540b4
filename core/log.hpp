// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <functional>
#include <string_view>
#include <utility>

/// What a run says to people, apart from its results. Every rank writes all of it to its own file, where one is open. The
/// console gets rank 0's lines, the same warning only once, and every rank's errors. Thread-safe; nothing here throws but
/// open_rank_file.
namespace tugline::log {

enum class Level { info, warn, error };

void write(Level level, std::string_view text) noexcept;

template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::warn, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::error, fmt::format(format, std::forward<Args>(args)...));
}

/// Which rank this process is; 0 until told.
void set_rank(int rank);

/// Appends to `file` from now on, each line with time, rank and level, flushed at once. Sets the rank too. Throws IoError.
void open_rank_file(const std::filesystem::path& file, int rank);
void close_rank_file() noexcept;

/// Where console lines go; they come without a newline. Whoever draws on the terminal takes them here, so that a line never
/// lands in a drawing; null gives them back to stderr. It must not log itself.
using Console = std::function<void(std::string_view line)>;
void set_console(Console console);

}  // namespace tugline::log
