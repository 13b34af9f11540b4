// SPDX-License-Identifier: Apache-2.0
// Wrong data files and wrong checkpoints.
#include "tugline/tests/trainers/apps/bad_input.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;

std::string idx_head(std::initializer_list<int> shape) {
  std::string bytes{'\0', '\0', '\x08', static_cast<char>(shape.size())};
  for (const int size : shape) bytes += {'\0', '\0', static_cast<char>(size >> 8), static_cast<char>(size)};
  return bytes;
}

void fill_data(const fs::path& folder) {
  write_text(folder / "csv.yaml", "data: {name: csv, path: good.csv, batch: 4, split: {validation: 0, test: 0}}\n");
  write_text(folder / "idx.yaml",
             "data: {name: idx, path: ., batch: 4, train_inputs: images, train_targets: labels,\n"
             "       split: {validation: 0, test: 0}}\n");
  write_text(folder / "hdf5.yaml", "data: {name: hdf5, path: digits.h5, train_inputs: images, train_targets: labels}\n");
  write_text(folder / "text.yaml",
             "data: {name: text, path: text.txt, context: 8}\nmodel: {name: transformer, width: 8}\n");
  write_text(folder / "good.csv", "x,y,label\n1,2,a\n3,4,b\n5,6,a\n7,8,b\n");
  write_text(folder / "nan.csv", "x,y,label\n1,2,a\n3,nan,b\n");
  write_text(folder / "infinite.csv", "x,y,label\n1,inf,a\n3,4,b\n");
  write_text(folder / "ragged.csv", "x,y,label\n1,2,a\n3,b\n");
  write_text(folder / "header.csv", "x,y,label\n");
  write_text(folder / "nothing.csv", "");
  write_text(folder / "images", idx_head({4, 2, 2}) + std::string(16, 'x'));
  write_text(folder / "labels", idx_head({4}) + std::string("\0\1\0\1", 4));
  write_text(folder / "cut_images", idx_head({4, 2, 2}) + std::string(9, 'x'));
  write_text(folder / "few_labels", idx_head({3}) + std::string("\0\1\0", 3));
  write_text(folder / "strange_labels", idx_head({4}) + std::string("\0\1\0\7", 4));
  write_text(folder / "no_magic", "P5 2 2 255 xxxx");
  write_text(folder / "cut.gz", "\x1f\x8b\x08 and then nothing that a gzip file would hold");
  write_text(folder / "text.txt", "short");
  write_text(folder / "latin1.txt", std::string(100, 'a') + "\xe9" + std::string(100, 'b'));
  write_text(folder / "damaged.h5", "not HDF5");
  fs::copy_file(source_file("configs/data/digits.h5"), folder / "digits.h5");
}

class BadData : public BadInputTest {
 protected:
  static void SetUpTestSuite() { make_folder(fill_data); }
};

TEST_P(BadData, OneMessage) { expect_one_message(folder_, GetParam()); }

