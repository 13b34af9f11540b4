// SPDX-License-Identifier: Apache-2.0
#include <hdf5.h>

#include <functional>
#include <limits>
#include <numeric>

#include "tugline/core/config/run_config.hpp"
#include "tugline/tests/core/data/data_files.hpp"

namespace tugline {
namespace {

using Shape = std::vector<std::int64_t>;
using Floats = std::vector<float>;

hid_t type_of(float) { return H5T_NATIVE_FLOAT; }
hid_t type_of(double) { return H5T_IEEE_F64BE; }
hid_t type_of(std::uint8_t) { return H5T_NATIVE_UINT8; }
hid_t type_of(std::int16_t) { return H5T_NATIVE_INT16; }
hid_t type_of(std::int64_t) { return H5T_NATIVE_INT64; }
hid_t memory_type_of(auto value) { return H5Tget_native_type(type_of(value), H5T_DIR_ASCEND); }

class Hdf5Data : public DataFiles {
 protected:
  Hdf5Data() {
    config_.name = "hdf5";
    config_.train_inputs = "/train/x";
    config_.train_targets = "y";
    config_.normalise = false;
    config_.split.validation = config_.split.test = 0;
  }

  void SetUp() override {
    DataFiles::SetUp();
    config_.path = path("data.h5");
    const hid_t file = H5Fcreate(config_.path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    H5Gclose(H5Gcreate2(file, "train", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Fclose(file);
  }

  /// Adds a dataset; `chunk_rows` > 0 stores it in compressed chunks.
  template <class T>
  void add(const std::string& name, const std::vector<hsize_t>& shape, const std::vector<T>& values,
           hsize_t chunk_rows = 0) {
    const hid_t file = H5Fopen(config_.path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    const hid_t space = H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
    const hid_t layout = H5Pcreate(H5P_DATASET_CREATE);
    if (chunk_rows > 0) {
      std::vector<hsize_t> chunk = shape;
      chunk[0] = chunk_rows;
      H5Pset_chunk(layout, static_cast<int>(chunk.size()), chunk.data());
      H5Pset_deflate(layout, 1);
    }
    const hid_t data = H5Dcreate2(file, name.c_str(), type_of(T{}), space, H5P_DEFAULT, layout, H5P_DEFAULT);
    const hid_t memory = memory_type_of(T{});
    ASSERT_GE(H5Dwrite(data, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0);
    H5Tclose(memory);
    H5Dclose(data);
    H5Pclose(layout);
    H5Sclose(space);
    H5Fclose(file);
  }

  template <class E = DataError>
  std::string error() const {
    std::string text = error_of<E>([&] { open_data(config_, 0); });
    const std::string prefix = folder_.string() + "/";
    for (auto at = text.find(prefix); at != std::string::npos; at = text.find(prefix)) text.erase(at, prefix.size());
    return text;
  }

  DataConfig config_;
};

TEST_F(Hdf5Data, PixelsBecomeFractionsOfOneAndOneChannel) {
  add<std::uint8_t>("train/x", {2, 1, 2}, {0, 51, 255, 102});
  add<std::int16_t>("y", {2}, {3, 1});
  const auto train = open_data(config_, 0).train;
  EXPECT_EQ(train->spec().input_shape, (Shape{1, 1, 2}));
  EXPECT_EQ(train->spec().num_classes, 4);
  EXPECT_FLOAT_EQ(input_of(*train, 0)[1], 0.2f);
  EXPECT_FLOAT_EQ(input_of(*train, 1)[0], 1);
  EXPECT_EQ(classes_of(*train), (Shape{3, 1}));
  EXPECT_FALSE(train->cheap());
}

TEST_F(Hdf5Data, TablesForRegression) {
  config_.target = "value";
  add<double>("train/x", {3, 2}, {1, 2, 3, 4, 5, 6});
  add<float>("y", {3, 2}, {1, -1, 2, -2, 3, -3});
  config_.normalise = true;
  const auto splits = open_data(config_, 0);
  EXPECT_EQ(splits.normalisation.mean, (Floats{3, 4}));
  EXPECT_EQ(splits.train->spec().target_shape, Shape{2});
  EXPECT_EQ(splits.train->spec().num_classes, 0);
  EXPECT_EQ(input_of(*splits.train, 1), (Floats{0, 0}));
  EXPECT_EQ(values_of<float>(*splits.train, 2, false), (Floats{3, -3}));
}

// More samples than one block of the statistics, in compressed chunks: the split, the statistics and ranges all agree.
TEST_F(Hdf5Data, ChunkedFilesAreReadInBlocks) {
  const std::int64_t n = 5000;
  std::vector<float> x(n * 3);
  std::vector<std::int64_t> y(n);
  for (std::int64_t i = 0; i < n; ++i) {
    y[i] = i % 5;
    for (int f = 0; f < 3; ++f) x[3 * i + f] = static_cast<float>(i + 10000 * f);
  }
  add("train/x", {static_cast<hsize_t>(n), 3}, x, 64);
  add("y", {static_cast<hsize_t>(n)}, y, 1000);
  config_.split.validation = config_.split.test = 0.1;
  const auto plain = open_data(config_, 5);
  config_.normalise = true;
  const auto splits = open_data(config_, 5);
  ASSERT_EQ(splits.train->size(), 4000);
  ASSERT_EQ(splits.test->size(), 500);
  double sum = 0;
  for (std::int64_t i = 0; i < 4000; ++i) sum += input_of(*plain.train, i)[0];
  EXPECT_NEAR(splits.normalisation.mean[0], sum / 4000, 1e-3);
  EXPECT_NEAR(splits.normalisation.mean[2], sum / 4000 + 20000, 1e-2);
  for (std::int64_t i = 0; i < 500; i += 99)
    EXPECT_EQ(static_cast<int>(input_of(*plain.test, i)[0]) % 5, class_of(*plain.test, i));

  std::vector<float> inputs(3 * 200);
  std::vector<std::int64_t> targets(200);
  plain.train->read_range(7, 200, std::as_writable_bytes(std::span(inputs)), std::as_writable_bytes(std::span(targets)));
  for (int i = 0; i < 200; ++i) {
    EXPECT_EQ(Floats(inputs.begin() + 3 * i, inputs.begin() + 3 * i + 3), input_of(*plain.train, 7 + i));
    EXPECT_EQ(targets[i], class_of(*plain.train, 7 + i));
  }
  EXPECT_EQ(splits.train->fingerprint(), open_data(config_, 5).train->fingerprint());
}

TEST_F(Hdf5Data, GivenParts) {
  add<float>("train/x", {4, 1}, {1, 2, 3, 4});
  add<std::int64_t>("y", {4}, {0, 1, 0, 1});
  add<float>("x2", {2, 1}, {8, 9});
  add<std::int64_t>("y2", {2}, {1, 0});
  add<std::int64_t>("y3", {4}, {0, 1, 2, 0});
  add<float>("wide", {4, 2}, {1, 2, 3, 4, 5, 6, 7, 8});
  config_.validation_inputs = "x2";
  config_.validation_targets = "y2";
  const auto splits = open_data(config_, 0);
  EXPECT_EQ(splits.train->size(), 4);
  EXPECT_EQ(splits.test->size(), 0);
  EXPECT_EQ(classes_of(*splits.validation), (Shape{1, 0}));
  config_.test_inputs = "train/x";
  config_.test_targets = "y2";
  EXPECT_EQ(error(), "data.h5: train/x has 4 records but data.h5: y2 has 2");
  config_.test_targets = "y3";
  EXPECT_EQ(error(), "data.h5: y3: record 2: label 2 is out of range 0 .. 1, the classes of the train split");
  config_.test_inputs = "wide";
  config_.test_targets = "y";
  EXPECT_EQ(error(), "data.h5: wide: records of shape [2] with targets of shape [], but the train part has [1] and []");
}

TEST_F(Hdf5Data, BadFiles) {
  add<float>("train/x", {2, 2}, {1, 2, std::numeric_limits<float>::quiet_NaN(), 4});
  add<float>("y", {2}, {0, 1});
  EXPECT_EQ(error(),
            "data.h5: y: classes must be one whole number per record, these are 1 of float32; for regression set "
            "data.target: value");
  add<std::int64_t>("labels", {2}, {0, -3});
  config_.train_targets = "labels";
  EXPECT_EQ(error(), "data.h5: labels: record 1: label -3 is out of range 0 .. 255");
  config_.train_targets = "y";
  config_.target = "value";
  EXPECT_EQ(error(), "no error");  // inputs are not read before someone needs them ...
  EXPECT_EQ(error_of<DataError>([&] { input_of(*open_data(config_, 0).train, 1); }),
            config_.path + ": /train/x: record 1: value 0 is not a finite number");
  config_.normalise = true;  // ... which the statistics do at once
  EXPECT_EQ(error(), "data.h5: /train/x: record 1: value 0 is not a finite number");
  config_.train_inputs = "nothing/here";
  EXPECT_THAT(error(), testing::HasSubstr("data.h5: no dataset 'nothing/here'"));
  config_.train_inputs = "";
  EXPECT_EQ(error<ConfigError>(), "data.train_inputs: hdf5 data needs the path of a dataset inside the file");
  config_.train_inputs = "/train/x";
  add<float>("none", {0, 2}, {});
  config_.train_targets = "none";
  EXPECT_EQ(error(), "data.h5: none: holds no values");
  config_.path = write("text.h5", "not an HDF5 file");
  EXPECT_THAT(error(), testing::StartsWith("text.h5: "));
  config_.path = path("missing.h5");
  EXPECT_THAT(error(), testing::StartsWith("missing.h5: "));
  config_.path = "";
  EXPECT_EQ(error<ConfigError>(), "data.path: hdf5 data needs a file name");
}

}  // namespace
}  // namespace tugline
