// SPDX-License-Identifier: Apache-2.0
// A table, read in three ways: samples, or a DataError.
#include "tugline/tests/fuzz/targets/memory_file.hpp"
#include "tugline/tests/fuzz/targets/read_samples.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tugline;
  static fuzz::MemoryFile file;
  file.write(fuzz::text_of(data, size));
  DataConfig classes;
  classes.name = "csv";
  classes.path = file.path().string();
  classes.split.validation = classes.split.test = 0;
  fuzz::read_samples(classes);

  DataConfig values = classes;
  values.label = "1";
  values.target = "value";
  values.categorical = "index";
  fuzz::read_samples(values);

  DataConfig by_time = classes;
  by_time.split.by = "time";
  by_time.split.time_column = "0";
  by_time.split.validation = 0.3;
  fuzz::read_samples(by_time);
  return 0;
}
