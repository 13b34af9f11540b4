// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/run_updates.hpp"

#include <filesystem>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/metrics/append_file.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/run/run_directory.hpp"

namespace tugline {

namespace {

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf())) throw DataError(fmt::format("parallel.async.replay: {} cannot be read; name the folder of an asynchronous run", file.string()));
  return text.str();
}

/// An attempt was cut off while it wrote; what it wrote of is made again.
void cut_torn_line(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file) || std::filesystem::file_size(file) == 0) return;
  const std::string text = text_of(file);
  if (!text.ends_with('\n')) std::filesystem::resize_file(file, text.rfind('\n') + 1);
}

}  // namespace

std::shared_ptr<const RecordedUpdates> read_run_updates(const RunConfig& config, World& world) {
  const std::string& folder = config.parallel.async.replay;
  if (folder.empty()) return nullptr;
  const std::string file = RunPaths(folder).updates().string();
  std::string text;
  agree(world.control(), [&] {
    if (world.rank() == 0) text = text_of(file);
  });
  text = world.control().broadcast(text, 0);
  auto recorded = std::make_shared<RecordedUpdates>();
  agree(world.control(), [&] { *recorded = parse_updates(text, file); });
  return recorded;
}

std::function<void(const std::string& line)> open_update_record(const RunConfig& config, const RunPaths& paths, World& world) {
  if (config.parallel.strategy != "async") return nullptr;
  std::shared_ptr<AppendFile> file;
  agree(world.control(), [&] {
    if (world.rank() != 0) return;
    cut_torn_line(paths.updates());
    file = std::make_shared<AppendFile>(paths.updates());
  });
  if (!file) return nullptr;
  return [file](const std::string& line) { file->append(line); };
}

}  // namespace tugline
