// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/iostreams/device/back_inserter.hpp>
#include <boost/iostreams/filter/gzip.hpp>
#include <boost/iostreams/filtering_stream.hpp>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "tugline/core/data/dataset.hpp"
#include "tugline/core/error.hpp"
#include "tugline/tests/support/temporary_folder.hpp"

namespace tugline {

class DataFiles : public TemporaryFolder {
 protected:
  /// Writes a file below the test's folder and returns its path.
  std::string write(const std::string& name, const std::string& bytes) const {
    TemporaryFolder::write(folder_ / name, bytes);
    return path(name);
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
};

inline std::string gzipped(const std::string& bytes) {
  namespace io = boost::iostreams;
  std::string packed;
  io::filtering_ostream stream;
  stream.push(io::gzip_compressor());
  stream.push(io::back_inserter(packed));
  stream << bytes;
  stream.reset();
  return packed;
}

/// The head of an IDX file: type 8 is unsigned bytes.
inline std::string idx_head(int type, const std::vector<std::uint32_t>& shape) {
  std::string bytes{'\0', '\0', static_cast<char>(type), static_cast<char>(shape.size())};
  for (const std::uint32_t size : shape) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(size >> shift));
  }
  return bytes;
}

template <class T>
std::vector<T> values_of(const Dataset& data, std::int64_t index, bool input) {
  std::vector<T> inputs(data.spec().input_bytes()), targets(data.spec().target_bytes());
  const auto input_bytes = std::as_writable_bytes(std::span(inputs)).first(data.spec().input_bytes());
  const auto target_bytes = std::as_writable_bytes(std::span(targets)).first(data.spec().target_bytes());
  data.read(index, input_bytes, target_bytes);
  inputs.resize(input_bytes.size() / sizeof(T));
  targets.resize(target_bytes.size() / sizeof(T));
  return input ? inputs : targets;
}

inline std::vector<float> input_of(const Dataset& data, std::int64_t index) { return values_of<float>(data, index, true); }
inline std::int64_t class_of(const Dataset& data, std::int64_t index) {
  return values_of<std::int64_t>(data, index, false).at(0);
}

inline std::vector<std::int64_t> classes_of(const Dataset& data) {
  std::vector<std::int64_t> classes;
  for (std::int64_t i = 0; i < data.size(); ++i) classes.push_back(class_of(data, i));
  return classes;
}

/// What `call` says when it throws an E, or what else happened.
template <class E>
std::string error_of(auto&& call) {
  try {
    call();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("another kind of error: ") + error.what();
  }
  return "no error";
}

}  // namespace tugline
