// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/data/file_bytes.hpp"

#include <fmt/format.h>

#include <boost/iostreams/copy.hpp>
#include <boost/iostreams/device/array.hpp>
#include <boost/iostreams/device/back_inserter.hpp>
#include <boost/iostreams/filter/gzip.hpp>
#include <boost/iostreams/filtering_stream.hpp>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "tugline/core/error.hpp"

namespace tugline {
namespace io = boost::iostreams;

std::string gunzip(std::string_view bytes, const std::string& name) {
  std::string plain;
  try {
    io::filtering_istream stream;
    stream.push(io::gzip_decompressor());
    stream.push(io::array_source(bytes.data(), bytes.size()));
    stream.exceptions(std::ios::badbit);  // else a damaged stream looks like a short one
    io::copy(stream, io::back_inserter(plain));
  } catch (const std::exception&) {
    throw DataError(fmt::format("{}: the gzip data is damaged or cut short", name));
  }
  return plain;
}

std::string read_file(const std::filesystem::path& file) {
  std::error_code status;
  if (std::filesystem::is_directory(file, status))
    throw DataError(fmt::format("{}: is a folder, not a file", file.string()));
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw DataError(fmt::format("{}: cannot be opened: {}", file.string(), std::strerror(errno)));
  std::string bytes{std::istreambuf_iterator<char>(stream), {}};
  if (stream.bad()) throw DataError(fmt::format("{}: cannot be read to its end", file.string()));
  return bytes.starts_with("\x1f\x8b") ? gunzip(bytes, file.string()) : bytes;
}

}  // namespace tugline
