// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tugline::sweep {

/// What the trial store asks of a file system, and all of it, so that tests can put a worse one in its place. Lookups may be late (a file
/// that another host has made is not seen yet), link() decides. Any thread. Everything throws IoError with the file and the reason when
/// the file system says no; whether the call has had its effect is then unknown.
class Files {
 public:
  virtual ~Files() = default;
  /// Makes a file, which must not be there, with this content, on the disk when it returns.
  virtual void write_new(const std::filesystem::path& file, std::string_view content) = 0;
  /// link(2): 0 or its error, which may not be the truth: on NFS the reply to a link that was made can get lost, and what was made then
  /// "exists already".
  virtual int link(const std::filesystem::path& from, const std::filesystem::path& to) = 0;
  /// Names that the file has, asked of the server; nullopt: there is no such file.
  virtual std::optional<std::int64_t> link_count(const std::filesystem::path& file) = 0;
  /// In bytes; nullopt: there is no such file.
  virtual std::optional<std::int64_t> size(const std::filesystem::path& file) = 0;
  bool exists(const std::filesystem::path& file) { return size(file).has_value(); }
  /// What it holds from byte `from` on; nullopt: there is no such file.
  virtual std::optional<std::string> read(const std::filesystem::path& file, std::int64_t from) = 0;
  std::optional<std::string> read(const std::filesystem::path& file) { return read(file, 0); }
  /// At the end of a file, made where there is none; for others to see when it returns, not for a power cut to spare.
  virtual void append(const std::filesystem::path& file, std::string_view bytes) = 0;
  /// With the folders above it, durably. One that is there is left as it is.
  virtual void make_folder(const std::filesystem::path& folder) = 0;
  /// What was linked in the folder so far survives a power cut.
  virtual void sync_folder(const std::filesystem::path& folder) = 0;
  /// A file that is not there is no error.
  virtual void remove(const std::filesystem::path& file) = 0;
  /// Names in a folder, sorted; none where there is no folder.
  virtual std::vector<std::string> list(const std::filesystem::path& folder) = 0;
  /// Lets others go first.
  virtual void wait(double seconds) = 0;
};

/// The machine's own; lives for the whole process.
Files& real_files();

}  // namespace tugline::sweep
