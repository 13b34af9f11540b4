// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/store/commit.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "tugline/core/error.hpp"

namespace tugline::sweep {
namespace {

/// Gone with this object, if the file system lets it; what stays is swept up by others.
class Temporary {
 public:
  Temporary(Files& files, std::filesystem::path file) : files_(files), file_(std::move(file)) {}
  ~Temporary() {
    try {
      files_.remove(file_);
    } catch (...) {
    }
  }
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;
  const std::filesystem::path& file() const { return file_; }

 private:
  Files& files_;
  std::filesystem::path file_;
};

}  // namespace

Committer::Outcome Committer::commit(const std::filesystem::path& place, std::string_view text) {
  const std::filesystem::path folder = place.parent_path();
  Outcome outcome = Outcome::made;
  if (const auto there = files_.read(place)) {
    if (*there != text) outcome = Outcome::found;
  } else {
    need_folder(temporaries_);
    need_folder(folder);
    try {
      if (!write_and_link(place, text)) outcome = Outcome::raced;
    } catch (...) {
      folders_.clear();   // somebody may have removed one
      throw;
    }
  }
  unsure_.insert(place);
  if (outcome == Outcome::made) files_.sync_folder(folder);
  unsure_.erase(place);
  return outcome;
}

/// False: the place is another's. A link that failed may have been made all the same. The text at the place tells for certain, since it
/// names the worker and what it does here; where that lookup is late, the count of links does, unless it was an earlier call's file.
bool Committer::write_and_link(const std::filesystem::path& place, std::string_view text) {
  // Never a name twice: one that could not be removed may be a second name of a committed entry.
  const Temporary temporary(files_, temporaries_ / fmt::format("{}_{}_{}", worker_, written_++, place.filename().string()));
  files_.write_new(temporary.file(), text);
  const int error = files_.link(temporary.file(), place);
  if (error == 0) return true;
  const bool was_unsure = !unsure_.insert(place).second;
  if (const auto there = files_.read(place)) return *there == text;
  const auto count = files_.link_count(temporary.file());
  if (count && *count > 1) return true;
  if (count && error == EEXIST && !was_unsure) return false;
  throw IoError(fmt::format("cannot link {}: {}{}", place.string(), std::strerror(error),
                            error == EEXIST ? ", and whose it is cannot be seen yet" : ""));
}

bool Committer::is_job_being_made(std::int64_t number) {
  const std::vector<std::string> names = files_.list(temporaries_);
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    std::int64_t job = -1;
    std::from_chars(name.data() + name.rfind('_') + 1, name.data() + name.size(), job);
    return job >= number && name.ends_with(".0") && !name.starts_with(worker_ + "_");
  });
}

void Committer::need_folder(const std::filesystem::path& folder) {
  if (folders_.contains(folder)) return;
  files_.make_folder(folder);
  folders_.insert(folder);
}

void Committer::sweep_up_after(const std::string& worker) {
  for (const std::string& name : files_.list(temporaries_)) {
    if (name.starts_with(worker + "_")) files_.remove(temporaries_ / name);
  }
}

}  // namespace tugline::sweep
