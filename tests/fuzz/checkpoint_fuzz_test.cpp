// SPDX-License-Identifier: Apache-2.0
// Damaged checkpoints: the user block refuses them before the HDF5 library, which damage can crash, sees a byte.
#include <gmock/gmock.h>
#include <hdf5.h>

#include "tugline/core/io/checkpoint.hpp"
#include "tugline/core/io/user_block.hpp"
#include "tugline/tests/fuzz/mutator.hpp"
#include "tugline/tests/support/temporary_folder.hpp"

namespace tugline {
namespace {

class CheckpointFuzz : public TemporaryFolder {
 protected:
  void SetUp() override {
    TemporaryFolder::SetUp();
    file_ = folder_ / "step-00000001.h5";
    const std::vector<float> weights(600, 0.5F);
    const std::vector<std::int64_t> cursor{3, 7};
    CheckpointContent content;
    content.arrays = {{"/parameters/in.weight", DType::float32, {20, 30}, weights.data()},
                      {"/optimizer/in.weight/momentum", DType::float32, {600}, weights.data()},
                      {"/cursor", DType::int64, {2}, cursor.data()},
                      {"/buffers/empty", DType::bfloat16, {0, 4}, nullptr}};
    content.texts = {{"config", "seed: 1\n"}, {"schedule", R"({"step": 1})"}};
    write_checkpoint(file_, content);
    good_ = read(file_);
  }

  /// What a reader says to `bytes`; empty when it takes them.
  std::string answer(const std::string& bytes) {
    write(file_, bytes);
    std::string said;
    works_or_says_why<CheckpointError>("a damaged checkpoint", [&] {
      try {
        read_checkpoint(file_);
      } catch (const Error& error) {
        said = error.what();
        throw;
      }
    });
    return said;
  }

  std::filesystem::path file_;
  std::string good_;
};

bool said_before_hdf5(const std::string& sentence) {
  for (const char* known : {"not a Tugline checkpoint", "checkpoint format", "cut off", "damaged: its contents"}) {
    if (sentence.find(known) != std::string::npos) return true;
  }
  return false;
}

TEST_F(CheckpointFuzz, DamageIsSeenBeforeHdf5OpensTheFile) {
  ASSERT_EQ(answer(good_), "");
  Mutator mutator(
      1, {"\x89HDF\r\n\x1a\n", "TUGLINE\n", std::string(8, '\0'), std::string(8, '\xff'), "OHDR", "TREE", "SNOD", "HEAP"});
  for (int i = 0; i < 1000; ++i) {
    const std::string bad = mutator.damaged(good_);
    if (bad == good_) continue;
    const std::string said = answer(bad);
    ASSERT_TRUE(said_before_hdf5(said)) << "input " << i << ": " << said;
  }
}

TEST_F(CheckpointFuzz, EveryByteOfTheUserBlockCounts) {
  for (std::size_t at = 0; at < kUserBlockBytes; ++at) {
    std::string bad = good_;
    bad[at] = static_cast<char>(bad[at] ^ 0x40);
    ASSERT_TRUE(said_before_hdf5(answer(bad))) << "byte " << at;
  }
}

TEST_F(CheckpointFuzz, AnyLengthButTheWholeIsRefused) {
  for (std::size_t length = 0; length < good_.size(); length += 1 + length / 50) {
    ASSERT_TRUE(said_before_hdf5(answer(good_.substr(0, length)))) << "length " << length;
  }
  EXPECT_TRUE(said_before_hdf5(answer(good_ + '\0')));
  EXPECT_TRUE(said_before_hdf5(answer(good_ + good_)));
}

/// Files with a digest that fits, written by another program: HDF5 opens them, and what is inside is not ours.
class ForeignCheckpoint : public CheckpointFuzz {
 protected:
  /// `change` gets the open file; the digest is made anew afterwards.
  std::string answer_after(void (*change)(hid_t)) {
    write(file_, good_);
    const hid_t h5 = H5Fopen(file_.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    change(h5);
    H5Fclose(h5);
    std::string changed = read(file_);
    const std::string_view payload = std::string_view(changed).substr(kUserBlockBytes);
    const auto block = make_user_block(std::span(&payload, 1));
    std::copy(block.begin(), block.end(), changed.begin());
    return answer(changed);
  }
};

/// `dtype_copies` > 1 makes the attribute an array of names.
void add_dataset(hid_t h5, const char* path, hid_t type, hsize_t size, const char* dtype, hsize_t dtype_copies = 1) {
  const hid_t space = H5Screate_simple(1, &size, nullptr);
  const hid_t dataset = H5Dcreate2(h5, path, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  if (dtype != nullptr) {
    const hid_t text = H5Tcopy(H5T_C_S1);
    H5Tset_size(text, std::string(dtype).size() + 1);
    const hid_t copies = H5Screate_simple(1, &dtype_copies, nullptr);
    const hid_t attribute = H5Acreate2(dataset, "dtype", text, copies, H5P_DEFAULT, H5P_DEFAULT);
    if (dtype_copies == 1) H5Awrite(attribute, text, dtype);
    H5Aclose(attribute);
    H5Sclose(copies);
    H5Tclose(text);
  }
  H5Dclose(dataset);
  H5Sclose(space);
}

TEST_F(ForeignCheckpoint, ContentsOfAnotherKindAreRefused) {
  EXPECT_EQ(answer_after([](hid_t) {}), "");
  const auto refused = [&](void (*change)(hid_t), const std::string& reason) {
    EXPECT_THAT(answer_after(change), testing::HasSubstr(reason));
  };
  refused([](hid_t h5) { add_dataset(h5, "/parameters/x", H5T_NATIVE_FLOAT, 3, nullptr); }, "no dtype");
  refused([](hid_t h5) { add_dataset(h5, "/parameters/x", H5T_NATIVE_FLOAT, 3, "float31"); }, "float31");
  // Names that would be written over the end of a buffer.
  refused([](hid_t h5) { add_dataset(h5, "/parameters/x", H5T_NATIVE_FLOAT, 3, "a long name of a type, very long"); },
          "dtype");
  refused([](hid_t h5) { add_dataset(h5, "/parameters/x", H5T_NATIVE_FLOAT, 3, "float32", 1000); }, "dtype");
  // Texts that are none, and would be written over a pointer.
  refused([](hid_t h5) { add_dataset(h5, "/meta/x", H5T_NATIVE_INT64, 100, nullptr); }, "not a single text");
  refused([](hid_t h5) { add_dataset(h5, "/meta/x", H5T_C_S1, 1, nullptr); }, "not a single text");
  // Declared, and never written: larger than any memory.
  refused([](hid_t h5) { add_dataset(h5, "/parameters/x", H5T_NATIVE_FLOAT, hsize_t{1} << 45, "float32"); },
          "fewer values");
}

}  // namespace
}  // namespace tugline
