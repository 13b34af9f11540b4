// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>

#include <cstring>
#include <list>
#include <string>
#include <vector>

#include "tugline/core/error.hpp"
#include "tugline/core/io/checkpoint.hpp"
#include "tugline/tests/support/temporary_folder.hpp"

namespace tugline {

/// Content with memory of its own.
class OwnedContent {
 public:
  /// Bytes that differ from array to array; any bytes are an element of some value, but a boolean is 0 or 1.
  void add(const std::string& path, DType dtype, const std::vector<std::int64_t>& shape) {
    std::size_t count = 1;
    for (const std::int64_t size : shape) count *= static_cast<std::size_t>(size);
    std::vector<std::byte> bytes(count * size_of(dtype));
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      const std::size_t value = 37 * i + 11 * memory_.size() + 5;
      bytes[i] = static_cast<std::byte>(dtype == DType::boolean ? value % 2 : value % 251);
    }
    memory_.push_back(std::move(bytes));
    content_.arrays.push_back({path, dtype, shape, memory_.back().data()});
  }
  void text(const std::string& name, const std::string& value) { content_.texts[name] = value; }
  const CheckpointContent& content() const { return content_; }

 private:
  std::list<std::vector<std::byte>> memory_;
  CheckpointContent content_;
};

inline OwnedContent small_content(std::int64_t elements = 6) {
  OwnedContent owned;
  owned.add("/parameters/output.weight", DType::float32, {elements});
  owned.text("config", "seed: 1\n");
  return owned;
}

/// A checkpoint of so many slices with an array each.
inline void write_set(const std::filesystem::path& file, std::int64_t count) {
  CheckpointContent cover;
  Manifest manifest{.slices = count};
  for (std::int64_t number = 1; number <= count; ++number) {
    OwnedContent owned;
    const std::string path = "/parameters/layers." + std::to_string(number);
    owned.add(path, DType::float32, {4 + file.filename().string()[12] % 4, number});
    owned.text("manifest", encode(Manifest{.slice = number, .slices = count}));
    const auto slice = slice_path(file, number, count);
    manifest.files.push_back({slice.filename().string(), write_checkpoint(slice, owned.content())});
    cover.links[path] = manifest.files.back().name;
  }
  cover.texts["manifest"] = encode(manifest);
  write_checkpoint(file, cover);
}

inline void expect_same(const Checkpoint& read, const CheckpointContent& written) {
  EXPECT_EQ(read.texts, written.texts);
  EXPECT_EQ(read.arrays.size(), written.arrays.size());
  for (const ArrayView& array : written.arrays) {
    const auto found = read.arrays.find(array.path);
    ASSERT_NE(found, read.arrays.end()) << array.path;
    EXPECT_EQ(found->second.dtype, array.dtype) << array.path;
    EXPECT_EQ(found->second.shape, array.shape) << array.path;
    const auto& bytes = found->second.data;
    EXPECT_TRUE(bytes.empty() || std::memcmp(bytes.data(), array.data, bytes.size()) == 0) << array.path;
  }
}

/// What the CheckpointError says; any other outcome fails the test.
inline std::string refusal(auto&& call) {
  try {
    call();
  } catch (const CheckpointError& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was refused";
  return "";
}

}  // namespace tugline
