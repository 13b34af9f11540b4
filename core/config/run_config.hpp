// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace tugline {

/// The typed form of a run's YAML file. Every key, its default, range, unit and help stand once (here and in the notes beside
/// it, run_config_notes.hpp); decoding, `tugline config schema` and `tugline config show` all come from that.

struct AugmentConfig {
  std::int64_t pad_crop = 0;     // pixels of zero padding before a random crop back to size
  bool flip = false;             // mirror left-right with probability 1/2
  double noise = 0;              // standard deviation of gaussian noise added after normalisation
};

struct SplitConfig {
  std::string by = "auto";       // auto | given | random | time
  double validation = 0.1;       // fraction of the training data, or of everything when split at random or by time
  double test = 0.1;
  bool stratified = true;        // keep class proportions (random splits of classified data)
  std::string time_column;       // csv, by: time
};

struct DataConfig {
  std::string name = "digits";   // digits | idx | csv | hdf5 | text | synthetic
  std::int64_t batch = 64;       // the global batch: all ranks' samples of one step
  std::string path;              // file (csv, hdf5, text) or folder; relative to the config file
  // idx: file names below `path` (or absolute); hdf5: dataset paths inside the file
  std::string train_inputs, train_targets;
  std::string validation_inputs, validation_targets;
  std::string test_inputs, test_targets;
  std::string label;             // csv: label column, by name or index counted from 0; negative from the end
  std::string target = "class";  // csv, hdf5, synthetic: class | value
  std::optional<bool> header;    // csv: first line holds names; unset: inferred
  std::string categorical = "onehot";  // csv: onehot | index
  std::string tokens = "characters";   // text: characters | bytes
  std::int64_t context = 64;     // text: tokens per sample
  // synthetic
  std::int64_t samples = 1000;
  std::int64_t features = 20;
  std::int64_t classes = 10;
  std::int64_t outputs = 1;
  double noise = 0.1;
  std::uint64_t seed = 0;
  bool normalise = true;         // by statistics of the train split
  bool shuffle = true;
  bool drop_last = false;        // drop the ragged last batch of an epoch
  SplitConfig split;
  AugmentConfig augment;
  int threads = 1;               // prefetch threads per rank
  std::int64_t prefetch = 512;   // samples
};

struct ModelConfig {
  std::string name = "mlp";      // linear | mlp | convnet | transformer | a registered one
  std::vector<std::int64_t> hidden = {128};       // mlp: units per hidden layer
  std::vector<std::int64_t> channels = {32, 64};  // convnet: channels per stage, each stage halves the image
  std::string norm = "group";    // convnet: group | batch | none
  std::string activation = "relu";  // relu | gelu | tanh
  double dropout = 0;
  std::int64_t layers = 4;       // transformer
  std::int64_t heads = 4;
  std::int64_t width = 128;
  bool tied = true;              // transformer: output layer shares the token embedding
  std::string batch_norm = "local";  // local | sync, see docs
  std::map<std::string, std::string> options;   // free-form settings of a registered model
};

struct TaskConfig {
  std::string name = "auto";     // auto | classification | regression | language_model
  double label_smoothing = 0;
  std::vector<double> class_weights;
};

struct ScheduleConfig {
  std::string name = "constant"; // constant | step | cosine | linear | wsd
  std::string unit = "epoch";    // epoch | step: unit of warmup, decay and every
  double warmup = 0;
  double decay = 0;              // wsd: length of the final decay
  double every = 0;              // step: decay each so often ...
  double gamma = 0.1;            // ... by this factor
  double final_factor = 0;       // cosine, linear, wsd: learning rate at the end / peak
};

struct GroupConfig {
  std::string match;             // pattern with * and ?, e.g. "*.bias"
  double lr_factor = 1;
  std::optional<double> weight_decay;
};

struct OptimConfig {
  std::string name = "sgd";      // sgd | adam | adamw | adagrad
  double lr = 0.1;
  double momentum = 0.9;         // sgd
  double dampening = 0;          // sgd
  bool nesterov = false;         // sgd
  double beta1 = 0.9, beta2 = 0.999;  // adam, adamw
  double eps = 1e-8;             // adam, adamw, adagrad
  double lr_decay = 0;           // adagrad
  double weight_decay = 0;
  bool decay_bias_and_norm = false;  // false: one-dimensional parameters get no weight decay
  std::string lr_scale = "none"; // none | linear | sqrt, against base_batch
  std::int64_t base_batch = 0;
  double clip_norm = 0;          // global norm; 0: off
  double clip_value = 0;
  std::vector<GroupConfig> groups;
  ScheduleConfig schedule;
};

struct EarlyStopConfig {
  std::string metric;            // e.g. validation.loss, validation.accuracy; empty: off
  std::int64_t patience = 5;     // evaluations without improvement
  double min_delta = 0;
};

