// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "tugline/core/dtype.hpp"

namespace tugline {

/// One dataset of an HDF5 file, read by rows without loading the rest. Safe from any thread (one lock around the library).
class Hdf5Array {
 public:
  /// Throws DataError naming file and dataset: no such file, not HDF5, no such dataset, an element type Tugline does not read.
  static Hdf5Array open(const std::filesystem::path& file, const std::string& path);
  ~Hdf5Array();
  Hdf5Array(Hdf5Array&&) noexcept;
  Hdf5Array& operator=(Hdf5Array&&) noexcept;

  const std::vector<std::int64_t>& shape() const;   ///< [rows, ...]
  DType dtype() const;                              ///< integers that are not int32, int64 or uint8 are read as int64
  std::int64_t row_bytes() const;
  /// Copies rows [first, first + count) to `out`: count * row_bytes() bytes. Throws DataError.
  void read_rows(std::int64_t first, std::int64_t count, void* out) const;

 private:
  struct Impl;
  explicit Hdf5Array(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// "1.10.8"
std::string hdf5_version();

}  // namespace tugline
