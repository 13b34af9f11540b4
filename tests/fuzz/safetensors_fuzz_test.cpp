// SPDX-License-Identifier: Apache-2.0
// Damaged safetensors files: arrays that can be written again, or a DataError, and little memory in either case.
#include "tugline/core/io/safetensors.hpp"
#include "tugline/tests/fuzz/mutator.hpp"
#include "tugline/tests/fuzz/requested_memory.hpp"
#include "tugline/tests/support/temporary_folder.hpp"

namespace tugline {
namespace {

class SafetensorsFuzz : public TemporaryFolder {
 protected:
  void SetUp() override {
    TemporaryFolder::SetUp();
    file_ = folder_ / "model.safetensors";
    const std::vector<float> weights(60, 0.5F);
    const std::vector<std::int64_t> cursor{3, 7};
    const bool flags[] = {true, false, true};
    write_safetensors(file_, {{"in.weight", DType::float32, {6, 10}, weights.data()},
                              {"half", DType::bfloat16, {3}, weights.data()},
                              {"cursor", DType::int64, {2}, cursor.data()}, {"flags", DType::boolean, {3}, flags},
                              {"scalar", DType::float64, {}, weights.data()}, {"empty", DType::float16, {0, 4}, nullptr}},
                      {{"format", "pt"}, {"epoch", "3"}});
    good_ = read(file_);
    header_bytes_ = static_cast<unsigned char>(good_[0]) + 256 * static_cast<std::size_t>(static_cast<unsigned char>(good_[1]));
  }

  std::string good_header() const { return good_.substr(8, header_bytes_); }
  std::string good_buffer() const { return good_.substr(8 + header_bytes_); }
  static std::string with_length(const std::string& header) {
    std::string length(8, '\0');
    for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>((header.size() >> (8 * i)) & 0xff);
    return length + header;
  }

  /// Whether the reader takes `bytes`. It asks for no piece of memory that is larger than the file (and a stream's buffer), and
  /// for a few times the file altogether.
  bool readable(const std::string& bytes) {
    write(file_, bytes);
    Safetensors result;
    forget_requested_memory();
    const bool worked = works_or_says_why<DataError>(bytes, [&] { result = read_safetensors(file_); });
    const RequestedMemory requested = requested_memory();
    constexpr std::size_t kStreams = 16'384;
    EXPECT_GT(requested.all, 0U) << "nothing is counted";
    EXPECT_LE(requested.largest, bytes.size() + kStreams) << "input: " << escaped(bytes);
    EXPECT_LE(requested.all, 20 * bytes.size() + 2 * kStreams) << "input: " << escaped(bytes);
    if (worked) expect_written_again(result);
    return worked;
  }

  void expect_written_again(const Safetensors& content) {
    std::vector<ArrayView> views;
    for (const auto& [name, array] : content.arrays) views.push_back({name, array.dtype, array.shape, array.data.data()});
    write_safetensors(file_, views, content.metadata);
    const Safetensors again = read_safetensors(file_);
    EXPECT_EQ(again.metadata, content.metadata);
    ASSERT_EQ(again.arrays.size(), content.arrays.size());
    for (const auto& [name, array] : content.arrays) {
      EXPECT_EQ(again.arrays.at(name).shape, array.shape);
      EXPECT_EQ(again.arrays.at(name).data, array.data);
    }
  }

  /// Damages what `make` is given `inputs` times; both outcomes must occur, else the damage tests little.
  void try_damaged(const std::string& good, Mutator mutator, int inputs, auto&& make) {
    ASSERT_TRUE(readable(make(good)));
    int worked = 0;
    for (int i = 0; i < inputs; ++i) worked += readable(make(mutator.damaged(good)));
    EXPECT_GT(worked, 0);
    EXPECT_LT(worked, inputs);
  }

  std::filesystem::path file_;
  std::string good_;
  std::size_t header_bytes_ = 0;
};

const std::vector<std::string> kWords = {
    "{", "}", "[", "]", ",", ":", "\"", "\\u0000", "\\", " ", "0", "1", "8", "-1", "1e9", "0.5", "null", "true", "[0,0]",
    "\"dtype\":", "\"shape\":", "\"data_offsets\":", "\"__metadata__\":{}", "\"F32\"", "\"F64\"", "\"I8\"",
    "9223372036854775807", "18446744073709551615", "4294967296,4294967296", "\xff", "\xed\xa0\x80",
    std::string(8, '\xff'), std::string(8, '\0'), std::string(300, '[')};

TEST_F(SafetensorsFuzz, AnyPartOfTheFile) {
  try_damaged(good_, Mutator(1, kWords), 2000, [](const std::string& file) { return file; });
}

TEST_F(SafetensorsFuzz, TheHeaderWithALengthThatFits) {
  try_damaged(good_header(), Mutator(2, kWords), 3000,
              [&](const std::string& header) { return with_length(header) + good_buffer(); });
}

TEST_F(SafetensorsFuzz, NumbersAndTypesOfTheHeader) {
  Mutator mutator(3, {});
  const std::vector<std::string> numbers = {"0", "1", "2", "3", "4", "6", "10", "16", "24", "4294967296", "9223372036854775807"};
  int worked = 0;
  for (int i = 0; i < 1500; ++i) {
    std::string header = good_header();
    for (std::size_t times = 1 + mutator.below(3); times > 0; --times) {
      const std::size_t at = header.find_first_of("0123456789", mutator.below(header.size()));
      if (at != std::string::npos) header.replace(at, 1, mutator.pick(numbers));
    }
    worked += readable(with_length(header) + good_buffer());
  }
  EXPECT_GT(worked, 0);
  EXPECT_LT(worked, 1500);
}

// What takes the most memory for its text.
TEST_F(SafetensorsFuzz, ManySmallTensors) {
  for (const std::size_t dimensions : {1, 64}) {
    std::string shape = "0", header = "{\"x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}";
    for (std::size_t i = 1; i < dimensions; ++i) shape += ",0";
    for (int i = 0; i < 1000; ++i) {
      header += ",\"" + std::to_string(i) + "\":{\"dtype\":\"U8\",\"shape\":[" + shape + "],\"data_offsets\":[0,0]}";
    }
    EXPECT_TRUE(readable(with_length(header + '}')));
  }
}

TEST_F(SafetensorsFuzz, EveryLengthButTheWholeIsRefused) {
  for (std::size_t length = 0; length < good_.size(); ++length) {
    EXPECT_FALSE(readable(good_.substr(0, length))) << "length " << length;
  }
  EXPECT_FALSE(readable(good_ + '\0'));
}

TEST_F(SafetensorsFuzz, ValuesAreAnyBits) {
  Mutator mutator(4, {});
  const std::size_t flags = good_.size() - 3;
  for (int i = 0; i < 100; ++i) {
    std::string other = good_;
    const std::size_t at = 8 + header_bytes_ + mutator.below(flags - 8 - header_bytes_);
    other[at] = static_cast<char>(mutator.below(256));
    EXPECT_TRUE(readable(other));
  }
  std::string other = good_;
  other[flags] = 2;
  EXPECT_FALSE(readable(other));
}

}  // namespace
}  // namespace tugline
