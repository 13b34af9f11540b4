// SPDX-License-Identifier: Apache-2.0
#include <hdf5.h>

#include <thread>

#include "tugline/tests/core/io/checkpoint_content.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class CheckpointFile : public TemporaryFolder {
 protected:
  void SetUp() override {
    TemporaryFolder::SetUp();
    file_ = folder_ / "step-00000001.h5";
  }
  /// Must be refused, naming the file, on the strength of the user block alone.
  void expect_refused(const std::string& why, std::size_t where = 0) {
    const auto said = where % 16 == 0 ? refusal([&] { read_checkpoint(file_); }) : refusal([&] { verify_checkpoint(file_); });
    ASSERT_THAT(said, AllOf(StartsWith(file_.string() + ": "), HasSubstr(why), Not(HasSubstr("HDF5")), Not(HasSubstr("\n"))))
        << where;
  }

  fs::path file_;
};

TEST_F(CheckpointFile, GivesBackEveryTypeAndShape) {
  OwnedContent owned;
  for (const DType dtype : {DType::float32, DType::float64, DType::bfloat16, DType::float16, DType::int64, DType::int32,
                            DType::uint8, DType::boolean}) {
    const std::string folder = "/parameters/" + std::string(name_of(dtype));
    owned.add(folder + ".scalar", dtype, {});
    owned.add(folder + ".empty", dtype, {2, 0, 3});
    owned.add(folder + ".matrix", dtype, {3, 5});
  }
  owned.add("/optimizer/exp_avg/Größe λ 層.weight", DType::float32, {2});
  owned.text("empty", "");
  owned.text("utf8", "Größe: λ 層 \U0001F6F7\n\ttab \"quoted\" \\\n");
  owned.text("long", std::string(3 << 20, 'x') + "end");
  write_checkpoint(file_, owned.content());
  verify_checkpoint(file_);
  expect_same(read_checkpoint(file_), owned.content());
}

TEST_F(CheckpointFile, OtherProgramsReadTheNumbers) {
  const std::vector<std::uint16_t> halves = {0x3c00, 0xc100, 0x0001};   // 1, -2.5, the smallest subnormal
  const std::vector<float> floats = {0.5F, -3, 1e30F};
  CheckpointContent content;
  content.arrays.push_back({"/parameters/half", DType::float16, {3}, halves.data()});
  content.arrays.push_back({"/parameters/float", DType::float32, {3}, floats.data()});
  write_checkpoint(file_, content);
  const hid_t h5 = H5Fopen(file_.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  const auto values_of = [&](const char* path) {
    std::vector<double> values(3);
    const hid_t dataset = H5Dopen2(h5, path, H5P_DEFAULT);
    EXPECT_GE(H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0);
    H5Dclose(dataset);
    return values;
  };
  EXPECT_THAT(values_of("/parameters/half"), testing::ElementsAre(1, -2.5, 0x1p-24));
  EXPECT_THAT(values_of("/parameters/float"), testing::ElementsAre(0.5, -3, 1e30F));
  H5Fclose(h5);
}

TEST_F(CheckpointFile, AFlippedBitInAnyByteIsSeen) {
  write_checkpoint(file_, small_content().content());
  std::fstream stream(file_, std::ios::in | std::ios::out | std::ios::binary);
  const std::string bytes = read(file_);
  const auto put = [&](std::size_t offset, char byte) {
    stream.seekp(static_cast<std::streamoff>(offset));
    stream.put(byte).flush();
  };
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    put(i, static_cast<char>(bytes[i] ^ (1 << (i % 8))));
    expect_refused("", i);
    if (HasFatalFailure()) return;
    put(i, bytes[i]);
  }
  verify_checkpoint(file_);
}

TEST_F(CheckpointFile, EveryCutAndEveryTailIsSeen) {
  write_checkpoint(file_, small_content().content());
  const auto size = fs::file_size(file_);
  fs::resize_file(file_, size + 1);
  expect_refused("cut off or overwritten");
  for (auto shorter = size; shorter-- > 0;) {
    fs::resize_file(file_, shorter);
    expect_refused("cut off", shorter);
    if (HasFatalFailure()) return;
  }
}

TEST_F(CheckpointFile, OtherFilesAreRefusedInOneSentence) {
  expect_refused("No such file");
  fs::create_directory(file_);
  expect_refused("not a Tugline checkpoint");
  fs::remove(file_);

  write_checkpoint(file_, small_content().content());
  std::string bytes = read(file_);
  bytes[8] = 2;
  write(file_, bytes);
  expect_refused("checkpoint format 2, but this Tugline reads up to 1: use a newer Tugline");
  bytes[0] = 't';
  write(file_, bytes);
  expect_refused("not a Tugline checkpoint");

  H5Fclose(H5Fcreate(file_.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
  expect_refused("not a Tugline checkpoint");
}

TEST_F(CheckpointFile, ContentThatCannotBeReadBackIsNotWritten) {
  OwnedContent twice = small_content();
  twice.add("/parameters/output.weight", DType::float32, {1});
  OwnedContent with_nul = small_content();
  with_nul.text("config", std::string("seed: 1\0more", 12));
  OwnedContent in_an_array = small_content();
  in_an_array.add("/parameters/output.weight/inside", DType::float32, {1});
  for (const OwnedContent* owned : {&twice, &with_nul, &in_an_array}) {
    EXPECT_THAT(refusal([&] { write_checkpoint(file_, owned->content()); }), StartsWith(file_.string() + ": cannot write "));
  }
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(CheckpointFile, AnyThreadMayCall) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([file = folder_ / std::to_string(t)] {
      const OwnedContent owned = small_content(1000);
      for (int i = 0; i < 5; ++i) {
        write_checkpoint(file, owned.content());
        expect_same(read_checkpoint(file), owned.content());
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace tugline
