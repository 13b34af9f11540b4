// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

namespace tugline {

/// A folder for the temporary files of one attempt (an MPI's session directory and sockets), gone with it however the attempt ends: below
/// the system's, with a short name, since socket names are. Throws IoError.
class SessionFolder {
 public:
  SessionFolder();
  ~SessionFolder();
  SessionFolder(const SessionFolder&) = delete;
  SessionFolder& operator=(const SessionFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  int lock_ = -1;   // says that its owner lives
};

/// Deletes shared-memory files of MPI libraries in `folder` that belong to this user and that no process has mapped: their makers were
/// killed. Returns how many. Never throws.
int clear_shared_memory(const std::filesystem::path& folder = "/dev/shm") noexcept;

}  // namespace tugline
