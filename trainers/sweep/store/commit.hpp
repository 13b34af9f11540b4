// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>

#include "tugline/trainers/sweep/store/files.hpp"

namespace tugline::sweep {

/// Puts a text at a place that belongs to whoever comes first: a temporary file, fsync, link(2), fsync of the folder.
class Committer {
 public:
  enum class Outcome {
    made,     ///< the place holds this text, durably
    found,    ///< it is another's, and was before anything was written
    raced,    ///< another was first while this text was being written
  };

  /// Temporary files are folder/tmp/WORKER_N_PLACE; no other object may have this worker's name.
  Committer(Files& files, std::filesystem::path folder, std::string worker)
      : files_(files), temporaries_(folder / "tmp"), worker_(std::move(worker)) {}

  /// Throws IoError; then the same call may be made again, and finds what the one before has done.
  Outcome commit(const std::filesystem::path& place, std::string_view text);
  /// Whether another's temporary file for the first entry of this job or one behind it is there. Only a hint: it may be of a dead process, or
  /// be seen late.
  bool is_job_being_made(std::int64_t number);
  /// Makes it the first time it is asked for.
  void need_folder(const std::filesystem::path& folder);
  /// Removes the temporary files of a worker that has been silent for a lease. Should it live after all, its commit throws and can be
  /// made again.
  void sweep_up_after(const std::string& worker);

 private:
  bool write_and_link(const std::filesystem::path& place, std::string_view text);

  Files& files_;
  std::filesystem::path temporaries_;
  std::string worker_;
  std::int64_t written_ = 0;
  std::set<std::filesystem::path> folders_;
  std::set<std::filesystem::path> unsure_;   // places at which a call of ours threw: it may have made the link
};

}  // namespace tugline::sweep
