// SPDX-License-Identifier: Apache-2.0
// Damaged data files: samples that can be read to the last, or a DataError.
#include <hdf5.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/tests/core/data/data_files.hpp"
#include "tugline/tests/fuzz/mutator.hpp"

namespace tugline {
namespace {

class DataFuzz : public DataFiles {
 protected:
  static DataConfig config_for(const std::string& name) {
    DataConfig config;
    config.name = name;
    config.split.validation = config.split.test = 0;
    return config;
  }

  /// Opens the data and reads every sample; whether that worked.
  static bool readable(const DataConfig& config, const std::string& input) {
    return works_or_says_why<DataError>(input, [&] {
      const DataSplits splits = open_data(config, 0);
      std::vector<std::byte> inputs(splits.train->spec().input_bytes()), targets(splits.train->spec().target_bytes());
      for (std::int64_t i = 0; i < splits.train->size(); ++i) splits.train->read(i, inputs, targets);
    });
  }

  /// Damages `good` `inputs` times; both outcomes must occur, else the damage tests little.
  void try_damaged(const std::string& good, Mutator mutator, int inputs, const DataConfig& config,
                   const std::string& file) {
    write(file, good);
    ASSERT_TRUE(readable(config, good));
    int worked = 0;
    for (int i = 0; i < inputs; ++i) {
      const std::string bad = mutator.damaged(good);
      write(file, bad);
      worked += readable(config, bad);
    }
    EXPECT_GT(worked, 0);
    EXPECT_LT(worked, inputs);
  }
};

const std::string kCsv =
    "when,x,kind,\"a, b\",k\r\n2024-01-31,1.5,u,\"say \"\"a\"\"\",yes\n2024-02-01,-2,v,b,no\n2024-02-02,3e2,u,b,yes\n";
const std::vector<std::string> kCsvWords = {",",
                                            "\n",
                                            "\r\n",
                                            "\"",
                                            "\"\"",
                                            "\n\n",
                                            "nan",
                                            "inf",
                                            "1e999",
                                            "NA",
                                            "?",
                                            "-",
                                            "2024-02-30",
                                            "99999999999999999999",
                                            " ",
                                            "\t",
                                            ";",
                                            std::string(1, '\0'),
                                            "\xef\xbb\xbf",
                                            "\xff",
                                            "u",
                                            "yes",
                                            "0.5"};

TEST_F(DataFuzz, Csv) {
  DataConfig config = config_for("csv");
  config.path = path("t.csv");
  try_damaged(kCsv, Mutator(1, kCsvWords), 1500, config, "t.csv");
  config.label = "x";
  config.target = "value";
  config.categorical = "index";
  try_damaged(kCsv, Mutator(2, kCsvWords), 800, config, "t.csv");
}

TEST_F(DataFuzz, CsvSplitByTime) {
  DataConfig config = config_for("csv");
  config.path = path("t.csv");
  config.split.by = "time";
  config.split.time_column = "when";
  config.split.validation = 0.3;
  try_damaged(kCsv, Mutator(3, kCsvWords), 800, config, "t.csv");
}

const std::vector<std::string> kIdxWords = {std::string("\0\0\x08\x01", 4),
                                            std::string("\0\0\x0d\x03", 4),
                                            std::string("\0\0\0\0", 4),
                                            "\xff\xff\xff\xff",
                                            "\x80",
                                            "\x1f\x8b\x08"};

TEST_F(DataFuzz, Idx) {
  DataConfig config = config_for("idx");
  config.path = folder_.string();
  config.train_inputs = "images";
  config.train_targets = "labels";
  const std::string images = idx_head(8, {3, 2, 2}) + "abcdefghijkl",
                    labels = idx_head(8, {3}) + std::string("\0\x01\x01", 3);
  write("labels", labels);
  try_damaged(images, Mutator(1, kIdxWords), 1500, config, "images");
  write("images", images);
  try_damaged(labels, Mutator(2, kIdxWords), 1500, config, "labels");
  write("labels", labels);
  try_damaged(gzipped(images), Mutator(3, kIdxWords), 500, config, "images");
}

TEST_F(DataFuzz, Text) {
  DataConfig config = config_for("text");
  config.path = path("t.txt");
  config.context = 4;
  const std::vector<std::string> words = {"\n",           "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x90\x95",  "\xc3",
                                          "\xed\xa0\x80", "\xf8",     "\xc0\x80",     std::string(1, '\0')};
  try_damaged("Mush! Ein Schlittenhund z\xc3\xa4hlt \xe2\x82\xac 7.\n", Mutator(1, words), 1000, config, "t.txt");
  config.tokens = "bytes";
  write("t.txt", "\xff\xfe and whatever else");
  EXPECT_TRUE(readable(config, ""));
}

// Damage to values alone. In HDF5's own structures it can crash the library (data files have no digest that would tell
// before).
TEST_F(DataFuzz, Hdf5Values) {
  DataConfig config = config_for("hdf5");
  config.path = path("t.h5");
  config.train_inputs = "/x";
  config.train_targets = "/y";
  const std::vector<float> x(40, 1.25F);
  const std::vector<std::int64_t> y{0, 1, 2, 1, 0, 2, 1, 0};
  const hsize_t x_shape[] = {8, 5}, y_shape[] = {8};
  const hid_t file = H5Fcreate(config.path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  std::vector<std::pair<std::size_t, std::size_t>> values;  // offset and length in the file
  const auto add = [&](const char* name, hid_t type, int dimensions, const hsize_t* shape, const void* data) {
    const hid_t space = H5Screate_simple(dimensions, shape, nullptr);
    const hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data);
    values.emplace_back(H5Dget_offset(dataset), H5Dget_storage_size(dataset));
    H5Dclose(dataset);
    H5Sclose(space);
  };
  add("x", H5T_NATIVE_FLOAT, 2, x_shape, x.data());
  add("y", H5T_NATIVE_INT64, 1, y_shape, y.data());
  H5Fclose(file);

  const std::string good = TemporaryFolder::read(config.path);
  Mutator mutator(1, {});
  int worked = 0;
  constexpr int kInputs = 200;
  for (int i = 0; i < kInputs; ++i) {
    std::string bad = good;
    const auto& [offset, length] = values[mutator.below(values.size())];
    for (std::size_t times = 1 + mutator.below(3); times > 0; --times)
      bad[offset + mutator.below(length)] = static_cast<char>(mutator.below(256));
    write("t.h5", bad);
    worked += readable(config, bad);
  }
  EXPECT_GT(worked, 0);
  EXPECT_LT(worked, kInputs);
  for (std::size_t length = 0; length < good.size(); length += 1 + length / 20) {
    write("t.h5", good.substr(0, length));
    EXPECT_FALSE(readable(config, good.substr(0, length))) << "length " << length;
  }
}

}  // namespace
}  // namespace tugline
