// SPDX-License-Identifier: Apache-2.0
// Wrong command lines, and configs that are wrong for this data, these ranks or this folder. Texts of configs alone are in
// tests/core/config/config_errors_test.cpp.
#include "tugline/tests/trainers/apps/bad_input.hpp"

namespace tugline {
namespace {

namespace fs = std::filesystem;

void fill(const fs::path& folder) {
  write_text(folder / "good.yaml", "data: {name: digits}\nmodel: {name: mlp, hidden: [8]}\ntrain: {steps: 2}\n");
  write_text(folder / "table.yaml", "extends: good.yaml\ndata: {name: synthetic}\n");
  write_text(folder / "text.yaml", "extends: good.yaml\ndata: {name: text, path: notes.txt, context: 4}\n");
  write_text(folder / "image.yaml",
             "extends: good.yaml\nmodel: {name: convnet, channels: [8], norm: batch, batch_norm: sync}\n");
  write_text(folder / "three.yaml", "optim:\n  momentun: 0.9\n  lr: fast\ntrain: {epoch: 3}\n");
  write_text(folder / "binary.yaml", std::string("\x7f"
                                                 "ELF\x02\x01\0\0\xff\xfe",
                                                 10));
  write_text(folder / "latin1.yaml", "name: caf\xe9\n");
  write_text(folder / "notes.txt", std::string(400, 'a') + std::string(400, 'b'));
  write_text(folder / "foreign" / "thesis.txt", "years of work\n");
  fs::create_directory(folder / "folder.yaml");
  const Outcome trained = run_program(folder, {"train", "good.yaml", "--run-dir", "run"});
  ASSERT_EQ(trained.exit_code, 0) << trained.err;
  fs::copy(folder / "run", folder / "torn", fs::copy_options::recursive);
  write_text(folder / "torn" / "result.json", "{\"status\": ");
}

class BadCommandLine : public BadInputTest {
 protected:
  static void SetUpTestSuite() { make_folder(fill); }
};

TEST_P(BadCommandLine, OneMessage) { expect_one_message(folder_, GetParam()); }

const BadInput kWords[] = {
    {"unknown_command", {"trian", "good.yaml"}, ExitCode::usage, {"'trian' is not a command", "did you mean train?"}},
    {"missing_argument", {"train"}, ExitCode::usage, {"an argument is missing", "usage: tugline train CONFIG"}},
    {"one_argument_too_many", {"train", "good.yaml", "more.yaml"}, ExitCode::usage, {"'more.yaml'", "too many"}},
    {"unknown_option", {"train", "good.yaml", "--frehs"}, ExitCode::usage, {"'--frehs'", "usage: tugline train"}},
    {"abbreviated_option", {"train", "good.yaml", "--fre"}, ExitCode::usage, {"'--fre'", "usage: tugline train"}},
    {"option_of_another_command", {"eval", "run", "--fresh"}, ExitCode::usage, {"'--fresh'", "usage: tugline eval"}},
    {"flag_with_a_value", {"train", "good.yaml", "--fresh=yes"}, ExitCode::usage, {"'--fresh'"}},
    {"option_without_its_value", {"train", "good.yaml", "--run-dir"}, ExitCode::usage, {"'--run-dir'"}},
    {"empty_run_dir", {"train", "good.yaml", "--run-dir", ""}, ExitCode::usage, {"--run-dir"}},
    {"unknown_progress",
     {"train", "good.yaml", "--progress", "fancy"},
     ExitCode::usage,
     {"--progress", "auto, live or plain", "'fancy'"}},
    {"unknown_split",
     {"eval", "run", "--split", "bogus"},
     ExitCode::usage,
     {"--split", "'bogus'", "train, validation, test"}},
    {"best_of_one_file",
     {"eval", "run/checkpoints/step-00000002.h5", "--best"},
     ExitCode::usage,
     {"--best", "the folder of a run"}},
    {"tolerance_below_zero", {"verify", "good.yaml", "--tolerance=-1"}, ExitCode::usage, {"--tolerance", "-1"}},
    {"tolerance_in_words", {"verify", "good.yaml", "--tolerance=tiny"}, ExitCode::usage, {"--tolerance", "'tiny'"}},
    {"speeds_of_a_folder", {"doctor", "--ranks", "run"}, ExitCode::usage, {"--ranks looks at no folder", "usage: tugline doctor"}},
    {"devices_of_a_folder", {"doctor", "--devices", "run"}, ExitCode::usage, {"--devices looks at no folder", "usage: tugline doctor"}},
    {"two_probes", {"doctor", "--devices", "--ranks"}, ExitCode::usage, {"--ranks or --devices, not both"}},
    {"unknown_config_command", {"config", "print"}, ExitCode::usage, {"usage: tugline config show CONFIG"}},
    {"unknown_checkpoint_command",
     {"checkpoint", "list", "run"},
     ExitCode::usage,
     {"'checkpoint list'", "usage: tugline checkpoint ls"}},
    {"checkpoint_of_nothing", {"checkpoint", "ls"}, ExitCode::usage, {"an argument is missing"}},
    {"status_of_nothing", {"status", "none"}, ExitCode::io, {"'none' does not exist"}},
    {"status_of_a_file", {"status", "good.yaml"}, ExitCode::usage, {"'good.yaml' is not a folder"}},
    {"status_of_no_run", {"status", "foreign"}, ExitCode::usage, {"'foreign' holds no metrics.jsonl", "the folder of a run"}},
    {"show_of_a_folder", {"checkpoint", "show", "run"}, ExitCode::usage, {"'run' is a folder", "checkpoint ls"}},
    {"override_where_none_fits", {"models", "optim.lr=1"}, ExitCode::usage, {"'optim.lr=1'", "usage: tugline models"}},
    {"schema_of_an_override", {"config", "schema", "optim.lr=1"}, ExitCode::usage, {"usage: tugline config show"}},
    {"json_in_no_folder",
     {"overfit", "good.yaml", "--json", "no/v.json"},
     ExitCode::io,
     {"--json", "no/v.json", "does not exist"}},
    {"junit_onto_a_folder",
     {"overfit", "good.yaml", "--junit", "foreign"},
     ExitCode::io,
     {"--junit", "'foreign' is a folder"}},
};

const BadInput kConfigs[] = {
    {"no_such_config", {"train", "digits.yml"}, ExitCode::config, {"'digits.yml'", "No such file"}},
    {"folder_as_config", {"train", "folder.yaml"}, ExitCode::config, {"'folder.yaml'", "folder"}},
    {"binary_config", {"train", "binary.yaml"}, ExitCode::config, {"binary.yaml:1:"}},
    {"latin1_config", {"train", "latin1.yaml"}, ExitCode::config, {"latin1.yaml:1:10", "UTF-8"}},
    {"all_errors_at_once",
     {"verify", "three.yaml"},
     ExitCode::config,
     {"three.yaml:2:3: optim.momentun: unknown key; did you mean optim.momentum?", "three.yaml:3:7", "three.yaml:4:9"},
     0,
     3},
    {"unknown_key_for_eval",
     {"eval", "run", "modle.hidden=[3]"},
     ExitCode::config,
     {"modle.hidden", "did you mean model?"}},
    {"unknown_model",
     {"train", "good.yaml", "model.name=mpl"},
     ExitCode::config,
     {"'mpl'", "did you mean mlp?", "convnet"}},
    {"class_weights_too_few",
     {"train", "good.yaml", "task.class_weights=[1,2]"},
     ExitCode::config,
     {"task.class_weights", "2 weights", "10 classes"}},
    {"regression_on_classes", {"train", "good.yaml", "task.name=regression"}, ExitCode::config, {"task.name"}},
    {"convnet_on_a_table",
     {"train", "table.yaml", "model.name=convnet"},
     ExitCode::config,
     {"'convnet' needs images", "use mlp"}},
    {"transformer_on_images",
     {"train", "good.yaml", "model.name=transformer"},
     ExitCode::config,
     {"'transformer' needs", "data.name: text"}},
    {"mlp_on_a_text", {"train", "text.yaml"}, ExitCode::config, {"'mlp'", "use transformer"}},
    {"image_halved_to_nothing",
     {"overfit", "image.yaml", "model.channels=[8,8,8,8]"},
     ExitCode::config,
     {"model.channels", "8x8", "use fewer"}},
    {"model_larger_than_memory",
     {"train", "good.yaml", "model.hidden=[1000000000000000]"},
     ExitCode::config,
     {"model.name: 'mlp' cannot be built", "memory"}},
    {"given_split_without_files",
     {"train", "good.yaml", "data.split.by=given"},
     ExitCode::config,
     {"data.split.by", "data.test_inputs"}},
    {"mpi_without_mpirun",
     {"train", "good.yaml", "parallel.backend=mpi"},
     ExitCode::config,
     {"parallel.backend", "mpirun -n"}},
    {"run_dir_is_foreign",
     {"train", "good.yaml", "--run-dir", "foreign"},
     ExitCode::usage,
     {"foreign", "no run of tugline", "--run-dir"}},
    {"fresh_on_a_foreign_folder",
     {"train", "good.yaml", "--run-dir", "foreign", "--fresh"},
     ExitCode::usage,
     {"foreign", "no run of tugline"}},
    {"run_dir_is_a_file", {"train", "good.yaml", "--run-dir", "notes.txt"}, ExitCode::usage, {"notes.txt is a file"}},
    {"run_dir_below_a_file",
     {"train", "good.yaml", "--run-dir", "notes.txt/run"},
     ExitCode::io,
     {"notes.txt/run", "Not a directory"}},
    {"run_of_another_config",
     {"train", "good.yaml", "train.steps=3", "--run-dir", "run"},
     ExitCode::config,
     {"another config", "train.steps is 2 there and 3 here", "--fresh"}},
    {"result_is_torn", {"train", "good.yaml", "--run-dir", "torn"}, ExitCode::io, {"torn/result.json", "--fresh"}},
};

// The same door for all ranks: one message, our exit code, no banner.
const BadInput kUnderMpirun[] = {
    {"no_command", {"trian"}, ExitCode::usage, {"did you mean train?"}, 2},
    {"no_option", {"train", "good.yaml", "--frehs"}, ExitCode::usage, {"'--frehs'"}, 2},
    {"no_config", {"train", "digits.yml"}, ExitCode::config, {"'digits.yml'"}, 2},
    {"errors_at_once", {"train", "three.yaml"}, ExitCode::config, {"three.yaml:2:3", "three.yaml:4:9"}, 3, 3},
    {"no_model", {"train", "good.yaml", "model.name=mpl"}, ExitCode::config, {"did you mean mlp?"}, 3},
    {"threads", {"train", "good.yaml", "parallel.backend=threads"}, ExitCode::config, {"parallel.backend"}, 2},
    {"foreign_folder", {"train", "good.yaml", "--run-dir", "foreign"}, ExitCode::usage, {"no run of tugline"}, 2},
    {"fewer_samples_than_ranks",
     {"train", "image.yaml", "data.batch=4", "data.split={validation: 0, test: 0}"},
     ExitCode::config,
     {"model.batch_norm: sync", "smallest global batch has 1", "2 ranks", "data.drop_last"},
     2},
    {"sync_norm_in_micro_batches",
     {"train", "image.yaml", "train.micro_batch=4"},
     ExitCode::config,
     {"model.batch_norm: sync", "train.micro_batch"},
     2},
};

INSTANTIATE_TEST_SUITE_P(Words, BadCommandLine, testing::ValuesIn(kWords), name_of);
INSTANTIATE_TEST_SUITE_P(Configs, BadCommandLine, testing::ValuesIn(kConfigs), name_of);
INSTANTIATE_TEST_SUITE_P(Mpirun, BadCommandLine, testing::ValuesIn(kUnderMpirun), name_of);

}  // namespace
}  // namespace tugline
