// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <optional>
#include <regex>
#include <set>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/core/atomic_file.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/io/checkpoint.hpp"
#include "tugline/core/log.hpp"

namespace tugline {
namespace fs = std::filesystem;
namespace {

/// The step in "step-<8 or more digits>.h5"; nullopt for any other name.
std::optional<std::int64_t> step_of(std::string_view name) {
  constexpr std::string_view kPrefix = "step-", kSuffix = ".h5";
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  name.remove_suffix(kSuffix.size());
  std::int64_t step = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
  if (error != std::errc() || end != name.data() + name.size() || name.size() < 8 || step < 0) return std::nullopt;
  return step;
}

/// The step of "step-00000010.2-of-3.h5", finished or "….h5.<pid>.tmp"; nullopt for any other name.
std::optional<std::int64_t> step_of_slice(const std::string& name) {
  static const std::regex kSlice(R"((step-\d{8,})\.\d+-of-\d+\.h5(\.\d+\.tmp)?)");
  std::smatch parts;
  return std::regex_match(name, parts, kSlice) ? step_of(parts[1].str() + ".h5") : std::nullopt;
}

/// "step-00000010.h5.<pid>.tmp" of another process: one checkpoint has one writer, so that writer is dead.
bool is_left_over(const std::string& name) {
  return name.starts_with("step-") && name.ends_with(".tmp") && !step_of_slice(name) && !name.ends_with(fmt::format(".{}.tmp", ::getpid()));
}

/// A checkpoint too many is no reason to end a run.
void discard(const fs::path& file) {
  std::error_code error;
  fs::remove(file, error);
  if (error) log::warn("{}: cannot be deleted ({})", file.string(), error.message());
}

std::vector<fs::path> files_in(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> files;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) files.push_back(it->path());
  if (error && error != std::errc::no_such_file_or_directory) {
    throw CheckpointError(fmt::format("{}: cannot be listed ({})", folder.string(), error.message()));
  }
  return files;
}

}  // namespace

CheckpointFolder::CheckpointFolder(fs::path folder) : folder_(std::move(folder)) {}

fs::path CheckpointFolder::path_of(std::int64_t step) const { return folder_ / fmt::format("step-{:08}.h5", step); }

std::vector<CheckpointFolder::Entry> CheckpointFolder::list() const {
  std::vector<Entry> entries;
  for (const fs::path& file : files_in(folder_)) {
    if (const auto step = step_of(file.filename().string())) entries.push_back({file, *step});
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.step < b.step; });
  return entries;
}

fs::path CheckpointFolder::newest_valid(std::vector<std::string>* skipped) const {
  const auto entries = list();
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    try {
      verify_checkpoint(entry->file);
      return entry->file;
    } catch (const CheckpointError& error) {
      if (skipped != nullptr) skipped->push_back(fmt::format("skipped {}", error.what()));
    }
  }
  return {};
}

void CheckpointFolder::mark_best(std::int64_t step, const std::string& metric, double value) {
  const boost::json::value number = std::isfinite(value) ? boost::json::value(value) : boost::json::value(nullptr);
  write_file_atomically(folder_ / "best.json",
                        boost::json::serialize(boost::json::object{{"step", step}, {"metric", metric}, {"value", number}}) + "\n");
}

fs::path CheckpointFolder::best() const {
  std::ifstream in(folder_ / "best.json");
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  boost::system::error_code error;
  const auto value = boost::json::parse(text, error);
  if (error || !value.is_object() || !value.as_object().contains("step") || !value.at("step").is_int64()) return {};
  const fs::path file = path_of(value.at("step").as_int64());
  return fs::exists(file) ? file : fs::path();
}

std::vector<fs::path> CheckpointFolder::slices_of(std::int64_t step) const {
  std::vector<fs::path> slices = files_in(folder_);
  std::erase_if(slices, [&](const fs::path& file) { return step_of_slice(file.filename().string()) != step; });
  return slices;
}

std::int64_t CheckpointFolder::bytes_of(const Entry& entry) const {
  auto bytes = static_cast<std::int64_t>(fs::file_size(entry.file));
  for (const fs::path& slice : slices_of(entry.step)) bytes += static_cast<std::int64_t>(fs::file_size(slice));
  return bytes;
}

/// The file that names the others first: without it they are no checkpoint.
void CheckpointFolder::discard_step(std::int64_t step) {
  if (fs::exists(path_of(step))) discard(path_of(step));
  for (const fs::path& slice : slices_of(step)) discard(slice);
}

bool CheckpointFolder::set_aside(const fs::path& file) {
  const auto aside = [](const fs::path& one) {
    std::error_code error;
    fs::rename(one, one.string() + ".set-aside", error);
    return !error;
  };
  const auto step = step_of(file.filename().string());
  if (!step || !aside(file)) return false;
  for (const fs::path& slice : slices_of(*step)) aside(slice);
  return true;
}

/// Slices whose checkpoint never came, or is gone.
void CheckpointFolder::discard_lone_slices() {
  std::set<std::int64_t> steps;
  for (const Entry& entry : list()) steps.insert(entry.step);
  for (const fs::path& file : files_in(folder_)) {
    const std::string name = file.filename().string();
    const auto step = step_of_slice(name);
    if (!step || steps.empty() || *step > *steps.rbegin()) continue;
    if (steps.count(*step) == 0 || name.ends_with(".tmp")) discard(file);
  }
}

void CheckpointFolder::prune(std::int64_t keep_last, bool keep_best, std::int64_t good_step) {
  for (const fs::path& file : files_in(folder_)) {
    if (is_left_over(file.filename().string())) discard(file);
  }
  discard_surplus(keep_last, keep_best, good_step);
  discard_lone_slices();
}

/// Files go only when one of the `keep_last` newest verifies; else an old good one would be worth more.
void CheckpointFolder::discard_surplus(std::int64_t keep_last, bool keep_best, std::int64_t good_step) {
  auto entries = list();
  const std::int64_t surplus = static_cast<std::int64_t>(entries.size()) - std::max<std::int64_t>(keep_last, 1);
  if (surplus <= 0) return;
  const auto first_kept = entries.begin() + surplus;
  const fs::path newest_good = good_step >= 0 ? path_of(good_step) : newest_valid(nullptr);
  if (std::none_of(first_kept, entries.end(), [&](const Entry& entry) { return entry.file == newest_good; })) return;
  const fs::path best_file = keep_best ? best() : fs::path();
  entries.erase(first_kept, entries.end());
  for (const Entry& entry : entries) {
    if (entry.file != best_file) discard(entry.file);
  }
}

}  // namespace tugline
