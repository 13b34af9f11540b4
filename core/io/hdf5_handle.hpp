// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <hdf5.h>

#include <mutex>
#include <string>
#include <utility>

#include "tugline/core/dtype.hpp"

/// Private to core/io: the thin wall around the HDF5 library, which is not thread-safe.
namespace tugline::hdf5 {

/// Held around every sequence of HDF5 calls. Switches the library's own error printing off, which a thread-safe
/// build of it keeps per thread.
std::unique_lock<std::mutex> lock();

/// The outermost message of HDF5's error stack; what failed, for a sentence of ours.
std::string last_error();

/// Move-only owner of an hid_t; null after a move. Close functions differ by kind.
template <herr_t (*Close)(hid_t)>
class Handle {
 public:
  Handle() = default;
  explicit Handle(hid_t id) : id_(id) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    return *this;
  }
  ~Handle() {
    if (id_ >= 0) Close(id_);
  }
  hid_t get() const { return id_; }
  bool valid() const { return id_ >= 0; }
  /// For those who want the error.
  bool close() { return Close(std::exchange(id_, -1)) >= 0; }

 private:
  hid_t id_ = -1;
};
using File = Handle<H5Fclose>;
using Dataset = Handle<H5Dclose>;
using Dataspace = Handle<H5Sclose>;
using Datatype = Handle<H5Tclose>;
using Attribute = Handle<H5Aclose>;
using Properties = Handle<H5Pclose>;
using Group = Handle<H5Gclose>;

/// How every file is opened: closing it closes all that is open in it. Without locks, which many parallel file systems lack:
/// a file is written under a name of its own and appears whole, so there is nothing to lock.
Properties file_access();

/// The type in the file. bfloat16, which HDF5 does not know, is stored as uint16 with the attribute dtype = "bfloat16".
Datatype file_type(DType dtype);

}  // namespace tugline::hdf5
