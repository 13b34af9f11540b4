// SPDX-License-Identifier: Apache-2.0
// Every way in which data can be bad, and the one sentence that says so.
#include <functional>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/dataset.hpp"
#include "tugline/tests/core/data/data_files.hpp"

namespace tugline {
namespace {

class BadData : public DataFiles {
 protected:
  /// The DataError of opening `config`, without the folder, whose name is drawn at random.
  template <class E = DataError>
  std::string error(const DataConfig& config) const {
    std::string text = error_of<E>([&] { open_data(config, 0); });
    const std::string prefix = folder_.string() + "/";
    for (auto at = text.find(prefix); at != std::string::npos; at = text.find(prefix)) text.erase(at, prefix.size());
    return text;
  }

  DataConfig idx(const std::string& images, const std::string& labels) const {
    DataConfig config;
    config.name = "idx";
    config.path = folder_.string();
    write(config.train_inputs = "images", images);
    write(config.train_targets = "labels", labels);
    config.split.validation = config.split.test = 0;
    return config;
  }

  DataConfig csv(const std::string& text) const {
    DataConfig config;
    config.name = "csv";
    config.path = write("t.csv", text);
    config.split.validation = config.split.test = 0;
    return config;
  }

  DataConfig text(const std::string& content, std::int64_t context = 4) const {
    DataConfig config;
    config.name = "text";
    config.path = write("t.txt", content);
    config.context = context;
    config.split.validation = config.split.test = 0;
    return config;
  }
};

const std::string kImages = idx_head(8, {2, 1, 2}) + "abcd";
const std::string kLabels = idx_head(8, {2}) + std::string("\x00\x01", 2);

TEST_F(BadData, UnknownNamesSayWhatIsNearest) {
  DataConfig config;
  config.name = "digit";
  EXPECT_EQ(error<ConfigError>(config),
            "data.name: 'digit' is not one of digits, idx, csv, hdf5, text, synthetic; did you mean digits?");
  config.name = "digits";
  config.split.by = "tme";
  EXPECT_EQ(error<ConfigError>(config), "data.split.by: 'tme' is not one of auto, given, random, time; did you mean time?");
}

TEST_F(BadData, SplitsThatDoNotFit) {
  DataConfig config;
  config.split.by = "time";
  EXPECT_EQ(error<ConfigError>(config), "data.split.by: time needs a time column, which only csv data have, not digits");
  config.split.by = "given";
  EXPECT_EQ(error<ConfigError>(config),
            "data.split.by: given needs files for the other parts: set data.validation_inputs or data.test_inputs");
  config = csv("x,k\n1,a\n2,b\n");
  config.split.by = "time";
  EXPECT_EQ(error<ConfigError>(config), "data.split.time_column: a split by time needs the name of a column");
  config.split.time_column = "k";
  EXPECT_EQ(error<ConfigError>(config), "data.split.time_column: the label column cannot be the time column too");
  config.split.time_column = "x";
  EXPECT_EQ(error(config), "t.csv: only two columns: a feature is needed beside the label and the time");
  config.split.time_column = "when";
  EXPECT_EQ(error(config), "t.csv: data.split.time_column: there is no column 'when' among x, k");
  config = csv("d,x,k\n1/2/2024,1,a\n3/1/2024,2,b\n");
  config.split.by = "time";
  config.split.time_column = "d";
  EXPECT_EQ(error(config), "t.csv:2: column 'd': '1/2/2024' is no time: write numbers, or dates like 2024-01-31");
  config = text("abcdefgh");
  config.split.by = "random";
  EXPECT_EQ(error<ConfigError>(config),
            "data.split.by: random does not fit a text, which is split in contiguous parts: use auto or given");
}

TEST_F(BadData, FilesThatCannotBeRead) {
  DataConfig config = csv("");
  EXPECT_EQ(error(config), "t.csv: the file is empty");
  config.path = path("none.csv");
  EXPECT_EQ(error(config), "none.csv: cannot be opened: No such file or directory");
  std::filesystem::create_directory(path("folder"));
  config.path = path("folder");
  EXPECT_EQ(error(config), "folder: is a folder, not a file");
  config.path = "";
  EXPECT_EQ(error<ConfigError>(config), "data.path: csv data needs a file name");
  const std::string packed = gzipped(std::string(5000, 'x') + "1,2\n");
  config.path = write("t.csv.gz", packed.substr(0, packed.size() - 3));
  EXPECT_EQ(error(config), "t.csv.gz: the gzip data is damaged or cut short");
  std::string flipped = packed;
  flipped[flipped.size() - 6] ^= 1;  // in the check sum
  config.path = write("t.csv.gz", flipped);
  EXPECT_EQ(error(config), "t.csv.gz: the gzip data is damaged or cut short");
  config = text("");
  EXPECT_EQ(error(config), "t.txt: the file is empty");
}

TEST_F(BadData, IdxHeads) {
  EXPECT_EQ(error(idx("", kLabels)), "images: the file is empty");
  EXPECT_EQ(error(idx(std::string("\0\0", 2), kLabels)), "images: the file is cut short: it ends inside its first 4 bytes");
  EXPECT_EQ(error(idx("GIF89a", kLabels)), "images: wrong magic number 0x47494638: this is no IDX file");
  EXPECT_EQ(error(idx(idx_head(7, {2, 2}) + "abcd", kLabels)),
            "images: wrong magic number 0x00000702: this is no IDX file");
  EXPECT_EQ(error(idx(idx_head(8, {}) + "abcd", kLabels)), "images: wrong magic number 0x00000800: this is no IDX file");
  EXPECT_EQ(error(idx(kImages.substr(0, 9), kLabels)), "images: the file is cut short: it ends inside its 3 dimensions");
  EXPECT_EQ(error(idx(kImages.substr(0, 19), kLabels)),
            "images: the file is cut short: dimensions 2x1x2 need 4 bytes of values, it has 3");
  EXPECT_EQ(error(idx(kImages + "e", kLabels)), "images: dimensions 2x1x2 need 4 bytes of values, but the file has 5");
  EXPECT_EQ(error(idx(idx_head(8, {0, 2}), kLabels)), "images: holds no values: its dimensions are 0x2");
  const std::string huge = idx_head(8, {0xffffffff, 0xffffffff, 0xffffffff}) + "abcd";
  EXPECT_EQ(
      error(idx(huge, kLabels)),
      "images: the file is cut short: dimensions 4294967295x4294967295x4294967295 need 79228162458924105372415295488 bytes "
      "of values, it has 4");
  EXPECT_EQ(error(idx(idx_head(8, {2}) + "ab", kLabels)), "images: inputs need 2, 3 or 4 dimensions, the file has 1");
}

TEST_F(BadData, IdxRecords) {
  EXPECT_EQ(error(idx(kImages, idx_head(8, {3}) + "abc")), "images has 2 records but labels has 3");
  EXPECT_EQ(error(idx(kImages, idx_head(8, {2, 1}) + "ab")),
            "labels: labels must be one whole number per record, the file has 2 dimensions of type 0x08");
  EXPECT_EQ(error(idx(kImages, idx_head(0x0C, {2}) + std::string("\0\0\0\0\xff\xff\xff\xff", 8))),
            "labels: record 1: label -1 is out of range 0 .. 255");
  EXPECT_EQ(error(idx(kImages, idx_head(0x0C, {2}) + std::string("\0\0\x01\0\0\0\0\0", 8))),
            "labels: record 0: label 256 is out of range 0 .. 255");
  EXPECT_EQ(error(idx(idx_head(0x0D, {2, 2}) + std::string("\0\0\0\0\0\0\0\0\0\0\0\0\x7f\xc0\0\0", 16), kLabels)),
            "images: record 1: value 1 is not a finite number");
}

TEST_F(BadData, IdxPartsThatDoNotFitTheTrainFiles) {
  DataConfig config = idx(kImages, kLabels);
  config.test_inputs = "test-images";
  EXPECT_EQ(error<ConfigError>(config), "data.test_targets: idx data needs this file name");
  config.test_targets = "test-labels";
  write("test-images", kImages);
  write("test-labels", idx_head(8, {2}) + std::string("\x01\x02", 2));
  EXPECT_EQ(error(config), "test-labels: record 1: label 2 is out of range 0 .. 1, the classes of the train split");
  write("test-images", idx_head(8, {2, 2, 1}) + "abcd");
  write("test-labels", kLabels);
  EXPECT_EQ(error(config), "test-images: records of shape 1x2x1, but the train inputs have 1x1x2");
  config.train_targets = "";
  EXPECT_EQ(error<ConfigError>(config), "data.train_targets: idx data needs this file name");
}

TEST_F(BadData, CsvShape) {
  EXPECT_EQ(error(csv("x,y,k\n1,2,a\n1,2\n")), "t.csv:3: 2 columns, but line 1 has 3");
  EXPECT_EQ(error(csv("x,k\n\n\n1,a\n1,2,a\n")), "t.csv:5: 3 columns, but line 1 has 2");
  EXPECT_EQ(error(csv("x;k\n1;a\n")), "t.csv: only one column: a label and a feature are needed, with commas between");
  auto named = csv("x,k\n");
  named.header = true;
  EXPECT_EQ(error(named), "t.csv: the file has a header line and no records");
  EXPECT_EQ(error(csv("x,k\n1,\"a\n2,b\n")), "t.csv:2: a quote is opened here and never closed");
  EXPECT_EQ(error(csv("x,k\n1,\"a\"b\n")), "t.csv:2: text follows a closing quote; a quote inside quotes is written twice");
}

TEST_F(BadData, CsvCells) {
  EXPECT_EQ(error(csv("x,y,k\n1,2,a\n1,,b\n")), "t.csv:3: column 'y': the value is missing");
  EXPECT_EQ(error(csv("x,y,k\n1,2,a\n1,NA,b\n")), "t.csv:3: column 'y': the value 'NA' is missing");
  EXPECT_EQ(error(csv("x,y,k\n1,2,a\nnan,3,b\n")), "t.csv:3: column 'x': the value 'nan' is missing");
  EXPECT_EQ(error(csv("1,2,0\n3,?,1\n")), "t.csv:2: column 1: the value '?' is missing");
  EXPECT_EQ(error(csv("x,k\n1,a\ninf,b\n")), "t.csv:3: column 'x': 'inf' is not a finite number");
  EXPECT_EQ(error(csv("x,k\n1,a\n1e39,b\n")), "t.csv:3: column 'x': '1e39' is not a finite number");
  EXPECT_EQ(error(csv("x,k\n1,a\n2,b\n3,a\nfour,b\n")),
            "t.csv:5: column 'x': 'four' is not a number, as most of this column are");
  EXPECT_EQ(error(csv("\"two\nlines\",k\n1,a\n\"x\ny\",b\n3,b\n,c\n")),
            "t.csv:7: column 'two\nlines': the value is missing");
}

TEST_F(BadData, CsvLabels) {
  auto table = csv("x,k\n1,a\n2,b\n");
  table.label = "kind";
  EXPECT_EQ(error(table), "t.csv: data.label: there is no column 'kind' among x, k");
  table.label = "2";
  EXPECT_EQ(error(table), "t.csv: data.label: there is no column 2: the file has 2");
  table.label = "-3";
  EXPECT_EQ(error(table), "t.csv: data.label: there is no column -3: the file has 2");
  table = csv("1,2\n3,4\n");
  table.label = "kind";
  EXPECT_EQ(error(table), "t.csv: data.label: there is no column 'kind': the file has no header line");
  EXPECT_EQ(error(csv("x,k\n1,0.5\n2,1\n")),
            "t.csv:2: column 'k': 0.5 is not a class; for regression set data.target: value");
  EXPECT_EQ(error(csv("x,k\n1,a\n2,a\n")), "t.csv: column 'k': only one class, 'a'");
  table = csv("x,k\n1,a\n2,b\n");
  table.target = "value";
  EXPECT_EQ(error(table), "t.csv:2: column 'k': 'a' is not a number, which data.target: value needs");
  std::string wide = "x,id,k\n";
  for (int i = 0; i < 1001; ++i) wide += "1,id" + std::to_string(i) + (i % 2 ? ",a\n" : ",b\n");
  EXPECT_EQ(
      error(csv(wide)),
      "t.csv: column 'id': 1001 different texts are too many for data.categorical: onehot; use index, or drop the column");
}

TEST_F(BadData, CsvPartsThatDoNotFitTheTrainFile) {
  auto table = csv("x,c,k\n1,u,a\n2,v,b\n");
  table.test_inputs = "test.csv";
  table.path = folder_.string();
  table.train_inputs = "t.csv";
  const auto with_test = [&](const std::string& content) {
    write("test.csv", content);
    return error(table);
  };
  EXPECT_EQ(with_test("x,c\n1,u\n"), "test.csv: 2 columns, but t.csv has 3");
  EXPECT_EQ(with_test("x,d,k\n1,u,a\n"), "test.csv:1: column 1 is 'd', but in t.csv it is 'c'");
  EXPECT_EQ(with_test("x,c,k\n1,w,a\n"), "test.csv:2: column 'c': 'w' does not occur in the train file");
  EXPECT_EQ(with_test("x,c,k\n1,u,z\n"), "test.csv:2: column 'k': class 'z' does not occur in the train file");
  EXPECT_EQ(with_test("x,c,k\none,u,a\n"), "test.csv:2: column 'x': 'one' is not a number, as most of this column are");
  EXPECT_EQ(with_test("x,c,k\n"), "test.csv: the file has a header line and no records");
}

TEST_F(BadData, Texts) {
  EXPECT_EQ(error(text("ab\xff"
                       "cdef")),
            "t.txt: byte 2 is not valid UTF-8; data.tokens: bytes reads any file");
  EXPECT_EQ(error(text("abcd\xC3")), "t.txt: byte 4 is not valid UTF-8; data.tokens: bytes reads any file");
  EXPECT_EQ(error(text("abcd")), "t.txt: the train part has 4 tokens, but one sample needs data.context + 1 = 5");
  auto parts = text("abcdefghijklmnopqrst");
  parts.split.validation = 0.1;
  EXPECT_EQ(error(parts), "t.txt: the validation part has 2 tokens, but one sample needs data.context + 1 = 5");
  parts = text("abcabcabc");
  parts.path = folder_.string();
  parts.train_inputs = "t.txt";
  parts.test_inputs = "test.txt";
  write("test.txt", "abcde");
  EXPECT_EQ(error(parts), "test.txt: character 3: 'd' does not occur in the train text");
}

TEST_F(BadData, SyntheticSizes) {
  DataConfig config;
  config.name = "synthetic";
  config.classes = 1;
  EXPECT_EQ(error<ConfigError>(config), "data.classes: 1 is too small: at least 2");
  config.classes = 2;
  config.noise = -1;
  EXPECT_EQ(error<ConfigError>(config), "data.noise: -1 must not be negative");
}

// A file that is cut off, or has one byte changed, anywhere: an error or a valid data set, never a crash.
TEST_F(BadData, DamageAnywhereIsContained) {
  const auto try_all = [&](const std::string& good, const std::function<DataConfig(const std::string&)>& config_of) {
    for (std::size_t at = 0; at < good.size(); ++at) {
      std::string changed = good;
      changed[at] = static_cast<char>(changed[at] ^ (1 << at % 8));
      for (const std::string& bad : {good.substr(0, at), changed}) {
        const std::string text = error_of<DataError>([&] { open_data(config_of(bad), 0); });
        EXPECT_FALSE(text.starts_with("another kind")) << text;
      }
    }
  };
  try_all(kImages, [&](const std::string& bad) { return idx(bad, kLabels); });
  try_all(kLabels, [&](const std::string& bad) { return idx(kImages, bad); });
  try_all(gzipped(kImages), [&](const std::string& bad) { return idx(bad, kLabels); });
  try_all("x,c,k\r\n1,\"a,\"\"b\",u\r\n2,d,v\n", [&](const std::string& bad) { return csv(bad); });
  try_all(
      "b\xC3\xA4"
      "ab\xE2\x82\xAC"
      "a\n",
      [&](const std::string& bad) { return text(bad, 2); });
}

}  // namespace
}  // namespace tugline