struct TrainConfig {
  std::int64_t epochs = 10;
  std::int64_t steps = 0;        // stop after so many steps; 0: by epochs alone
  std::string init_from;         // .safetensors file or checkpoint that weights begin with; relative to the config file
  double max_minutes = 0;        // 0: no limit
  std::int64_t micro_batch = 0;  // samples per forward on one rank; 0: the rank's whole share
  double eval_every = 1;         // in eval_unit
  std::string eval_unit = "epoch";   // epoch | step
  std::int64_t eval_batch = 256; // global
  std::string precision = "float32"; // float32 | float64 | bf16 | fp16
  std::string device = "cpu";        // cpu | cuda
  bool tf32 = false;                 // on cuda: products of float32 are of factors rounded to TF32
  bool cuda_graphs = false;          // a device is told forward and backward once for each shape of batch
  std::int64_t read_every = 1;       // steps after which the host reads what a device has computed
  bool channels_last = false;
  std::vector<std::string> stop_signals;   // beside USR1, TERM and INT
  std::string nonfinite = "stop";    // what follows a loss or gradient that is not finite: stop | skip | retry
  double spike_factor = 0;           // a gradient norm so many times the usual one counts as not finite; 0: off
  EarlyStopConfig early_stop;
};

struct CheckpointConfig {
  std::int64_t every_steps = 0;
  double every_epochs = 1;
  double every_minutes = 0;
  std::int64_t keep_last = 2;
  bool keep_best = true;
  double slice_mib = 64;             // another host writes for each so much state; 0: rank 0 writes everything
  std::string on_error = "stop";     // one that cannot be written: stop | continue
  std::string best_metric = "auto";  // auto: validation.accuracy where there is one, else validation.loss
};

struct BalanceConfig {
  std::string mode = "auto";     // auto | off | fixed | main_light | adaptive | replay
  std::vector<double> weights;   // fixed: one per rank
  std::map<std::string, std::string> host_weights;   // fixed: host name to weight of each rank there
  double main_fraction = 0.5;    // main_light: share of rank 0 / share of another rank
  std::string unit = "sample";   // sample | micro_batch: what is not cut in two
  std::int64_t min_share = 1;    // samples
  std::int64_t max_share = 0;    // samples; 0: no limit
  double dead_band = 0.03;       // adaptive: of a step's time
  std::string replay;            // folder of the run whose shares are used again
};

struct LocalConfig {
  std::int64_t steps = 16;       // of a round
  std::int64_t sync_steps = 0;   // rounds have one step so long
  double outer_lr = 1;
  double outer_momentum = 0;
  std::string state = "average"; // average | reset: of the inner optimizer, after a round
};

struct AsyncConfig {
  std::optional<std::int64_t> staleness;   // updates; unset: by the number of ranks and their speeds
  std::int64_t pieces = 0;       // of the global batch; 0: one per rank that computes
  std::int64_t local_steps = 1;  // of a rank on its own copy, before it pushes the sum of their gradients
  std::int64_t servers = 0;      // ranks, the last ones, that keep the parameters and compute no gradients; 0: each host keeps a part
  double staleness_power = 0;    // an update staler than a step is multiplied by ((staleness + 1) / pieces) ^ -power
  std::string replay;            // folder of the run that is repeated
};

struct ParallelConfig {
  std::string strategy = "sync"; // sync | local | async
  LocalConfig local;
  AsyncConfig async;
  std::string backend = "auto";  // auto | mpi | threads
  double bucket_mib = 0;         // 0: by the size of the model
  std::string shared_memory = "auto";   // auto | gradients | off
  std::string all_reduce = "auto";      // auto | ring | backend
  std::string wire = "float32";         // float32 | bfloat16
  std::int64_t shards = 0;              // of the global batch, for the same bits on 1, 2, 4, ... ranks; 0: off
  std::int64_t check_every = 1000;      // steps; 0: never
  BalanceConfig balance;
  std::int64_t threads = 0;      // intra-op threads per rank; 0: by the cores this rank may use
  double hang_seconds = 0;       // a phase that takes longer is a hang; 0: by measured times
  bool debug = false;            // compare each collective between ranks before making it
};

struct OverfitConfig {
  std::int64_t samples = 10;
  double target = 1.0;           // accuracy
  double loss = 0.05;            // mean loss
  std::int64_t steps = 500;
  std::int64_t hold = 5;         // evaluations in a row
  std::int64_t eval_every = 5;   // steps
};

struct LogConfig {
  std::int64_t every_steps = 10; // step records in metrics.jsonl
  bool tensorboard = true;
};

struct RunConfig {
  std::string name;              // default: the file's stem
  std::uint64_t seed = 0;
  DataConfig data;
  ModelConfig model;
  TaskConfig task;
  OptimConfig optim;
  TrainConfig train;
  CheckpointConfig checkpoint;
  ParallelConfig parallel;
  OverfitConfig overfit;
  LogConfig log;
};

}  // namespace tugline
