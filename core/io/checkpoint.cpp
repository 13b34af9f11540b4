// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/io/checkpoint.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <span>
#include <string_view>

#include <fmt/format.h>

#include "tugline/core/atomic_file.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/io/hdf5_handle.hpp"
#include "tugline/core/io/user_block.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;

/// Writing goes on through several library calls; the first that fails ends it.
void require(bool ok, const fs::path& file, const std::string& what) {
  if (!ok) throw CheckpointError(fmt::format("{}: cannot write {} ({})", file.string(), what, hdf5::last_error()));
}

bool write_text_attribute(hid_t object, const char* name, const std::string& text) {
  const hdf5::Datatype type(H5Tcopy(H5T_C_S1));
  H5Tset_size(type.get(), std::max<std::size_t>(text.size(), 1));
  H5Tset_strpad(type.get(), H5T_STR_NULLPAD);   // all bytes are text, no end mark
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  const hdf5::Dataspace scalar(H5Screate(H5S_SCALAR));
  const hdf5::Attribute attribute(H5Acreate2(object, name, type.get(), scalar.get(), H5P_DEFAULT, H5P_DEFAULT));
  return H5Awrite(attribute.get(), type.get(), text.data()) >= 0;
}

hdf5::Properties make_parents() {
  hdf5::Properties properties(H5Pcreate(H5P_LINK_CREATE));
  H5Pset_create_intermediate_group(properties.get(), 1);
  return properties;
}

std::string_view bytes_of(const ArrayView& array) {
  std::size_t count = 1;
  for (const std::int64_t size : array.shape) count *= static_cast<std::size_t>(size);
  return {static_cast<const char*>(array.data), count * size_of(array.dtype)};
}

/// Makes room for it, in one piece; returns where in the file that is.
std::uint64_t place_array(hid_t h5, const ArrayView& array, const std::string& digest, const fs::path& file) {
  const std::vector<hsize_t> shape(array.shape.begin(), array.shape.end());
  const hdf5::Dataspace space(shape.empty() ? H5Screate(H5S_SCALAR)
                                            : H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr));
  const hdf5::Datatype type = hdf5::file_type(array.dtype);
  const hdf5::Properties parents = make_parents(), create(H5Pcreate(H5P_DATASET_CREATE));
  H5Pset_alloc_time(create.get(), H5D_ALLOC_TIME_EARLY);
  H5Pset_fill_time(create.get(), H5D_FILL_TIME_NEVER);
  const hdf5::Dataset dataset(
      H5Dcreate2(h5, array.path.c_str(), type.get(), space.get(), parents.get(), create.get(), H5P_DEFAULT));
  require(dataset.valid(), file, array.path);
  require(write_text_attribute(dataset.get(), "dtype", std::string(name_of(array.dtype))) &&
              write_text_attribute(dataset.get(), "xxh3_128", digest),
          file, array.path);
  if (bytes_of(array).empty()) return 0;
  const haddr_t offset = H5Dget_offset(dataset.get());
  require(offset != HADDR_UNDEF, file, array.path);
  return offset;
}

void write_text(hid_t h5, const std::string& name, const std::string& text, const fs::path& file) {
  const std::string path = "/meta/" + name;
  if (text.find('\0') != std::string::npos) {
    throw CheckpointError(fmt::format("{}: cannot write {} (it has a zero byte, where a reader would stop)", file.string(), path));
  }
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

/// A file in memory, without a name; what is not written takes no memory.
class MemoryFile {
 public:
  /// Files of this process may be as long as `most` bytes: HDF5 must not find out.
  MemoryFile(const fs::path& file, std::size_t most) : fd_(::memfd_create("checkpoint", MFD_CLOEXEC)) {
    if (fd_ >= 0 && ::ftruncate(fd_, static_cast<off_t>(most)) == 0) return;
    const int error = errno;
    if (fd_ >= 0) ::close(fd_);
    throw CheckpointError(fmt::format("cannot write {}: {}", file.string(), std::strerror(error)));
  }
  ~MemoryFile() {
    if (bytes_.data() != nullptr) ::munmap(const_cast<char*>(bytes_.data()), bytes_.size());
    ::close(fd_);
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return fmt::format("/proc/self/fd/{}", fd_); }
  /// Once it is complete.
  std::string_view bytes() {
    struct stat facts {};
    if (bytes_.empty() && ::fstat(fd_, &facts) == 0 && facts.st_size > 0) {
      const auto size = static_cast<std::size_t>(facts.st_size);
      void* const memory = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd_, 0);
      if (memory != MAP_FAILED) bytes_ = {static_cast<const char*>(memory), size};
    }
    return bytes_;
  }

 private:
  int fd_;
  std::string_view bytes_;
};

