// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
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
};

/// Writes `content` to `file` (HDF5 behind a user block that holds magic, version and an XXH3-128 digest of everything after it):
/// temporary name in the same folder, verify, reopen, fsync, rename, fsync of the folder; all of the file or nothing. Arrays are
/// written from where they lie. Throws CheckpointError. Not collective. One lock around HDF5, so any thread may call.
void write_checkpoint(const std::filesystem::path& file, const CheckpointContent& content);

/// Checks user block and digest without opening the file as HDF5. Throws CheckpointError that says what is wrong.
void verify_checkpoint(const std::filesystem::path& file);

/// A verified checkpoint, read wholly into memory.
struct Checkpoint {
  std::map<std::string, Array> arrays;
  std::map<std::string, std::string> texts;
};
Checkpoint read_checkpoint(const std::filesystem::path& file);   ///< verifies first

/// A run's folder of checkpoints: step-<8 digits>.h5 files, and best.json, which names the best.
class CheckpointFolder {
 public:
  explicit CheckpointFolder(std::filesystem::path folder);
  struct Entry {
    std::filesystem::path file;
    std::int64_t step = 0;
  };
  std::vector<Entry> list() const;                                   ///< oldest first, by step
  std::filesystem::path path_of(std::int64_t step) const;
  /// The newest that verifies; adds a sentence to `skipped` for each newer one that does not. Empty path: none.
  std::filesystem::path newest_valid(std::vector<std::string>* skipped) const;
  void mark_best(std::int64_t step, const std::string& metric, double value);
  std::filesystem::path best() const;                                ///< empty: none marked
  /// Keeps the newest `keep_last`, and the best where `keep_best`; clears what killed writers left.
  void prune(std::int64_t keep_last, bool keep_best);

 private:
  std::filesystem::path folder_;
};

}  // namespace tugline
