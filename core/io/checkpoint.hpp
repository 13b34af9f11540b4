// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tugline/core/dtype.hpp"

namespace tugline {

/// One named array of a checkpoint; borrowed memory, C order.
struct ArrayView {
  std::string path;                    ///< "/parameters/layers.0.weight"
  DType dtype = DType::float32;
  std::vector<std::int64_t> shape;
  const void* data = nullptr;
};
/// The same, owned; what a reader gives.
struct Array {
  DType dtype = DType::float32;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> data;
};

/// Everything that continuing needs, as arrays and as strings (small JSON or YAML documents under "/meta/<name>").
struct CheckpointContent {
  std::vector<ArrayView> arrays;
  std::map<std::string, std::string> texts;
  std::map<std::string, std::string> links;   ///< path -> name of the slice in the same folder that holds the array
};

/// Writes `content` to `file` (HDF5 behind a user block that holds magic, version and an XXH3-128 digest of everything after it):
/// temporary name in the same folder, verify, reopen, fsync, rename, fsync of the folder; all of the file or nothing. Arrays are
/// written from where they lie. Returns the digest as text. Throws CheckpointError. Not collective. One lock around HDF5, so any thread
/// may call.
std::string write_checkpoint(const std::filesystem::path& file, const CheckpointContent& content);

/// Checks user block and digest before it opens the file as HDF5, and then those of its slices. Throws CheckpointError that says what is
/// wrong.
void verify_checkpoint(const std::filesystem::path& file);

/// A verified checkpoint, read wholly into memory, with the arrays of all its slices.
struct Checkpoint {
  std::map<std::string, Array> arrays;
  std::map<std::string, std::string> texts;
};
/// Verifies first. `wanted`: of the arrays, by path; null: all. Throws CheckpointError, also for a file that is itself a slice.
Checkpoint read_checkpoint(const std::filesystem::path& file, const std::function<bool(const std::string& path)>& wanted = {});

/// "/meta/manifest": which files a checkpoint is. The work of several writers is a slice from each, files of this format with arrays, and
/// the one that is named like a checkpoint, which has the texts, a link to each array, and the digests of the slices. It is written last.
struct Manifest {
  struct File {
    std::string name;              ///< in the same folder
    std::string digest;            ///< as write_checkpoint() returned it
  };
  std::int64_t slice = 0;          ///< of this file: 1 .. slices; 0: the file that names the others, or the only one
  std::int64_t slices = 1;         ///< 1: there is one file
  std::int64_t world_size = 1;     ///< ranks of the run that wrote it
  std::vector<File> files = {};    ///< where slice is 0: the others
};
std::string encode(const Manifest& manifest);
/// Throws CheckpointError, also for names that lead out of the folder.
Manifest decode_manifest(const std::string& text);
/// "step-00000010.2-of-3.h5" beside "step-00000010.h5".
std::filesystem::path slice_path(const std::filesystem::path& file, std::int64_t slice, std::int64_t slices);

/// A run's folder of checkpoints: step-<8 digits>.h5 files and their slices, and best.json, which names the best.
class CheckpointFolder {
 public:
  explicit CheckpointFolder(std::filesystem::path folder);
  struct Entry {
    std::filesystem::path file;
    std::int64_t step = 0;
  };
  std::vector<Entry> list() const;                                   ///< oldest first, by step
  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path path_of(std::int64_t step) const;
  /// The newest that verifies; adds a sentence to `skipped` for each newer one that does not. Empty path: none.
  std::filesystem::path newest_valid(std::vector<std::string>* skipped) const;
  void mark_best(std::int64_t step, const std::string& metric, double value);
  std::filesystem::path best() const;                                ///< empty: none marked
  std::int64_t bytes_of(const Entry& entry) const;                   ///< with its slices
  /// Keeps the newest `keep_last`, and the best where `keep_best`; clears what killed writers left. Slices of a newer step than any
  /// checkpoint has may be under way, and stay. `good_step`: the caller knows that this one is intact; -1: the newest that verifies is looked
  /// for.
  void prune(std::int64_t keep_last, bool keep_best, std::int64_t good_step = -1);
  void discard_step(std::int64_t step);                              ///< with its slices; where nobody writes
  bool set_aside(const std::filesystem::path& file);                 ///< renames it and its slices to *.set-aside; false: it cannot be

 private:
  std::vector<std::filesystem::path> slices_of(std::int64_t step) const;
  void discard_surplus(std::int64_t keep_last, bool keep_best, std::int64_t good_step);
  void discard_lone_slices();

  std::filesystem::path folder_;
};

}  // namespace tugline
