// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/io/hdf5_array.hpp"

#include <hdf5.h>

#include <gmock/gmock.h>

#include <numeric>

#include "tugline/core/error.hpp"
#include "tugline/tests/support/temporary_folder.hpp"

namespace tugline {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Hdf5File : public TemporaryFolder {
 protected:
  void SetUp() override {
    TemporaryFolder::SetUp();
    file_ = folder_ / "data.h5";
    h5_ = H5Fcreate(file_.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  }
  /// 0, 1, 2, ... as elements of `type`.
  void add(const char* name, hid_t type, const std::vector<hsize_t>& shape) {
    const hid_t space = H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
    const hid_t dataset = H5Dcreate2(h5_, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    std::vector<int> values(static_cast<std::size_t>(std::accumulate(shape.begin(), shape.end(), hsize_t{1}, std::multiplies<>())));
    std::iota(values.begin(), values.end(), 0);
    ASSERT_GE(H5Dwrite(dataset, H5T_NATIVE_INT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0);
    H5Dclose(dataset);
    H5Sclose(space);
  }
  Hdf5Array open(const char* name) {
    if (h5_ >= 0) H5Fclose(h5_);
    h5_ = -1;
    return Hdf5Array::open(file_, name);
  }
  void TearDown() override {
    if (h5_ >= 0) H5Fclose(h5_);
    TemporaryFolder::TearDown();
  }

  std::filesystem::path file_;
  hid_t h5_ = -1;
};

TEST_F(Hdf5File, ReadsRowsInTheElementTypeThatHoldsThem) {
  const std::vector<std::pair<hid_t, DType>> expected = {
      {H5T_IEEE_F32LE, DType::float32}, {H5T_IEEE_F32BE, DType::float32}, {H5T_IEEE_F64BE, DType::float64},
      {H5T_STD_U8LE, DType::uint8},     {H5T_STD_I8LE, DType::int64},     {H5T_STD_I16BE, DType::int64},
      {H5T_STD_I32LE, DType::int32},    {H5T_STD_U32LE, DType::int64},    {H5T_STD_I64BE, DType::int64}};
  for (std::size_t i = 0; i < expected.size(); ++i) add(std::to_string(i).c_str(), expected[i].first, {5, 2});
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const Hdf5Array array = open(std::to_string(i).c_str());
    EXPECT_THAT(array.shape(), ElementsAre(5, 2));
    EXPECT_EQ(array.dtype(), expected[i].second) << i;
    ASSERT_EQ(array.row_bytes(), static_cast<std::int64_t>(2 * size_of(array.dtype())));
  }
  std::vector<std::int64_t> rows(4);
  open("5").read_rows(3, 2, rows.data());
  EXPECT_THAT(rows, ElementsAre(6, 7, 8, 9));
  std::vector<float> floats(2);
  open("1").read_rows(0, 1, floats.data());
  EXPECT_THAT(floats, ElementsAre(0, 1));
}

TEST_F(Hdf5File, RowsBeyondTheEndAreRefused) {
  add("x", H5T_STD_I64LE, {5});
  const Hdf5Array array = open("x");
  std::vector<std::int64_t> rows(8, -1);
  array.read_rows(5, 0, rows.data());
  EXPECT_EQ(rows[0], -1);
  for (const auto& [first, count] : std::vector<std::pair<int, int>>{{4, 2}, {5, 1}, {-1, 1}, {0, 6}}) {
    try {
      array.read_rows(first, count, rows.data());
      ADD_FAILURE() << first << ' ' << count;
    } catch (const DataError& error) {
      EXPECT_THAT(error.what(), AllOf(HasSubstr(file_.string() + ": x"), HasSubstr("cannot be read")));
    }
  }
}

TEST_F(Hdf5File, WhatIsNotAnArrayOfSamplesIsRefused) {
  add("scalar", H5T_STD_I64LE, {});
  H5Gclose(H5Gcreate2(h5_, "group", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  for (const char* name : {"scalar", "group", "absent", "absent/deeper"}) {
    try {
      open(name);
      ADD_FAILURE() << name;
    } catch (const DataError& error) {
      EXPECT_THAT(error.what(), AllOf(HasSubstr(file_.string()), HasSubstr(name)));
    }
  }
}

}  // namespace
}  // namespace tugline
