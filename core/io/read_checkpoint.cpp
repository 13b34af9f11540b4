// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <filesystem>
#include <optional>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/core/io/checkpoint.hpp"
#include "tugline/core/io/hdf5_handle.hpp"
#include "tugline/core/io/user_block.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr const char* kManifest = "/meta/manifest";

DType stored_dtype(hid_t dataset, const std::string& path) {
  char name[32] = {};
  const hdf5::Attribute attribute(H5Aopen(dataset, "dtype", H5P_DEFAULT));
  if (!attribute.valid()) throw CheckpointError("dataset " + path + " has no dtype attribute");
  const hdf5::Datatype type(H5Aget_type(attribute.get()));
  if (H5Aget_storage_size(attribute.get()) >= sizeof name || H5Aread(attribute.get(), type.get(), name) < 0) {
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
  if (H5Dget_storage_size(dataset) / size_of(array.dtype) < count) {   // else a made-up shape could ask for any amount of memory
    throw CheckpointError("dataset " + path + " holds fewer values than its shape says");
  }
  array.data.resize(count * size_of(array.dtype));
  const hdf5::Datatype type = hdf5::file_type(array.dtype);
  if (count > 0 && H5Dread(dataset, type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, array.data.data()) < 0) {
    throw CheckpointError("dataset " + path + " cannot be read (" + hdf5::last_error() + ")");
  }
  return array;
}

std::string read_text(hid_t dataset, const std::string& path) {
  const hdf5::Datatype type(H5Dget_type(dataset));
  const hdf5::Dataspace space(H5Dget_space(dataset));
  if (H5Tis_variable_str(type.get()) <= 0 || H5Sget_simple_extent_npoints(space.get()) != 1) {
    throw CheckpointError(path + " is not a single text");
  }
  char* data = nullptr;
  if (H5Dread(dataset, type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, &data) < 0) {
    throw CheckpointError(path + " cannot be read (" + hdf5::last_error() + ")");
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
  if (H5Ovisit(h5, H5_INDEX_NAME, H5_ITER_INC, visit, &paths) < 0) {
    throw CheckpointError("its datasets cannot be listed (" + hdf5::last_error() + ")");
  }
  return paths;
}

hdf5::File open_file(const fs::path& file) {
  const hdf5::Properties access = hdf5::file_access();
  hdf5::File h5(H5Fopen(file.c_str(), H5F_ACC_RDONLY, access.get()));
  if (!h5.valid()) throw CheckpointError(fmt::format("HDF5 cannot open it ({})", hdf5::last_error()));
  return h5;
}

/// Of a verified file.
Manifest manifest_in(const fs::path& file) {
  const auto held = hdf5::lock();
  const hdf5::File h5 = open_file(file);
  if (H5Lexists(h5.get(), "/meta", H5P_DEFAULT) <= 0 || H5Lexists(h5.get(), kManifest, H5P_DEFAULT) <= 0) return {};
  const hdf5::Dataset dataset(H5Dopen2(h5.get(), kManifest, H5P_DEFAULT));
  if (!dataset.valid()) throw CheckpointError(fmt::format("{} cannot be opened ({})", kManifest, hdf5::last_error()));
  return decode_manifest(read_text(dataset.get(), kManifest));
}

/// The file, and then its slices: each is what was written with the others. Calls `also`, when given, with each and the first one's manifest.
void visit_files(const fs::path& file, const std::function<void(const fs::path&, const Manifest&)>& also) {
  Manifest manifest;
  const auto each = [&](const fs::path& path, const std::string* digest) {
    const std::string found = verify_user_block(path);
    try {
      if (digest != nullptr && found != *digest) throw CheckpointError("not the slice that " + file.filename().string() + " was written with");
      if (digest == nullptr) manifest = manifest_in(path);
      if (also) also(path, manifest);
    } catch (const std::exception& error) {   // bad_alloc too: more than fits into memory
      throw CheckpointError(path.string() + ": " + error.what());
    }
  };
  each(file, nullptr);
  for (const auto& slice : manifest.files) each(file.parent_path() / slice.name, &slice.digest);
}

}  // namespace

void verify_checkpoint(const fs::path& file) { visit_files(file, {}); }

Checkpoint read_checkpoint(const fs::path& file, const std::function<bool(const std::string& path)>& wanted) {
  Checkpoint result;
  const auto read = [&](hid_t h5, const std::string& path, bool first) {
    const bool text = path.starts_with("/meta/");
    if (text ? !first : wanted && !wanted(path)) return;
    const hdf5::Dataset dataset(H5Dopen2(h5, path.c_str(), H5P_DEFAULT));
    if (!dataset.valid()) throw CheckpointError(path + " cannot be opened (" + hdf5::last_error() + ")");
    if (text) {
      result.texts[path.substr(6)] = read_text(dataset.get(), path);
    } else if (!result.arrays.emplace(path, read_array(dataset.get(), path)).second) {
      throw CheckpointError(path + " is in two slices");
    }
  };
  visit_files(file, [&](const fs::path& part, const Manifest& manifest) {
    const bool first = part == file;
    if (manifest.slice != 0) throw CheckpointError("a slice of a checkpoint; give the file without its number");
    const auto held = hdf5::lock();
    const hdf5::File h5 = open_file(part);
    for (const std::string& path : dataset_paths(h5.get())) read(h5.get(), path, first);
  });
  return result;
}

std::string encode(const Manifest& manifest) {
  json::object object{{"slice", manifest.slice}, {"slices", manifest.slices}, {"world_size", manifest.world_size}};
  json::array files;
  for (const auto& file : manifest.files) files.push_back(json::object{{"name", file.name}, {"xxh3_128", file.digest}});
  if (!files.empty()) object["files"] = std::move(files);
  return json::serialize(object);
}

Manifest decode_manifest(const std::string& text) try {
  const json::value value = json::parse(text);
  Manifest manifest;
  manifest.slice = value.at("slice").to_number<std::int64_t>();
  manifest.slices = value.at("slices").to_number<std::int64_t>();
  manifest.world_size = value.at("world_size").to_number<std::int64_t>();
  if (const json::value* const files = value.as_object().if_contains("files")) {
    for (const json::value& file : files->as_array()) {
      manifest.files.push_back({json::value_to<std::string>(file.at("name")), json::value_to<std::string>(file.at("xxh3_128"))});
    }
  }
  for (const auto& file : manifest.files) {
    if (file.name.empty() || file.name == ".." || file.name.find('/') != file.name.npos) {
      throw CheckpointError("'" + file.name + "' is no name of a file in the same folder");
    }
  }
  const bool names_others = manifest.slice == 0 && manifest.slices != 1;
  if (static_cast<std::int64_t>(manifest.files.size()) != (names_others ? manifest.slices : 0)) {
    throw CheckpointError(fmt::format("{} slices, and {} files", manifest.slices, manifest.files.size()));
  }
  return manifest;
} catch (const std::exception& error) {
  throw CheckpointError(fmt::format("{} cannot be read: {}", kManifest, error.what()));
}

fs::path slice_path(const fs::path& file, std::int64_t slice, std::int64_t slices) {
  return file.parent_path() / fmt::format("{}.{}-of-{}{}", file.stem().string(), slice, slices, file.extension().string());
}

}  // namespace tugline