const BadInput kData[] = {
    {"csv_is_not_there", {"train", "csv.yaml", "data.path=none.csv"}, ExitCode::bad_data, {"none.csv", "No such file"}},
    {"csv_is_a_folder", {"train", "csv.yaml", "data.path=."}, ExitCode::bad_data, {"is a folder"}},
    {"csv_is_empty", {"train", "csv.yaml", "data.path=nothing.csv"}, ExitCode::bad_data, {"nothing.csv", "empty"}},
    {"csv_is_a_header",
     {"train", "csv.yaml", "data.path=header.csv", "data.header=true"},
     ExitCode::bad_data,
     {"header.csv"}},
    {"csv_has_a_nan", {"train", "csv.yaml", "data.path=nan.csv"}, ExitCode::bad_data, {"nan.csv:3", "column 'y'"}},
    {"csv_has_an_infinity",
     {"verify", "csv.yaml", "data.path=infinite.csv"},
     ExitCode::bad_data,
     {"infinite.csv:2", "column 'y'"}},
    {"csv_row_is_short", {"train", "csv.yaml", "data.path=ragged.csv"}, ExitCode::bad_data, {"ragged.csv:3"}},
    {"csv_has_no_such_label",
     {"train", "csv.yaml", "data.label=lable"},
     ExitCode::bad_data,
     {"good.csv", "data.label", "'lable'", "label"}},
    {"csv_has_no_such_time",
     {"train", "csv.yaml", "data.split.by=time", "data.split.time_column=when"},
     ExitCode::bad_data,
     {"good.csv", "data.split.time_column", "'when'"}},
    {"idx_is_not_there", {"train", "idx.yaml", "data.train_inputs=none"}, ExitCode::bad_data, {"none", "No such file"}},
    {"idx_is_cut_short",
     {"train", "idx.yaml", "data.train_inputs=cut_images"},
     ExitCode::bad_data,
     {"cut_images", "cut short", "16", "9"}},
    {"idx_has_no_magic",
     {"overfit", "idx.yaml", "data.train_inputs=no_magic"},
     ExitCode::bad_data,
     {"no_magic", "wrong magic number", "0x50352032"}},
    {"idx_gzip_is_damaged",
     {"train", "idx.yaml", "data.train_inputs=cut.gz"},
     ExitCode::bad_data,
     {"cut.gz", "gzip", "damaged"}},
    {"idx_has_fewer_labels",
     {"train", "idx.yaml", "data.train_targets=few_labels"},
     ExitCode::bad_data,
     {"4 records", "few_labels has 3"}},
    {"idx_label_is_out_of_range",
     {"train", "idx.yaml", "data.test_inputs=images", "data.test_targets=strange_labels"},
     ExitCode::bad_data,
     {"strange_labels", "record 3", "label 7 is out of range 0 .. 1"}},
    {"hdf5_is_no_hdf5", {"train", "hdf5.yaml", "data.path=damaged.h5"}, ExitCode::bad_data, {"damaged.h5"}},
    {"hdf5_has_no_such_dataset",
     {"train", "hdf5.yaml", "data.train_inputs=pictures"},
     ExitCode::bad_data,
     {"digits.h5", "pictures"}},
    {"hdf5_classes_are_images",
     {"train", "hdf5.yaml", "data.train_targets=images"},
     ExitCode::bad_data,
     {"digits.h5", "one whole number per record"}},
    {"text_is_shorter_than_a_sample", {"train", "text.yaml"}, ExitCode::bad_data, {"text.txt", "data.context + 1 = 9"}},
    {"text_is_not_utf8",
     {"train", "text.yaml", "data.path=latin1.txt"},
     ExitCode::bad_data,
     {"latin1.txt", "byte 100", "data.tokens: bytes"}},
    {"split_is_empty", {"train", "csv.yaml", "data.split.test=0.01"}, ExitCode::bad_data, {"good.csv", "data.split.test"}},
    {"on_two_ranks",
     {"train", "csv.yaml", "data.path=nan.csv", "--run-dir", "run"},
     ExitCode::bad_data,
     {"nan.csv:3", "column 'y'"},
     2},
    {"dataset_on_two_ranks", {"verify", "hdf5.yaml", "data.train_inputs=pictures"}, ExitCode::bad_data, {"pictures"}, 2},
};

/// `file` with one byte changed, `from_end` bytes before its end.
void flip(const fs::path& file, std::size_t from_end) {
  std::string bytes = read_file(file);
  bytes[bytes.size() - from_end] ^= 0x10;
  write_text(file, bytes);
}

