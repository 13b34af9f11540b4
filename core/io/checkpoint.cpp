// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/io/checkpoint.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/core/io/hdf5_handle.hpp"
#include "tugline/core/io/user_block.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;

/// Writing goes on through several library calls; the first that fails ends it.
void require(bool ok, const fs::path& file, const std::string& what) {
  if (!ok) {
    const std::string system = errno != 0 ? fmt::format(", {}", std::strerror(errno)) : "";
    throw CheckpointError(fmt::format("{}: cannot write {} ({}{})", file.string(), what, hdf5::last_error(), system));
  }
}

void write_text_attribute(hid_t object, const char* name, const std::string& text) {
  const hdf5::Datatype type(H5Tcopy(H5T_C_S1));
  H5Tset_size(type.get(), std::max<std::size_t>(text.size(), 1));
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  const hdf5::Dataspace scalar(H5Screate(H5S_SCALAR));
  const hdf5::Attribute attribute(H5Acreate2(object, name, type.get(), scalar.get(), H5P_DEFAULT, H5P_DEFAULT));
  H5Awrite(attribute.get(), type.get(), text.data());
}

hdf5::Properties make_parents() {
  hdf5::Properties properties(H5Pcreate(H5P_LINK_CREATE));
  H5Pset_create_intermediate_group(properties.get(), 1);
  return properties;
}

void write_array(hid_t h5, const ArrayView& array, const fs::path& file) {
  const std::vector<hsize_t> shape(array.shape.begin(), array.shape.end());
  const hdf5::Dataspace space(shape.empty() ? H5Screate(H5S_SCALAR)
                                            : H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr));
  const hdf5::Datatype type = hdf5::file_type(array.dtype);
  const hdf5::Properties parents = make_parents();
  const hdf5::Dataset dataset(
      H5Dcreate2(h5, array.path.c_str(), type.get(), space.get(), parents.get(), H5P_DEFAULT, H5P_DEFAULT));
  require(dataset.valid(), file, array.path);
  write_text_attribute(dataset.get(), "dtype", std::string(name_of(array.dtype)));
  if (H5Sget_simple_extent_npoints(space.get()) == 0) return;
  require(H5Dwrite(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, array.data) >= 0, file, array.path);
}

void write_text(hid_t h5, const std::string& name, const std::string& text, const fs::path& file) {
  const std::string path = "/meta/" + name;
  const hdf5::Datatype type(H5Tcopy(H5T_C_S1));
  H5Tset_size(type.get(), H5T_VARIABLE);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  const hdf5::Dataspace scalar(H5Screate(H5S_SCALAR));
  const hdf5::Properties parents = make_parents();
  const hdf5::Dataset dataset(H5Dcreate2(h5, path.c_str(), type.get(), scalar.get(), parents.get(), H5P_DEFAULT, H5P_DEFAULT));
  require(dataset.valid(), file, path);
  const char* data = text.c_str();
  require(H5Dwrite(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, &data) >= 0, file, path);
}

void write_hdf5(const fs::path& temporary, const CheckpointContent& content, const fs::path& file) {
  const auto held = hdf5::lock();
  errno = 0;
  hdf5::Properties create(H5Pcreate(H5P_FILE_CREATE));
  H5Pset_userblock(create.get(), kUserBlockBytes);
  hdf5::Properties access(H5Pcreate(H5P_FILE_ACCESS));
  H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG);
  hdf5::File h5(H5Fcreate(temporary.c_str(), H5F_ACC_TRUNC, create.get(), access.get()));
  require(h5.valid(), file, "the file");
  for (const ArrayView& array : content.arrays) write_array(h5.get(), array, file);
  for (const auto& [name, text] : content.texts) write_text(h5.get(), name, text, file);
  require(h5.close(), file, "the end of the file");
}

