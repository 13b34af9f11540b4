// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace tugline {

/// What a folder's file system did when tried. Each text is empty when all went well, else says what went wrong.
struct FileSystemFacts {
  std::string folder;  ///< the one tried: the run's, or the nearest above that exists
  std::string write;   ///< make a folder, write a file there
  std::string sync;    ///< fsync of a file and of its folder
  std::string rename;  ///< rename over an existing file
  std::string lock;    ///< a second flock of the same file is refused
  std::string link;    ///< link(2) works, and refuses a name that is taken
  std::int64_t free_bytes = 0;
};

/// A scratch folder inside `folder` (or inside the nearest parent that exists), gone with this object.
class FileSystemProbe {
 public:
  explicit FileSystemProbe(const std::filesystem::path& folder);
  ~FileSystemProbe();
  FileSystemProbe(const FileSystemProbe&) = delete;
  FileSystemProbe& operator=(const FileSystemProbe&) = delete;

  const FileSystemFacts& facts() const { return facts_; }
  /// A file that is there as long as the probe is, for others to look for; empty when nothing can be written.
  const std::filesystem::path& token() const { return token_; }

 private:
  std::filesystem::path scratch_, token_;
  FileSystemFacts facts_;
};

}  // namespace tugline
