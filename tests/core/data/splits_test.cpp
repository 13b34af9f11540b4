// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/data/splits.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/core/data/view.hpp"
#include "tugline/tests/core/data/data_files.hpp"

namespace tugline {
namespace {

using Indices = std::vector<std::int64_t>;

SplitConfig fractions(double validation, double test) {
  SplitConfig config;
  config.validation = validation;
  config.test = test;
  return config;
}

void expect_a_partition(const SplitIndices& parts, std::int64_t num_samples) {
  Indices all;
  for (const Indices* part : {&parts.train, &parts.validation, &parts.test})
    all.insert(all.end(), part->begin(), part->end());
  std::sort(all.begin(), all.end());
  Indices expected(num_samples);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(all, expected);
}

TEST(RandomSplit, KeepsClassProportionsAndExactTotals) {
  Indices classes;  // 100 of class 0, 60 of class 1, 40 of class 2, interleaved
  for (int i = 0; i < 200; ++i) classes.push_back(i % 10 < 5 ? 0 : i % 10 < 8 ? 1 : 2);
  const auto parts = split_at_random(fractions(0.1, 0.2), 200, classes, 1, "x");
  expect_a_partition(parts, 200);
  const auto count = [&](const Indices& part) {
    Indices counts(3);
    for (const auto index : part) ++counts[classes[index]];
    return counts;
  };
  EXPECT_EQ(count(parts.train), (Indices{70, 42, 28}));
  EXPECT_EQ(count(parts.validation), (Indices{10, 6, 4}));
  EXPECT_EQ(count(parts.test), (Indices{20, 12, 8}));
  EXPECT_TRUE(std::is_sorted(parts.train.begin(), parts.train.end()));
}

TEST(RandomSplit, TotalsAreExactWhenClassesAreSmall) {
  Indices classes;  // 30 classes of 3 samples: rounding each class alone would give none, or 30
  for (int i = 0; i < 90; ++i) classes.push_back(i / 3);
  const auto parts = split_at_random(fractions(0.1, 0.1), 90, classes, 1, "x");
  expect_a_partition(parts, 90);
  EXPECT_EQ(parts.test.size(), 9u);
  EXPECT_EQ(parts.validation.size(), 9u);
}

TEST(RandomSplit, DependsOnTheSeedAlone) {
  const auto parts = split_at_random(fractions(0.2, 0.2), 50, {}, 1, "x");
  expect_a_partition(parts, 50);
  EXPECT_EQ(parts.train, split_at_random(fractions(0.2, 0.2), 50, {}, 1, "x").train);
  EXPECT_NE(parts.train, split_at_random(fractions(0.2, 0.2), 50, {}, 2, "x").train);
  EXPECT_EQ(split_at_random(fractions(0, 0), 5, {}, 1, "x").train, (Indices{0, 1, 2, 3, 4}));
}

TEST(RandomSplit, AnEmptyPartIsAnErrorUnlessItWasAskedFor) {
  EXPECT_EQ(error_of<DataError>([] { split_at_random(fractions(0.1, 0), 4, {}, 1, "f.csv"); }),
            "f.csv: the validation split is empty: data.split.validation is 0.1 of 4 samples; raise it, or set it to 0");
  EXPECT_EQ(error_of<DataError>([] { split_at_random(fractions(0.45, 0.45), 1, {}, 1, "f.csv"); }),
            "f.csv: the validation split is empty: data.split.validation is 0.45 of 1 samples; raise it, or set it to 0");
  EXPECT_EQ(error_of<DataError>([] { split_at_random(fractions(0.5, 0), 1, {}, 1, "f.csv"); }),
            "f.csv: the train split is empty: there are 1 samples");
  EXPECT_EQ(error_of<ConfigError>([] { split_at_random(fractions(0.5, 0.5), 9, {}, 1, "f.csv"); }),
            "data.split: validation 0.5 and test 0.5 leave nothing to train on: their sum must be below 1");
  EXPECT_EQ(error_of<ConfigError>([] { split_at_random(fractions(0.5, -1), 9, {}, 1, "f.csv"); }),
            "data.split.test: -1 is no fraction: write a number from 0 to below 1");
}

TEST(TimeSplit, NeverLeaksAcrossTheCut) {
  const Indices time = {9, 1, 5, 3, 7, 0, 8, 2, 6, 4};
  const auto parts = split_by_time(fractions(0.2, 0.3), time, "x");
  expect_a_partition(parts, 10);
  EXPECT_EQ(parts.train, (Indices{5, 1, 7, 3, 9}));  // times 0 .. 4
  EXPECT_EQ(parts.validation, (Indices{2, 8}));      // 5, 6
  EXPECT_EQ(parts.test, (Indices{4, 6, 0}));         // 7, 8, 9
}

TEST(TimeSplit, EqualTimesStayTogether) {
  const Indices time = {0, 0, 1, 1, 1, 1, 2, 2, 3, 3};
  const auto parts = split_by_time(fractions(0.2, 0.3), time, "x");  // the cuts at 5 and 7 fall inside groups
  EXPECT_EQ(parts.train, (Indices{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(parts.validation, (Indices{6, 7}));
  EXPECT_EQ(parts.test, (Indices{8, 9}));
  EXPECT_EQ(error_of<DataError>([] {
              split_by_time(fractions(0.5, 0), {4, 4, 4, 4}, "f.csv");
            }),
            "f.csv: the validation split is empty: data.split.validation is 0.5 of 4 samples; raise it, or set it to 0");
}

class CsvByTime : public DataFiles {};

TEST_F(CsvByTime, TheColumnSortsAndIsNoFeature) {
  DataConfig config;
  config.name = "csv";
  config.normalise = false;
  config.split.by = "time";
  config.split.time_column = "day";
  config.split.validation = 0.25;
  config.split.test = 0.25;
  config.label = "k";
  const std::vector<std::vector<std::string>> calendars = {{"2024-03-01", "2023-12-31", "2024-01-02", "2024-02-02"},
                                                           {"30", "4", "5", "11.5"}};
  for (const auto& day : calendars) {
    config.path =
        write("t.csv", "x,day,k\n1," + day[0] + ",a\n2," + day[1] + ",b\n3," + day[2] + ",a\n4," + day[3] + ",b\n");
    const auto splits = open_data(config, 0);
    ASSERT_EQ(splits.train->spec().input_shape, Indices{1});
    ASSERT_EQ(splits.train->size(), 2);
    EXPECT_EQ(input_of(*splits.train, 0)[0], 2);
    EXPECT_EQ(input_of(*splits.train, 1)[0], 3);
    EXPECT_EQ(input_of(*splits.validation, 0)[0], 4);
    EXPECT_EQ(input_of(*splits.test, 0)[0], 1);
  }
}

TEST_F(CsvByTime, AColumnAskedForByItsIndexIsNoNameOfAHeader) {
  DataConfig config;
  config.name = "csv";
  config.normalise = false;
  config.split.by = "time";
  config.split.time_column = "0";
  config.split.validation = config.split.test = 0.25;
  config.path = write("t.csv", "1,2,0\n3,4,1\n5,6,0\n7,8,1\n");
  const auto splits = open_data(config, 0);
  EXPECT_EQ(splits.train->size() + splits.validation->size() + splits.test->size(), 4);
}

class NormalisationOf : public DataFiles {
 protected:
  DataConfig config(const std::string& text) const {
    DataConfig config;
    config.name = "csv";
    config.path = write("t.csv", text);
    config.split.by = "time";
    config.split.time_column = "t";
    config.split.validation = 0.2;
    config.split.test = 0.2;
    return config;
  }
};

// The last two rows are wild: statistics over them too would be far off.
TEST_F(NormalisationOf, TheTrainSplitAlone) {
  const auto splits = open_data(config("t,x,c,k\n0,1,5,a\n1,2,5,b\n2,3,5,a\n3,1000,6,b\n4,-9999,7,a\n"), 0);
  ASSERT_EQ(splits.normalisation.mean.size(), 2u);
  EXPECT_FLOAT_EQ(splits.normalisation.mean[0], 2);
  EXPECT_FLOAT_EQ(splits.normalisation.stddev[0], std::sqrt(2.0f / 3));
  EXPECT_FLOAT_EQ(splits.normalisation.mean[1], 5);
  EXPECT_FLOAT_EQ(splits.normalisation.stddev[1], 1);  // constant in train
  EXPECT_FLOAT_EQ(input_of(*splits.train, 0)[0], -1 / std::sqrt(2.0f / 3));
  EXPECT_FLOAT_EQ(input_of(*splits.validation, 0)[0], 998 / std::sqrt(2.0f / 3));
  EXPECT_FLOAT_EQ(input_of(*splits.test, 0)[1], 2);
}

TEST_F(NormalisationOf, ACheckpointIsUsedInsteadAndMustFit) {
  const auto table = config("t,x,c,k\n0,1,5,a\n1,2,5,b\n2,3,5,a\n3,1000,6,b\n4,-9999,7,a\n");
  const Normalisation stored{{10, 20}, {2, 4}};
  const auto splits = open_data(table, 0, &stored);
  EXPECT_EQ(splits.normalisation.mean, stored.mean);
  EXPECT_FLOAT_EQ(input_of(*splits.train, 0)[0], -4.5);
  EXPECT_FLOAT_EQ(input_of(*splits.train, 0)[1], -3.75);
  const Normalisation other{{1, 2, 3}, {1, 1, 1}};
  EXPECT_EQ(error_of<DataError>([&] { open_data(table, 0, &other); }),
            table.path + ": the stored normalisation is for 3 features or channels, but these data have 2");
  const Normalisation none;
  EXPECT_EQ(input_of(*open_data(table, 0, &none).train, 0)[0], 1);
}

TEST_F(NormalisationOf, ImagesIsPerChannel) {
  // Two images of 2 channels, 1 x 2; channel 0: 0, 255, 0, 255; channel 1: 51, 51, 51, 51.
  DataConfig images;
  images.name = "idx";
  images.path = folder_.string();
  images.train_inputs = "images";
  images.train_targets = "labels";
  images.split.validation = images.split.test = 0;
  write("images", idx_head(8, {2, 2, 1, 2}) + std::string("\x00\xff\x33\x33\x00\xff\x33\x33", 8));
  write("labels", idx_head(8, {2}) + std::string("\x00\x01", 2));
  const auto splits = open_data(images, 0);
  ASSERT_EQ(splits.normalisation.mean.size(), 2u);
  EXPECT_FLOAT_EQ(splits.normalisation.mean[0], 0.5);
  EXPECT_FLOAT_EQ(splits.normalisation.stddev[0], 0.5);
  EXPECT_FLOAT_EQ(splits.normalisation.mean[1], 0.2f);
  EXPECT_FLOAT_EQ(splits.normalisation.stddev[1], 1);
  EXPECT_EQ(input_of(*splits.train, 0), (std::vector<float>{-1, 1, 0, 0}));
}

// A deviation of 1/2 around 16 million survives, which a plain sum of squares would lose in rounding.
TEST(Statistics, AreExactFarFromZero) {
  class Far final : public Dataset {
   public:
    Far() { spec_.input_shape = {1}; }
    const SampleSpec& spec() const override { return spec_; }
    std::int64_t size() const override { return 10000; }
    void read(std::int64_t index, std::span<std::byte> input, std::span<std::byte>) const override {
      *reinterpret_cast<float*>(input.data()) = 16777214.0f + static_cast<float>(index % 2);
    }
    std::uint64_t fingerprint() const override { return 0; }

   private:
    SampleSpec spec_;
  } data;
  Indices all(10000);
  std::iota(all.begin(), all.end(), 0);
  const auto statistics = compute_normalisation(data, all);
  EXPECT_NEAR(statistics.mean[0], 16777214.5, 1);
  EXPECT_FLOAT_EQ(statistics.stddev[0], 0.5);
}

}  // namespace
}  // namespace tugline
