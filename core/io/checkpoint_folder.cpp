// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <fstream>
#include <optional>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/core/atomic_file.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/io/checkpoint.hpp"

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

}  // namespace

CheckpointFolder::CheckpointFolder(fs::path folder) : folder_(std::move(folder)) {}

fs::path CheckpointFolder::path_of(std::int64_t step) const { return folder_ / fmt::format("step-{:08}.h5", step); }

std::vector<CheckpointFolder::Entry> CheckpointFolder::list() const {
  std::vector<Entry> entries;
  std::error_code error;
  for (const auto& file : fs::directory_iterator(folder_, error)) {
    if (const auto step = step_of(file.path().filename().string())) entries.push_back({file.path(), *step});
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
  write_file_atomically(folder_ / "best.json",
                        boost::json::serialize(boost::json::object{{"step", step}, {"metric", metric}, {"value", value}}) + "\n");
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

/// What is deleted is older than `keep_last` newer ones; if none of those verified, an old good one would be worth more.
void CheckpointFolder::prune(std::int64_t keep_last, bool keep_best) {
  const auto entries = list();
  const fs::path best_file = keep_best ? best() : fs::path();
  const auto count = static_cast<std::int64_t>(entries.size());
  const std::int64_t keep = std::max<std::int64_t>(keep_last, 1);
  if (count <= keep) return;
  const bool newest_is_good = newest_valid(nullptr) >= entries[static_cast<std::size_t>(count - keep)].file;
  for (std::int64_t i = 0; i < count - keep && newest_is_good; ++i) {
    const auto& file = entries[static_cast<std::size_t>(i)].file;
    if (file != best_file) fs::remove(file);
  }
}

}  // namespace tugline