/// HDF5 must find in the file what was put into it: a leaked handle or a full disk shows here, not at the next resume.
void reopen(const fs::path& temporary, const CheckpointContent& content, const fs::path& file) {
  const auto held = hdf5::lock();
  const hdf5::File h5(H5Fopen(temporary.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
  require(h5.valid(), file, "a file that opens again");
  for (const ArrayView& array : content.arrays) {
    require(H5Lexists(h5.get(), array.path.c_str(), H5P_DEFAULT) > 0, file, array.path);
  }
}

void sync_path(const fs::path& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC);
  if (fd < 0) throw CheckpointError(fmt::format("{}: {}", path.string(), std::strerror(errno)));
  const int status = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  if (status != 0 && error != EINVAL) throw CheckpointError(fmt::format("{}: cannot sync ({})", path.string(), std::strerror(error)));
}

DType stored_dtype(hid_t dataset, const std::string& path) {
  char name[32] = {};
  const hdf5::Attribute attribute(H5Aopen(dataset, "dtype", H5P_DEFAULT));
  if (!attribute.valid()) throw CheckpointError("dataset " + path + " has no dtype attribute");
  const hdf5::Datatype type(H5Aget_type(attribute.get()));
  if (H5Tget_size(type.get()) >= sizeof name || H5Aread(attribute.get(), type.get(), name) < 0) {
    throw CheckpointError("dataset " + path + " has an unreadable dtype attribute");
  }
  return dtype_from_name(name);
}

Array read_array(hid_t dataset, const std::string& path) {
  Array array;
  array.dtype = stored_dtype(dataset, path);
  const hdf5::Dataspace space(H5Dget_space(dataset));
  std::vector<hsize_t> shape(static_cast<std::size_t>(std::max(0, H5Sget_simple_extent_ndims(space.get()))));
  H5Sget_simple_extent_dims(space.get(), shape.data(), nullptr);
  array.shape.assign(shape.begin(), shape.end());
  const auto count = static_cast<std::size_t>(H5Sget_simple_extent_npoints(space.get()));
  array.data.resize(count * size_of(array.dtype));
  const hdf5::Datatype type = hdf5::file_type(array.dtype);
  if (count > 0 && H5Dread(dataset, type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, array.data.data()) < 0) {
    throw CheckpointError("dataset " + path + " cannot be read (" + hdf5::last_error() + ")");
  }
  return array;
}

std::string read_text(hid_t dataset) {
  const hdf5::Datatype type(H5Dget_type(dataset));
  const hdf5::Dataspace space(H5Dget_space(dataset));
  char* data = nullptr;
  if (H5Dread(dataset, type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, &data) < 0) {
    throw CheckpointError("a text cannot be read (" + hdf5::last_error() + ")");
  }
  std::string text = data != nullptr ? data : "";
  H5Dvlen_reclaim(type.get(), space.get(), H5P_DEFAULT, &data);
  return text;
}

/// Visits every dataset; exceptions may not cross the C library, so paths are collected first.
std::vector<std::string> dataset_paths(hid_t h5) {
  std::vector<std::string> paths;
  const auto visit = [](hid_t, const char* name, const H5O_info_t* info, void* out) -> herr_t {
    if (info->type == H5O_TYPE_DATASET) static_cast<std::vector<std::string>*>(out)->push_back(std::string("/") + name);
    return 0;
  };
  H5Ovisit(h5, H5_INDEX_NAME, H5_ITER_INC, visit, &paths);
  return paths;
}

}  // namespace

void write_checkpoint(const fs::path& file, const CheckpointContent& content) {
  const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
  const fs::path temporary = fmt::format("{}.{}.tmp", file.string(), ::getpid());
  try {
    fs::create_directories(folder);
    write_hdf5(temporary, content, file);
    write_user_block(temporary);
    sync_path(temporary, O_RDONLY);
    verify_checkpoint(temporary);
    reopen(temporary, content, file);
    fs::rename(temporary, file);
    sync_path(folder, O_RDONLY | O_DIRECTORY);
  } catch (const fs::filesystem_error& error) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw CheckpointError(fmt::format("{}: cannot write ({})", file.string(), error.code().message()));
  } catch (...) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw;
  }
}

void verify_checkpoint(const fs::path& file) { verify_user_block(file); }

Checkpoint read_checkpoint(const fs::path& file) {
  verify_checkpoint(file);
  const auto held = hdf5::lock();
  const hdf5::File h5(H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
  if (!h5.valid()) throw CheckpointError(fmt::format("{}: HDF5 cannot open it ({})", file.string(), hdf5::last_error()));
  Checkpoint result;
  try {
    for (const std::string& path : dataset_paths(h5.get())) {
      const hdf5::Dataset dataset(H5Dopen2(h5.get(), path.c_str(), H5P_DEFAULT));
      if (path.starts_with("/meta/")) {
        result.texts[path.substr(6)] = read_text(dataset.get());
      } else {
        result.arrays[path] = read_array(dataset.get(), path);
      }
    }
  } catch (const Error& error) {
    throw CheckpointError(file.string() + ": " + error.what());
  }
  return result;
}

}  // namespace tugline
