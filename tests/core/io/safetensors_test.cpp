// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/io/safetensors.hpp"

#include "tugline/tests/core/io/checkpoint_content.hpp"
#include "tugline/tests/support/temporary_folder.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

/// `header` and what stands around it in a file.
std::string file_bytes(const std::string& header, const std::string& buffer) {
  std::string length(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>((header.size() >> (8 * i)) & 0xff);
  return length + header + buffer;
}

/// One tensor of a header.
std::string entry(const std::string& name, const std::string& fields) { return '"' + name + "\":{" + fields + '}'; }

class SafetensorsFile : public TemporaryFolder {
 protected:
  void SetUp() override {
    TemporaryFolder::SetUp();
    file_ = folder_ / "model.safetensors";
  }
  /// What the reader says to these bytes; empty when it takes them.
  std::string answer(const std::string& bytes) {
    write(file_, bytes);
    try {
      read_safetensors(file_);
    } catch (const DataError& error) {
      EXPECT_THAT(error.what(), StartsWith(file_.string() + ": "));
      EXPECT_THAT(error.what(), Not(HasSubstr("\n")));
      return std::string(error.what()).substr(file_.string().size() + 2);
    }
    return "";
  }
  /// The same for a header in front of eight bytes of zero.
  std::string answer_to(const std::string& header) { return answer(file_bytes(header, std::string(8, '\0'))); }
  /// The same for the fields of the only tensor.
  std::string answer_to_fields(const std::string& fields) { return answer_to('{' + entry("x", fields) + '}'); }

  fs::path file_;
};

TEST_F(SafetensorsFile, GivesBackEveryTypeAndShape) {
  OwnedContent owned;
  for (const DType dtype : {DType::float32, DType::float64, DType::bfloat16, DType::float16, DType::int64, DType::int32,
                            DType::uint8, DType::boolean}) {
    const std::string name(name_of(dtype));
    owned.add(name + ".scalar", dtype, {});
    owned.add(name + ".empty", dtype, {2, 0, 3});
    owned.add(name + ".matrix", dtype, {3, 5});
  }
  owned.add("/parameters/Größe \"λ\" 層\n", DType::float32, {2});
  owned.add("", DType::uint8, {1});
  const std::map<std::string, std::string> metadata{{"format", "pt"}, {"", "Größe: λ\n\t\"quoted\" \\"}, {"empty", ""}};
  write_safetensors(file_, owned.content().arrays, metadata);
  const Safetensors result = read_safetensors(file_);
  EXPECT_EQ(result.metadata, metadata);
  expect_same({result.arrays, {}}, owned.content());
}

TEST_F(SafetensorsFile, BytesAreThoseOfTheReferenceImplementation) {
  const std::vector<float> values{0, 1, 2, 3, 4, 5};
  const std::string data(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  write_safetensors(file_, {{"attn.0", DType::float32, {1, 2, 3}, values.data()}});
  EXPECT_EQ(read(file_), file_bytes(R"({"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}})", data));
  write_safetensors(file_, {{"attn0", DType::float32, {1, 1, 2, 3}, values.data()}});
  EXPECT_EQ(read(file_), file_bytes(R"({"attn0":{"dtype":"F32","shape":[1,1,2,3],"data_offsets":[0,24]}}       )", data));
  write_safetensors(file_, {});
  EXPECT_EQ(read(file_), file_bytes("{}      ", ""));
  write_safetensors(file_, {}, {{"framework", "pt"}});
  EXPECT_EQ(read(file_), file_bytes(R"({"__metadata__":{"framework":"pt"}}     )", ""));
}

TEST_F(SafetensorsFile, LargerElementsComeFirstThenNames) {
  const std::string eight = "abcdefgh";
  const auto of = [&](const char* name, DType dtype) { return ArrayView{name, dtype, {1}, eight.data()}; };
  write_safetensors(file_, {of("a", DType::boolean), of("b", DType::uint8), of("c", DType::float16), of("d", DType::bfloat16),
                            of("e", DType::int32), of("g", DType::float32), of("f", DType::float32), of("h", DType::float64),
                            of("i", DType::int64)});
  const std::string bytes = read(file_);
  std::vector<std::size_t> places;
  for (const char name : std::string("ihfgedcba")) places.push_back(bytes.find(std::string{'"', name, '"'}));
  EXPECT_TRUE(std::ranges::is_sorted(places));
}

TEST_F(SafetensorsFile, ReadsAFileMadeByHand) {
  // Fields and tensors in another order, spaces, an escaped name; the empty tensor lies between the others.
  write(file_, file_bytes("{ \"b\\u00f6\" : {\"data_offsets\":[4,8], \"dtype\":\"I32\",\"shape\":[] },"
                          "\"e\":{\"shape\":[0],\"data_offsets\":[4,4],\"dtype\":\"U8\"},"
                          "\"a\":{\"dtype\":\"F16\",\"shape\":[2,1],\"data_offsets\":[0,4]},\"__metadata__\":{\"k\":\"v\"}} \n  ",
                          std::string("\x00\x3c\x00\xc1\x2a\x00\x00\x00", 8)));
  const Safetensors result = read_safetensors(file_);
  EXPECT_THAT(result.metadata, ElementsAre(std::pair("k", "v")));
  ASSERT_EQ(result.arrays.size(), 3U);
  EXPECT_THAT(result.arrays.at("a").shape, ElementsAre(2, 1));
  EXPECT_THAT(result.arrays.at("a").data, ElementsAre(std::byte{0}, std::byte{0x3c}, std::byte{0}, std::byte{0xc1}));
  EXPECT_THAT(result.arrays.at("bö").shape, IsEmpty());
  EXPECT_THAT(result.arrays.at("bö").data, ElementsAre(std::byte{42}, std::byte{0}, std::byte{0}, std::byte{0}));
  EXPECT_THAT(result.arrays.at("e").data, IsEmpty());
}

TEST_F(SafetensorsFile, OtherFilesAreRefused) {
  const auto missing = [&] { read_safetensors(folder_ / "none"); };
  EXPECT_THAT(missing, testing::ThrowsMessage<DataError>(HasSubstr("none: cannot be read (No such file")));
  EXPECT_THAT([&] { read_safetensors(folder_); }, testing::ThrowsMessage<DataError>(HasSubstr("Is a directory")));
  EXPECT_EQ(answer(""), "not a safetensors file, or cut off: shorter than 8 bytes");
  EXPECT_EQ(answer("PK\x03\x04 and more"), "not a safetensors file: a header of 7236828441365138256 bytes, of at most 100000000");
  EXPECT_EQ(answer(std::string("\x40\0\0\0\0\0\0\0{}", 10)),
            "not a safetensors file, or cut off: a header of 64 bytes in a file of 10");
  EXPECT_EQ(answer(std::string(8, '\0')), "not a safetensors file: its header does not start with '{'");
  EXPECT_EQ(answer_to(" {}"), "not a safetensors file: its header does not start with '{'");
  EXPECT_THAT(answer_to("{\"x\""), StartsWith("its header is not JSON: "));
  EXPECT_THAT(answer_to("{} x"), StartsWith("its header is not JSON: "));
  EXPECT_THAT(answer_to("{\"\xff\":{}}"), StartsWith("its header is not JSON: "));
}

TEST_F(SafetensorsFile, HeadersOfAnotherFormAreRefused) {
  EXPECT_EQ(answer_to_fields(R"("dtype":"U8","shape":[8],"data_offsets":[0,8])"), "");
  EXPECT_EQ(answer_to(R"({"x":1})"), R"(tensor "x" is not an object with dtype, shape and data_offsets)");
  EXPECT_EQ(answer_to_fields(R"("dtype":"U8","shape":[8])"), R"(tensor "x" has no data_offsets)");
  EXPECT_EQ(answer_to_fields(R"("dtype":"U8","dtype":"U8")"), R"(tensor "x" has dtype twice)");
  EXPECT_EQ(answer_to_fields(R"("offsets":[0,8])"), R"(tensor "x" has a field that is not dtype, shape or data_offsets)");
  EXPECT_EQ(answer_to_fields(R"("dtype":8)"), R"(tensor "x": dtype is not a string)");
  for (const char* bad : {"8", "[-8]", "[8.0]", "[9223372036854775808]", "[\"8\"]", "[[8]]", "[null]", "[true]", "{}"}) {
    const std::string said = answer_to_fields("\"shape\":" + std::string(bad));
    EXPECT_THAT(said, HasSubstr(R"(tensor "x": shape is not a list of at most 64 whole numbers from 0)")) << bad;
  }
  for (const char* bad : {"8", "[0,8,8]", "[0,-8]", "[0]", "[]", "\"0,8\""}) {
    const std::string said = answer_to_fields("\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":" + std::string(bad));
    EXPECT_EQ(said, R"(tensor "x": data_offsets is not a list of two whole numbers from 0)") << bad;
  }
  std::string many = "1";
  for (int i = 0; i < 64; ++i) many += ",1";
  EXPECT_THAT(answer_to_fields("\"shape\":[" + many + "]"), HasSubstr("at most 64"));
  EXPECT_THAT(answer_to("{\"x\":" + std::string(100'000, '[')), HasSubstr("tensor \"x\""));
  EXPECT_THAT(answer_to("{\"" + std::string(5000, 'x') + "\":1}"), HasSubstr("xxx\"... is not an object"));
}

TEST_F(SafetensorsFile, MetadataOfAnotherFormIsRefused) {
  for (const char* bad : {"1", "null", "[]", "\"text\"", R"({"k":1})", R"({"k":{}})", R"({"k":["v"]})"}) {
    EXPECT_EQ(answer_to("{\"__metadata__\":" + std::string(bad) + "}"), "its __metadata__ is not an object of strings") << bad;
  }
  EXPECT_EQ(answer_to(R"({"__metadata__":{"k":"v","\u006b":"w"}})"), R"(its __metadata__ has "k" twice)");
  EXPECT_EQ(answer_to(R"({"__metadata__":{},"__metadata__":{}})"), R"(tensor "__metadata__" stands twice in the header)");
}

TEST_F(SafetensorsFile, TypesThatTuglineDoesNotHaveAreNamed) {
  EXPECT_EQ(answer_to_fields(R"("dtype":"I16","shape":[4],"data_offsets":[0,8])"),
            R"(tensor "x" has elements of type "I16", where Tugline has I64, F64, F32, I32, BF16, F16, U8, BOOL)");
  EXPECT_THAT(answer_to_fields(R"("dtype":"f32","shape":[2],"data_offsets":[0,8])"), HasSubstr(R"(of type "f32")"));
}

TEST_F(SafetensorsFile, EveryByteBelongsToOneTensor) {
  const auto fields = [](const char* shape, const char* offsets) {
    return R"("dtype":"U8","shape":)" + std::string(shape) + R"(,"data_offsets":)" + offsets;
  };
  const auto two = [&](const std::string& first, const std::string& second) {
    return answer_to('{' + entry("x", first) + ',' + entry("y", second) + '}');
  };
  EXPECT_EQ(two(fields("[4]", "[0,4]"), fields("[4]", "[4,8]")), "");
  EXPECT_EQ(two(fields("[5]", "[0,5]"), fields("[4]", "[4,8]")), R"(tensor "y" begins inside the tensor before it)");
  EXPECT_EQ(two(fields("[8]", "[0,8]"), fields("[0]", "[2,2]")), R"(tensor "y" begins inside the tensor before it)");
  EXPECT_EQ(two(fields("[3]", "[0,3]"), fields("[4]", "[4,8]")), R"(1 bytes before tensor "y" belong to no tensor)");
  EXPECT_EQ(two(fields("[3]", "[0,3]"), fields("[4]", "[3,7]")), "its last 1 bytes belong to no tensor");
  EXPECT_EQ(two(fields("[4]", "[0,4]"), fields("[5]", "[4,9]")), R"(cut off: tensor "y" ends at byte 9 of its data, which has 8)");
  EXPECT_EQ(answer_to_fields(fields("[7]", "[0,8]")), R"(tensor "x" has 8 bytes, but its dtype and shape ask for 7)");
  EXPECT_EQ(answer_to_fields(fields("[8]", "[8,0]")), R"(tensor "x" ends before it begins)");
  EXPECT_EQ(answer_to_fields(fields("[4294967296,4294967296]", "[0,8]")), R"(tensor "x" has a shape that no file can hold)");
  EXPECT_EQ(answer_to_fields(fields("[0,4294967296,4294967296]", "[0,0]")), R"(tensor "x" has a shape that no file can hold)");
  EXPECT_EQ(answer_to('{' + entry("x", fields("[8]", "[0,8]")) + ',' + entry("\\u0078", fields("[8]", "[0,8]")) + '}'),
            R"(tensor "x" stands twice in the header)");
  EXPECT_EQ(answer_to("{}"), "its last 8 bytes belong to no tensor");
}

TEST_F(SafetensorsFile, BooleansAreZeroOrOne) {
  const std::string header = R"({"x":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})";
  EXPECT_EQ(answer(file_bytes(header, std::string("\0\1", 2))), "");
  EXPECT_EQ(answer(file_bytes(header, std::string("\0\2", 2))), R"(tensor "x" has a BOOL that is neither 0 nor 1)");
}

TEST_F(SafetensorsFile, WritesNothingThatItWouldNotRead) {
  write(file_, "old");
  const float value = 1;
  const auto said_to = [&](const std::vector<ArrayView>& arrays, const std::map<std::string, std::string>& metadata = {}) {
    return refusal([&] { write_safetensors(file_, arrays, metadata); });
  };
  const ArrayView good{"x", DType::float32, {1}, &value};
  const std::string start = "cannot write " + file_.string() + ": ";
  EXPECT_EQ(said_to({good, good}), start + R"(tensor "x" stands twice in the header)");
  EXPECT_EQ(said_to({{"x", DType::float32, {-1}, &value}}), start + R"(tensor "x" has a shape that no file can hold)");
  EXPECT_EQ(said_to({{"__metadata__", DType::float32, {1}, &value}}), start + "its __metadata__ is not an object of strings");
  EXPECT_THAT(said_to({{"\xff", DType::float32, {1}, &value}}), StartsWith(start + "its header is not JSON: "));
  EXPECT_THAT(said_to({good}, {{"key", "\xc3"}}), StartsWith(start + "its header is not JSON: "));
  EXPECT_EQ(read(file_), "old");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 1);
  EXPECT_EQ(refusal([&] { write_safetensors(folder_ / "none" / "x", {good}); }),
            "cannot write " + (folder_ / "none" / "x").string() + ": No such file or directory");
}

}  // namespace
}  // namespace tugline