void fill_checkpoints(const fs::path& folder) {
  const Outcome trained = run_program(folder, {"train", source_file("configs/wine.yaml").string(), "train.steps=2",
                                               "data.split.validation=0", "--run-dir", "run"});
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  const fs::path good = folder / "run" / "checkpoints" / "step-00000002.h5";
  const std::string bytes = read_file(good);
  write_text(folder / "text.h5", "a line of text\n");
  write_text(folder / "page.h5", std::string(5000, 'x'));
  write_text(folder / "empty.h5", "");
  write_text(folder / "cut.h5", bytes.substr(0, bytes.size() - 100));
  fs::copy_file(good, folder / "flipped.h5");
  flip(folder / "flipped.h5", bytes.size() / 2);
  write_text(folder / "newer.h5", std::string(bytes).replace(8, 1, "\x63"));
  fs::create_directories(folder / "no_checkpoints" / "checkpoints");
  fs::create_directories(folder / "damaged" / "checkpoints");
  fs::copy_file(folder / "flipped.h5", folder / "damaged" / "checkpoints" / "step-00000002.h5");
}

class BadCheckpoint : public BadInputTest {
 protected:
  static void SetUpTestSuite() { make_folder(fill_checkpoints); }
};

TEST_P(BadCheckpoint, OneMessage) { expect_one_message(folder_, GetParam()); }

const BadInput kCheckpoints[] = {
    {"not_there", {"eval", "none.h5"}, ExitCode::io, {"'none.h5' does not exist", "the folder of a run"}},
    {"text", {"eval", "text.h5"}, ExitCode::io, {"text.h5", "not a Tugline checkpoint"}},
    {"page", {"checkpoint", "show", "page.h5"}, ExitCode::io, {"page.h5", "not a Tugline checkpoint"}},
    {"empty", {"checkpoint", "verify", "empty.h5"}, ExitCode::io, {"empty.h5", "not a Tugline checkpoint"}},
    {"cut", {"eval", "cut.h5"}, ExitCode::io, {"cut.h5", "cut off"}},
    {"flipped", {"eval", "flipped.h5"}, ExitCode::io, {"flipped.h5", "damaged", "digest"}},
    {"flipped_show", {"checkpoint", "show", "flipped.h5"}, ExitCode::io, {"flipped.h5", "damaged"}},
    {"newer", {"eval", "newer.h5"}, ExitCode::io, {"newer.h5", "format 99", "newer Tugline"}},
    {"folder_without",
     {"eval", "no_checkpoints"},
     ExitCode::io,
     {"'no_checkpoints' holds no checkpoint", "the folder of a run"}},
    {"folder_without_to_verify",
     {"checkpoint", "verify", "no_checkpoints"},
     ExitCode::io,
     {"'no_checkpoints' holds no checkpoint"}},
    {"folder_of_damaged", {"eval", "damaged"}, ExitCode::io, {"'damaged'", "step-00000002.h5", "digest"}},
    {"no_best", {"eval", "damaged", "--best"}, ExitCode::io, {"'damaged' holds no best checkpoint"}},
    {"of_another_model",
     {"eval", "run", "model.hidden=[5]"},
     ExitCode::io,
     {"step-00000002.h5", "/parameters/", "[5, 13] in the model"}},
    {"of_a_smaller_model", {"eval", "run", "model.name=linear"}, ExitCode::io, {"step-00000002.h5", "/parameters/"}},
    {"of_other_data", {"eval", "run", "data.name=digits"}, ExitCode::bad_data, {"the stored normalisation"}},
    {"split_is_empty",
     {"eval", "run", "--split", "validation"},
     ExitCode::bad_data,
     {"--split", "the validation split is empty"}},
    {"flipped_on_two_ranks", {"eval", "flipped.h5"}, ExitCode::io, {"flipped.h5", "damaged"}, 2},
    {"of_another_model_on_two_ranks", {"eval", "run", "model.hidden=[5]"}, ExitCode::io, {"step-00000002.h5"}, 2},
};

INSTANTIATE_TEST_SUITE_P(Files, BadData, testing::ValuesIn(kData), name_of);
INSTANTIATE_TEST_SUITE_P(Files, BadCheckpoint, testing::ValuesIn(kCheckpoints), name_of);

}  // namespace
}  // namespace tugline