/// A checkpoint as the bytes of its file, piece by piece. HDF5 lays the file out in memory, with room for the arrays: in their places come the
/// arrays themselves, which are not copied. (Where a write to the disk fails inside HDF5 1.10, the process crashes at its end.)
class Image {
 public:
  Image(const CheckpointContent& content, const fs::path& file) : layout_(file, bytes_at_most(content)) {
    std::vector<std::string> digests;   // before the lock: who reads data by HDF5 waits for it
    for (const ArrayView& array : content.arrays) digests.push_back(digest_text(bytes_of(array)));
    const std::map<std::uint64_t, std::string_view> arrays = lay_out(content, digests, file);
    const std::string_view image = layout_.bytes();
    require(image.size() > kUserBlockBytes, file, "its layout");
    std::uint64_t end = kUserBlockBytes;
    pieces_.emplace_back();
    for (const auto& [place, array] : arrays) {
      if (place > end) pieces_.push_back(image.substr(end, place - end));
      pieces_.push_back(array);
      end = place + array.size();
    }
    if (end < image.size()) pieces_.push_back(image.substr(end));
    block_ = make_user_block(std::span<const std::string_view>(pieces_).subspan(1));
    pieces_[0] = {block_.data(), block_.size()};
  }
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;

  /// The user block first. They live as long as this and the content.
  const std::vector<std::string_view>& pieces() const { return pieces_; }
  std::string digest() const { return digest_text(block_); }

 private:
  static std::size_t bytes_at_most(const CheckpointContent& content) {
    constexpr std::size_t kOfEach = 8 << 10, kOfAll = 1 << 16;   // headers, attributes, groups
    std::size_t bytes = kOfAll;
    for (const ArrayView& array : content.arrays) bytes += bytes_of(array).size() + kOfEach;
    for (const auto& [name, text] : content.texts) bytes += text.size() + kOfEach;
    bytes += content.links.size() * kOfEach;
    return bytes;
  }
  /// Returns the arrays by their places.
  std::map<std::uint64_t, std::string_view> lay_out(const CheckpointContent& content, const std::vector<std::string>& digests, const fs::path& file) {
    const auto held = hdf5::lock();
    const hdf5::Properties create(H5Pcreate(H5P_FILE_CREATE)), access = hdf5::file_access();
    H5Pset_userblock(create.get(), kUserBlockBytes);
    H5Pset_fapl_stdio(access.get());   // the default driver looks where the name leads, which is nowhere
    hdf5::File h5(H5Fcreate(layout_.path().c_str(), H5F_ACC_TRUNC, create.get(), access.get()));
    require(h5.valid(), file, "the file");
    std::map<std::uint64_t, std::string_view> arrays;
    for (std::size_t i = 0; i < digests.size(); ++i) {
      const std::uint64_t place = place_array(h5.get(), content.arrays[i], digests[i], file);
      if (place != 0) arrays[place] = bytes_of(content.arrays[i]);
    }
    for (const auto& [name, text] : content.texts) write_text(h5.get(), name, text, file);
    const hdf5::Properties parents = make_parents();
    for (const auto& [path, slice] : content.links) {
      require(H5Lcreate_external(slice.c_str(), path.c_str(), h5.get(), path.c_str(), parents.get(), H5P_DEFAULT) >= 0, file, path);
    }
    require(H5Fflush(h5.get(), H5F_SCOPE_LOCAL) >= 0, file, "its end");
    h5 = {};
    return arrays;
  }

  MemoryFile layout_;
  std::array<char, kUserBlockBytes> block_{};
  std::vector<std::string_view> pieces_;   // of block_, layout_, and the arrays
};

/// HDF5 must find in the file what was put into it; what it cannot read shows here, not at the next resume.
void reopen(const fs::path& temporary, const CheckpointContent& content, const fs::path& file) {
  const auto held = hdf5::lock();
  const hdf5::Properties access = hdf5::file_access();
  const hdf5::File h5(H5Fopen(temporary.c_str(), H5F_ACC_RDONLY, access.get()));
  require(h5.valid(), file, "a file that opens again");
  for (const ArrayView& array : content.arrays) {
    require(H5Lexists(h5.get(), array.path.c_str(), H5P_DEFAULT) > 0, file, array.path);
  }
}

void sync_folder(const fs::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;   // some file systems refuse it
  ::fsync(fd);
  ::close(fd);
}

}  // namespace

std::string write_checkpoint(const fs::path& file, const CheckpointContent& content) {
  const fs::path folder = fs::absolute(file).parent_path();
  try {
    const bool new_folder = fs::create_directories(folder);
    const Image image(content, file);
    write_file_atomically(file, image.pieces(), [&](const fs::path& temporary) {
      verify_user_block(temporary);
      reopen(temporary, content, file);
    });
    if (new_folder) sync_folder(folder.parent_path());
    return image.digest();
  } catch (const fs::filesystem_error& error) {
    throw CheckpointError(fmt::format("cannot write {}: {}", file.string(), error.code().message()));
  } catch (const IoError& error) {
    throw CheckpointError(error.what());
  }
}

}  // namespace tugline
