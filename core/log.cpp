// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/log.hpp"

#include <spdlog/logger.h>
#include <spdlog/sinks/basic_file_sink.h>

#include <cstdio>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "tugline/core/error.hpp"

namespace tugline::log {
namespace {

struct State {
  std::mutex mutex;
  int rank = 0;
  std::shared_ptr<spdlog::logger> file;
  Console console;
  std::set<std::string, std::less<>> warned;
};

// Logging must work before main has made anything and while it falls apart, hence process-wide.
State& state() {
  static State instance;
  return instance;
}

spdlog::level::level_enum spdlog_level(Level level) {
  switch (level) {
    case Level::info:
      return spdlog::level::info;
    case Level::warn:
      return spdlog::level::warn;
    case Level::error:
      break;
  }
  return spdlog::level::err;
}

std::string console_line(Level level, int rank, std::string_view text) {
  const std::string_view kind = level == Level::info ? "" : level == Level::warn ? "warning: " : "error: ";
  return rank == 0 ? fmt::format("{}{}", kind, text) : fmt::format("[rank {}] {}{}", rank, kind, text);
}

bool belongs_on_console(State& now, Level level, std::string_view text) {
  if (level == Level::error) return true;
  if (now.rank != 0) return false;
  return level == Level::info || now.warned.emplace(text).second;
}

}  // namespace

void write(Level level, std::string_view text) noexcept try {
  State& now = state();
  const std::lock_guard lock(now.mutex);
  if (now.file) now.file->log(spdlog_level(level), spdlog::string_view_t(text.data(), text.size()));
  if (!belongs_on_console(now, level, text)) return;
  std::string line = console_line(level, now.rank, text);
  if (now.console) return now.console(line);
  // One call per line: ranks' lines may interleave, their letters must not.
  line += '\n';
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
} catch (...) {  // a message that cannot be shown is no reason to stop a training run
}

void set_rank(int rank) {
  const std::lock_guard lock(state().mutex);
  state().rank = rank;
}

void open_rank_file(const std::filesystem::path& file, int rank) try {
  auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(file.string());
  auto logger = std::make_shared<spdlog::logger>("rank", std::move(sink));
  logger->set_pattern(fmt::format("%Y-%m-%d %H:%M:%S.%e [rank {}] %l: %v", rank));
  logger->flush_on(spdlog::level::info);
  const std::lock_guard lock(state().mutex);
  state().rank = rank;
  state().file = std::move(logger);
} catch (const spdlog::spdlog_ex& error) {
  throw IoError(fmt::format("cannot open the log file {}: {}", file.string(), error.what()));
}

void close_rank_file() noexcept {
  const std::lock_guard lock(state().mutex);
  state().file.reset();
}

void set_console(Console console) {
  const std::lock_guard lock(state().mutex);
  state().console = std::move(console);
}

}  // namespace tugline::log
