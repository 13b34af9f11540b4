// SPDX-License-Identifier: Apache-2.0
// What each kind of data set reads from good files.
#include <cmath>
#include <numeric>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/tests/core/data/data_files.hpp"

namespace tugline {
namespace {

using Shape = std::vector<std::int64_t>;
using Floats = std::vector<float>;

DataConfig all_for_training(const std::string& name) {
  DataConfig config;
  config.name = name;
  config.normalise = false;
  config.split.validation = config.split.test = 0;
  return config;
}

TEST(Digits, AreBuiltIn) {
  const auto splits = open_data(all_for_training("digits"), 0);
  const Dataset& train = *splits.train;
  EXPECT_EQ(train.size(), 1797);
  EXPECT_EQ(train.spec().input_shape, (Shape{1, 8, 8}));
  EXPECT_EQ(train.spec().target_shape, Shape{});
  EXPECT_EQ(train.spec().num_classes, 10);
  EXPECT_EQ(class_of(train, 0), 0);
  EXPECT_EQ(class_of(train, 1796), 8);
  const auto first = input_of(train, 0);
  EXPECT_EQ(Floats(first.begin(), first.begin() + 8), (Floats{0, 0, 5 / 16.f, 13 / 16.f, 9 / 16.f, 1 / 16.f, 0, 0}));
  Shape counts(10);
  for (const auto digit : classes_of(train)) ++counts.at(digit);
  EXPECT_EQ(counts, (Shape{178, 182, 177, 183, 181, 182, 181, 179, 174, 180}));
  EXPECT_TRUE(train.cheap());
}

TEST(Digits, DefaultSplitIsStratified) {
  DataConfig config;
  const auto splits = open_data(config, 0);
  EXPECT_EQ(splits.train->size(), 1437);
  EXPECT_EQ(splits.validation->size(), 180);
  EXPECT_EQ(splits.test->size(), 180);
  for (const auto& part : {splits.validation, splits.test}) {
    Shape counts(10);
    for (const auto digit : classes_of(*part)) ++counts.at(digit);
    for (const auto count : counts) EXPECT_NEAR(count, 18, 1);
  }
  EXPECT_EQ(splits.train->fingerprint(), open_data(config, 0).train->fingerprint());
  EXPECT_NE(splits.train->fingerprint(), open_data(config, 1).train->fingerprint());
}

class Idx : public DataFiles {
 protected:
  DataConfig config() const {
    DataConfig config = all_for_training("idx");
    config.path = folder_.string();
    config.train_inputs = "images";
    config.train_targets = "labels";
    return config;
  }
};

TEST_F(Idx, ImagesGzippedOrNot) {
  const std::string images = idx_head(8, {3, 2, 2}) + std::string("\x00\x33\x66\xff\x01\x02\x03\x04\xff\xff\xff\xff", 12);
  const std::string labels = idx_head(8, {3}) + std::string("\x02\x00\x01", 3);
  write("images", images);
  write("labels", labels);
  const auto plain = open_data(config(), 0).train;
  write("images", gzipped(images));
  write("labels", gzipped(labels));
  const auto packed = open_data(config(), 0).train;
  EXPECT_EQ(plain->fingerprint(), packed->fingerprint());
  EXPECT_EQ(plain->spec().input_shape, (Shape{1, 2, 2}));
  EXPECT_EQ(plain->spec().num_classes, 3);
  const auto pixels = input_of(*plain, 0);
  EXPECT_FLOAT_EQ(pixels[1], 0.2f);
  EXPECT_FLOAT_EQ(pixels[3], 1.0f);
  EXPECT_EQ(classes_of(*plain), (Shape{2, 0, 1}));
}

TEST_F(Idx, OtherTypesAndChannels) {
  // Two records of 2 channels, 1 x 1, as big-endian float32: 1, -2, 0.5, 0.
  write("images", idx_head(0x0D, {2, 2, 1, 1}) + std::string("\x3f\x80\0\0\xc0\0\0\0\x3f\0\0\0\0\0\0\0", 16));
  write("labels", idx_head(0x0C, {2}) + std::string("\0\0\0\x01\0\0\0\0", 8));
  const auto train = open_data(config(), 0).train;
  EXPECT_EQ(train->spec().input_shape, (Shape{2, 1, 1}));
  EXPECT_EQ(input_of(*train, 0), (Floats{1, -2}));
  EXPECT_EQ(input_of(*train, 1), (Floats{0.5, 0}));
  EXPECT_EQ(classes_of(*train), (Shape{1, 0}));
}

TEST_F(Idx, GivenFilesAndValidationCarvedFromTrain) {
  const auto images = [](int count) {
    return idx_head(8, {static_cast<std::uint32_t>(count), 2}) + std::string(2 * count, '\x07');
  };
  const auto labels = [](int count) {
    std::string bytes = idx_head(8, {static_cast<std::uint32_t>(count)});
    for (int i = 0; i < count; ++i) bytes.push_back(static_cast<char>(i % 2));
    return bytes;
  };
  write("images", images(20));
  write("labels", labels(20));
  write("test-images", images(7));
  write("test-labels", labels(7));
  DataConfig with_test = config();
  with_test.test_inputs = "test-images";
  with_test.test_targets = "test-labels";
  with_test.split.validation = 0.2;
  with_test.split.test = 0.5;  // has no say: there is a file
  const auto splits = open_data(with_test, 0);
  EXPECT_EQ(splits.train->size(), 16);
  EXPECT_EQ(splits.validation->size(), 4);
  EXPECT_EQ(splits.test->size(), 7);
  EXPECT_EQ(classes_of(*splits.test), (Shape{0, 1, 0, 1, 0, 1, 0}));
}

class Csv : public DataFiles {
 protected:
  DataConfig config(const std::string& text) const {
    DataConfig config = all_for_training("csv");
    config.path = write("table.csv", text);
    return config;
  }
  DataSplits open(const std::string& text) const { return open_data(config(text), 0); }
};

TEST_F(Csv, HeaderTypesAndOneHotAreInferred) {
  const auto train = open("size,colour,kind\n1.5,red,b\n-2e1,blue,a\n+3,red,b\n").train;
  EXPECT_EQ(train->spec().input_shape, Shape{3});
  EXPECT_EQ(train->spec().class_names, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(input_of(*train, 0), (Floats{1.5, 0, 1}));  // blue, red
  EXPECT_EQ(input_of(*train, 1), (Floats{-20, 1, 0}));
  EXPECT_EQ(input_of(*train, 2), (Floats{3, 0, 1}));
  EXPECT_EQ(classes_of(*train), (Shape{1, 0, 1}));
}

TEST_F(Csv, CategoriesAsIndex) {
  auto indexed = config("size,colour,kind\n1.5,red,b\n-2e1,blue,a\n");
  indexed.categorical = "index";
  const auto train = open_data(indexed, 0).train;
  EXPECT_EQ(input_of(*train, 0), (Floats{1.5, 1}));
  EXPECT_EQ(input_of(*train, 1), (Floats{-20, 0}));
}

TEST_F(Csv, WithoutHeaderAndWithOneThatLooksLikeData) {
  EXPECT_EQ(open("1,2,0\n3,4,1\n").train->size(), 2);
  auto named = config("2019,2020,2021\n3,4,1\n5,6,0\n");
  named.header = true;
  EXPECT_EQ(open_data(named, 0).train->size(), 2);
  auto words = config("a,x\nb,y\nc,x\n");
  EXPECT_EQ(open_data(words, 0).train->size(), 3);
  words.label = "x";  // a name that stands in the first line makes that a header
  words.header.reset();
  EXPECT_EQ(open_data(words, 0).train->size(), 2);
}

TEST_F(Csv, LabelByNameAndIndex) {
  auto table = config("kind,size,weight\n7,1,2\n9,3,4\n");
  for (const std::string label : {"kind", "0", "-3"}) {
    table.label = label;
    const auto train = open_data(table, 0).train;
    EXPECT_EQ(input_of(*train, 1), (Floats{3, 4})) << label;
    EXPECT_EQ(train->spec().class_names, (std::vector<std::string>{"7", "9"})) << label;
  }
  table.label = "";  // the last
  EXPECT_EQ(input_of(*open_data(table, 0).train, 0), (Floats{7, 1}));
}

TEST_F(Csv, NumbersAsClassesAreSortedAsNumbers) {
  const auto train = open("x,k\n1,10\n2,9\n3,10.0\n4,-1\n").train;
  EXPECT_EQ(train->spec().class_names, (std::vector<std::string>{"-1", "9", "10"}));
  EXPECT_EQ(classes_of(*train), (Shape{2, 1, 2, 0}));
}

TEST_F(Csv, RegressionTargetsAreLeftAlone) {
  auto table = config("x,y\n1,100\n2,200.5\n3,300\n");
  table.target = "value";
  table.normalise = true;
  const auto splits = open_data(table, 0);
  EXPECT_EQ(splits.train->spec().target_shape, Shape{1});
  EXPECT_EQ(splits.train->spec().target_dtype, DType::float32);
  EXPECT_EQ(splits.train->spec().num_classes, 0);
  EXPECT_EQ(values_of<float>(*splits.train, 1, false), (Floats{200.5}));
  EXPECT_FLOAT_EQ(input_of(*splits.train, 1)[0], 0);
}

TEST_F(Csv, QuotesLineEndsAndBlanks) {
  const auto train =
      open("\xEF\xBB\xBFsize , \"a, \"\"b\"\"\nc\" ,kind\r\n 1 , \"u,v\" , x\r\n\r\n2,\"line\nbreak\",y\r\n3,\"u,v\",y")
          .train;
  EXPECT_EQ(train->size(), 3);
  EXPECT_EQ(train->spec().input_shape, Shape{3});
  EXPECT_EQ(input_of(*train, 0), (Floats{1, 0, 1}));
  EXPECT_EQ(input_of(*train, 1), (Floats{2, 1, 0}));
}

TEST_F(Csv, FilesForEachPart) {
  auto table = config("");
  write("train.csv", "x,c,k\n1,u,a\n2,v,b\n");
  write("late.csv.gz", gzipped("x,c,k\n5,v,b\n"));
  table.path = folder_.string();
  table.train_inputs = "train.csv";
  table.validation_inputs = "late.csv.gz";
  table.split.validation = table.split.test = 0.4;  // have no say: the files do
  const auto splits = open_data(table, 0);
  EXPECT_EQ(splits.train->size(), 2);
  EXPECT_EQ(splits.test->size(), 0);
  ASSERT_EQ(splits.validation->size(), 1);
  EXPECT_EQ(input_of(*splits.validation, 0), (Floats{5, 0, 1}));
  EXPECT_EQ(class_of(*splits.validation, 0), 1);
}

TEST(ShippedTables, OpenAsTheirReadmeSays) {
  auto table = all_for_training("csv");
  table.path = TUGLINE_SHIPPED_DATA "/wine.csv";
  table.label = "cultivar";
  const auto wine = open_data(table, 0).train;
  EXPECT_EQ(wine->size(), 178);
  EXPECT_EQ(wine->spec().input_shape, Shape{13});
  EXPECT_EQ(wine->spec().class_names, (std::vector<std::string>{"1", "2", "3"}));
  table.path = TUGLINE_SHIPPED_DATA "/breast_cancer.csv";
  table.label = "diagnosis";
  const auto cancer = open_data(table, 0).train;
  EXPECT_EQ(cancer->size(), 569);
  EXPECT_EQ(cancer->spec().input_shape, Shape{30});
  const auto classes = classes_of(*cancer);
  EXPECT_EQ(std::accumulate(classes.begin(), classes.end(), std::int64_t{0}), 212);  // malignant
  EXPECT_EQ(cancer->spec().class_names, (std::vector<std::string>{"benign", "malignant"}));
}

class TextFile : public DataFiles {
 protected:
  DataConfig config(const std::string& text, std::int64_t context) const {
    DataConfig config = all_for_training("text");
    config.path = write("text.txt", text);
    config.context = context;
    return config;
  }
};

Shape input_tokens(const Dataset& data, std::int64_t index) { return values_of<std::int64_t>(data, index, true); }
Shape target_tokens(const Dataset& data, std::int64_t index) { return values_of<std::int64_t>(data, index, false); }

TEST_F(TextFile, CharactersAreCodePoints) {
  const auto train = open_data(config("b\xC3\xA4"
                                      "ab\xE2\x82\xAC"
                                      "a\n",
                                      3),
                               0)
                         .train;  // b ä a b € a newline
  EXPECT_EQ(train->spec().class_names, (std::vector<std::string>{"\n", "a", "b", "\xC3\xA4", "\xE2\x82\xAC"}));
  EXPECT_EQ(train->spec().num_classes, 5);
  EXPECT_EQ(train->spec().input_dtype, DType::int64);
  EXPECT_EQ(train->spec().target_shape, Shape{3});
  ASSERT_EQ(train->size(), 2);
  EXPECT_EQ(input_tokens(*train, 0), (Shape{2, 3, 1}));
  EXPECT_EQ(target_tokens(*train, 0), (Shape{3, 1, 2}));
  EXPECT_EQ(input_tokens(*train, 1), (Shape{2, 4, 1}));
  EXPECT_EQ(target_tokens(*train, 1), (Shape{4, 1, 0}));
}

TEST_F(TextFile, BytesAreBytes) {
  auto bytes = config("\xff\x00z\x80", 3);
  write("text.txt", std::string("\xff\x00z\x80", 4));
  bytes.tokens = "bytes";
  const auto train = open_data(bytes, 0).train;
  EXPECT_EQ(train->spec().num_classes, 256);
  ASSERT_EQ(train->size(), 1);
  EXPECT_EQ(input_tokens(*train, 0), (Shape{255, 0, 122}));
  EXPECT_EQ(target_tokens(*train, 0), (Shape{0, 122, 128}));
}

TEST_F(TextFile, PartsAreContiguousAndInOrder) {
  std::string text;
  for (int i = 0; i < 100; ++i) text.push_back(static_cast<char>(32 + i % 90));
  auto parts = config(text, 4);
  parts.tokens = "bytes";
  parts.split.validation = 0.2;
  parts.split.test = 0.1;
  parts.normalise = true;
  const auto splits = open_data(parts, 3);
  EXPECT_TRUE(splits.normalisation.empty());
  EXPECT_EQ(splits.train->size(), 17);      // 70 tokens
  EXPECT_EQ(splits.validation->size(), 4);  // 20
  EXPECT_EQ(splits.test->size(), 2);        // 10
  EXPECT_EQ(input_tokens(*splits.train, 0).front(), text[0]);
  EXPECT_LT(target_tokens(*splits.train, 16).back(), text[70]);
  EXPECT_EQ(input_tokens(*splits.validation, 0).front(), text[70]);
  EXPECT_EQ(input_tokens(*splits.test, 0).front(), text[90]);
}

TEST_F(TextFile, FilesForEachPartShareTheTrainVocabulary) {
  auto parts = config("abcabcabc", 2);
  parts.path = folder_.string();
  parts.train_inputs = "text.txt";
  parts.validation_inputs = "late.txt";
  write("late.txt", "ccb");
  const auto splits = open_data(parts, 0);
  EXPECT_EQ(splits.train->size(), 4);
  EXPECT_EQ(input_tokens(*splits.validation, 0), (Shape{2, 2}));
  EXPECT_EQ(splits.test->size(), 0);
}

TEST(Synthetic, ClassesAreWhatTheTeacherSays) {
  auto config = all_for_training("synthetic");
  config.samples = 2000;
  config.features = 6;
  config.classes = 4;
  const auto train = open_data(config, 0).train;
  EXPECT_EQ(train->size(), 2000);
  EXPECT_EQ(train->spec().input_shape, Shape{6});
  Shape counts(4);
  double sum = 0, squares = 0;
  for (std::int64_t i = 0; i < train->size(); ++i) {
    ++counts.at(class_of(*train, i));
    for (const float value : input_of(*train, i)) sum += value, squares += value * value;
  }
  for (const auto count : counts) EXPECT_GT(count, 100);
  EXPECT_NEAR(sum / 12000, 0, 0.05);
  EXPECT_NEAR(squares / 12000, 1, 0.06);
}

TEST(Synthetic, DataSeedAloneDecidesAndMoreSamplesOnlyAdd) {
  auto config = all_for_training("synthetic");
  config.samples = 50;
  const auto few = open_data(config, 0).train;
  EXPECT_EQ(few->fingerprint(), open_data(config, 9).train->fingerprint());
  config.samples = 60;
  const auto more = open_data(config, 0).train;
  for (std::int64_t i = 0; i < 50; ++i) {
    EXPECT_EQ(input_of(*few, i), input_of(*more, i));
    EXPECT_EQ(class_of(*few, i), class_of(*more, i));
  }
  config.seed = 1;
  EXPECT_NE(input_of(*open_data(config, 0).train, 0), input_of(*more, 0));
}

// With no noise the values are linear in the inputs: f(a) of a sum of inputs is the sum of their values.
TEST(Synthetic, RegressionIsLinearUpToNoise) {
  auto config = all_for_training("synthetic");
  config.target = "value";
  config.samples = 4;
  config.features = 2;
  config.outputs = 3;
  config.noise = 0;
  const auto train = open_data(config, 0).train;
  EXPECT_EQ(train->spec().target_shape, Shape{3});
  // Solve x2 = p * x0 + q * x1, then the targets must agree.
  const auto x0 = input_of(*train, 0), x1 = input_of(*train, 1), x2 = input_of(*train, 2);
  const double det = x0[0] * x1[1] - x0[1] * x1[0];
  const double p = (x2[0] * x1[1] - x2[1] * x1[0]) / det, q = (x0[0] * x2[1] - x0[1] * x2[0]) / det;
  const auto y0 = values_of<float>(*train, 0, false), y1 = values_of<float>(*train, 1, false),
             y2 = values_of<float>(*train, 2, false);
  for (int output = 0; output < 3; ++output) EXPECT_NEAR(p * y0[output] + q * y1[output], y2[output], 1e-4);
  config.noise = 1;
  EXPECT_NE(values_of<float>(*open_data(config, 0).train, 0, false), y0);
}

TEST(Catalogue, EveryNameHasALineOfHelp) {
  for (const auto& [name, help] : dataset_catalogue()) EXPECT_GT(help.size(), 20u) << name;
}

TEST(Subset, ReadsTheChosenSamplesInTheirOrder) {
  const auto train = open_data(all_for_training("digits"), 0).train;
  const auto few = subset(train, {5, 6, 7, 7, 2});
  ASSERT_EQ(few->size(), 5);
  EXPECT_EQ(classes_of(*few), (Shape{5, 6, 7, 7, 2}));
  std::vector<float> inputs(5 * 64);
  std::vector<std::int64_t> targets(5);
  few->read_range(0, 5, std::as_writable_bytes(std::span(inputs)), std::as_writable_bytes(std::span(targets)));
  EXPECT_EQ(targets, (Shape{5, 6, 7, 7, 2}));
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(Floats(inputs.begin() + 64 * i, inputs.begin() + 64 * (i + 1)), input_of(*train, targets[i]));
  }
}

}  // namespace
}  // namespace tugline
