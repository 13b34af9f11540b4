// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/io/hdf5_handle.hpp"

namespace tugline::hdf5 {

std::unique_lock<std::mutex> lock() {
  static std::mutex mutex;
  std::unique_lock<std::mutex> held(mutex);
  thread_local const bool quiet = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
  (void)quiet;
  return held;
}

std::string last_error() {
  std::string text;
  const auto visit = [](unsigned, const H5E_error2_t* entry, void* out) -> herr_t {
    if (entry->desc != nullptr) *static_cast<std::string*>(out) = entry->desc;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, visit, &text);
  return text.empty() ? "unknown HDF5 error" : text;
}

namespace {

Datatype copy_of(hid_t type) { return Datatype(H5Tcopy(type)); }

/// IEEE 754 binary16, which HDF5 1.10 can describe but does not predefine.
Datatype half() {
  Datatype type = copy_of(H5T_IEEE_F32LE);
  H5Tset_fields(type.get(), 15, 10, 5, 0, 10);
  H5Tset_size(type.get(), 2);
  H5Tset_ebias(type.get(), 15);
  return type;
}

}  // namespace

Properties file_access() {
  Properties access(H5Pcreate(H5P_FILE_ACCESS));
  H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG);
  H5Pset_file_locking(access.get(), false, true);
  return access;
}

Datatype file_type(DType dtype) {
  switch (dtype) {
    case DType::float32: return copy_of(H5T_IEEE_F32LE);
    case DType::float64: return copy_of(H5T_IEEE_F64LE);
    case DType::float16: return half();
    case DType::bfloat16: return copy_of(H5T_STD_U16LE);
    case DType::int64: return copy_of(H5T_STD_I64LE);
    case DType::int32: return copy_of(H5T_STD_I32LE);
    case DType::uint8:
    case DType::boolean: return copy_of(H5T_STD_U8LE);
  }
  return {};
}

}  // namespace tugline::hdf5
