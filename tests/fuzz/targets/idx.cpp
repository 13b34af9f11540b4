// SPDX-License-Identifier: Apache-2.0
// An IDX file, packed or not, as inputs and as labels, with a good file of as many records for the other: samples, or a DataError.
#include "tugline/core/data/file_bytes.hpp"
#include "tugline/tests/fuzz/targets/memory_file.hpp"
#include "tugline/tests/fuzz/targets/read_samples.hpp"

namespace {

/// The count in the file's head, where it is small; else 3.
std::uint8_t num_records(const std::filesystem::path& file) {
  std::string bytes;
  tugline::fuzz::reads_or_says_why<tugline::DataError>([&] { bytes = tugline::read_file(file); });
  return bytes.size() > 7 && bytes[7] != '\0' ? static_cast<std::uint8_t>(bytes[7]) : 3;
}

/// Unsigned bytes, 0 and 1 in turn: one per record, as labels or as inputs [records, 1].
std::string good_file(std::uint8_t records, bool labels) {
  std::string bytes{'\0', '\0', '\x08', labels ? '\x01' : '\x02', '\0', '\0', '\0', static_cast<char>(records)};
  if (!labels) bytes.append({'\0', '\0', '\0', '\x01'});
  for (int i = 0; i < records; ++i) bytes.push_back(static_cast<char>(i % 2));
  return bytes;
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tugline;
  static fuzz::MemoryFile file, other;
  file.write(fuzz::text_of(data, size));
  const std::uint8_t records = num_records(file.path());
  for (const bool as_inputs : {true, false}) {
    other.write(good_file(records, as_inputs));
    DataConfig config;
    config.name = "idx";
    config.split.validation = config.split.test = 0;
    config.train_inputs = (as_inputs ? file : other).path().string();
    config.train_targets = (as_inputs ? other : file).path().string();
    fuzz::read_samples(config);
  }
  return 0;
}
