// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/io/hdf5_array.hpp"

#include <functional>
#include <numeric>

#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/core/io/hdf5_handle.hpp"

namespace tugline {
namespace {

DType memory_dtype(hid_t type) {
  const H5T_class_t kind = H5Tget_class(type);
  const std::size_t size = H5Tget_size(type);
  if (kind == H5T_FLOAT) return size > 4 ? DType::float64 : DType::float32;
  if (kind == H5T_INTEGER && size == 1 && H5Tget_sign(type) == H5T_SGN_NONE) return DType::uint8;
  if (kind == H5T_INTEGER && size == 4 && H5Tget_sign(type) == H5T_SGN_2) return DType::int32;
  if (kind == H5T_INTEGER) return DType::int64;
  throw DataError("its elements are neither integers nor floating-point numbers");
}

}  // namespace

struct Hdf5Array::Impl {
  std::string name;   // "file: /dataset", for messages
  hdf5::File file;
  hdf5::Dataset dataset;
  std::vector<std::int64_t> shape;
  DType dtype = DType::float32;

  ~Impl() {
    const auto held = hdf5::lock();
    dataset = {};
    file = {};
  }
};

Hdf5Array::Hdf5Array(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Hdf5Array::~Hdf5Array() = default;
Hdf5Array::Hdf5Array(Hdf5Array&&) noexcept = default;
Hdf5Array& Hdf5Array::operator=(Hdf5Array&&) noexcept = default;

Hdf5Array Hdf5Array::open(const std::filesystem::path& file, const std::string& path) {
  if (!std::filesystem::exists(file)) throw DataError(fmt::format("{}: no such file", file.string()));
  auto impl = std::make_unique<Impl>();
  impl->name = file.string() + ": " + path;
  const auto held = hdf5::lock();
  impl->file = hdf5::File(H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
  if (!impl->file.valid()) throw DataError(fmt::format("{}: not an HDF5 file ({})", file.string(), hdf5::last_error()));
  impl->dataset = hdf5::Dataset(H5Dopen2(impl->file.get(), path.c_str(), H5P_DEFAULT));
  if (!impl->dataset.valid()) throw DataError(fmt::format("{}: no dataset '{}' in this file", file.string(), path));
  const hdf5::Dataspace space(H5Dget_space(impl->dataset.get()));
  const int rank = H5Sget_simple_extent_ndims(space.get());
  if (rank < 1) throw DataError(fmt::format("{}: a dataset of samples needs at least one dimension", impl->name));
  std::vector<hsize_t> sizes(static_cast<std::size_t>(rank));
  H5Sget_simple_extent_dims(space.get(), sizes.data(), nullptr);
  impl->shape.assign(sizes.begin(), sizes.end());
  const hdf5::Datatype type(H5Dget_type(impl->dataset.get()));
  try {
    impl->dtype = memory_dtype(type.get());
  } catch (const DataError& error) {
    throw DataError(impl->name + ": " + error.what());
  }
  return Hdf5Array(std::move(impl));
}

const std::vector<std::int64_t>& Hdf5Array::shape() const { return impl_->shape; }
DType Hdf5Array::dtype() const { return impl_->dtype; }

std::int64_t Hdf5Array::row_bytes() const {
  return std::accumulate(impl_->shape.begin() + 1, impl_->shape.end(), static_cast<std::int64_t>(size_of(impl_->dtype)),
                         std::multiplies<>());
}

void Hdf5Array::read_rows(std::int64_t first, std::int64_t count, void* out) const {
  const auto held = hdf5::lock();
  std::vector<hsize_t> start(impl_->shape.size(), 0), extent(impl_->shape.begin(), impl_->shape.end());
  start[0] = static_cast<hsize_t>(first);
  extent[0] = static_cast<hsize_t>(count);
  const hdf5::Dataspace there(H5Dget_space(impl_->dataset.get()));
  const hdf5::Dataspace here(H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr));
  const hdf5::Datatype type = hdf5::file_type(impl_->dtype);
  if (H5Sselect_hyperslab(there.get(), H5S_SELECT_SET, start.data(), nullptr, extent.data(), nullptr) < 0 ||
      H5Dread(impl_->dataset.get(), type.get(), here.get(), there.get(), H5P_DEFAULT, out) < 0) {
    const std::int64_t last = first + count - 1;
    throw DataError(fmt::format("{}: rows {} to {} cannot be read ({})", impl_->name, first, last, hdf5::last_error()));
  }
}

std::string hdf5_version() {
  unsigned major = 0, minor = 0, release = 0;
  const auto held = hdf5::lock();
  H5get_libversion(&major, &minor, &release);
  return fmt::format("{}.{}.{}", major, minor, release);
}

}  // namespace tugline
