// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/config/run_config_notes.hpp"

namespace tugline::config {
namespace {

Allowed at_least(double min) { return {.min = min}; }
Allowed above(double min) { return {.min = min, .min_open = true}; }
Allowed within(double min, double max) { return {.min = min, .max = max}; }
Allowed fraction() { return {.min = 0, .max = 1, .max_open = true}; }

template <class... Choice>
Allowed one_of(Choice... choices) {
  return {.choices = {choices...}};
}

}  // namespace

const std::vector<Note>& notes() {
  static const std::vector<Note> table = {
      {"name", "name of the run; empty: the file's name without .yaml", "", {}},
      {"seed", "starts every random stream: initialisation, sample order, augmentation, dropout", "", at_least(0)},

      {"data.name", "where samples come from", "", one_of("digits", "idx", "csv", "hdf5", "text", "synthetic")},
      {"data.batch", "the global batch: all ranks' samples of one step", "samples", at_least(1)},
      {"data.path", "the data file, or the folder of train_inputs and so on; relative to the config file", "", {}},
      {"data.train_inputs", "idx, csv, text: file below data.path; hdf5: dataset inside the file", "", {}},
      {"data.train_targets", "likewise, the targets", "", {}},
      {"data.validation_inputs", "likewise, of the validation split", "", {}},
      {"data.validation_targets", "likewise", "", {}},
      {"data.test_inputs", "likewise, of the test split", "", {}},
      {"data.test_targets", "likewise", "", {}},
      {"data.label", "csv: label column, by name or by index from 0; negative counts from the end", "", {}},
      {"data.target", "csv, hdf5, synthetic: predict a class or a value", "", one_of("class", "value")},
      {"data.header", "csv: whether the first line holds column names; null: found out from the file", "", {}},
      {"data.categorical", "csv: how text columns become numbers", "", one_of("onehot", "index")},
      {"data.tokens", "text: what one token is", "", one_of("characters", "bytes")},
      {"data.context", "text: length of one sample", "tokens", at_least(1)},
      {"data.samples", "synthetic: how many", "samples", at_least(1)},
      {"data.features", "synthetic: inputs per sample", "", at_least(1)},
      {"data.classes", "synthetic: number of classes", "", at_least(2)},
      {"data.outputs", "synthetic: values to predict per sample", "", at_least(1)},
      {"data.noise", "synthetic: standard deviation of the noise on the inputs or values", "", at_least(0)},
      {"data.seed", "synthetic: which data; `seed` does not change them", "", at_least(0)},
      {"data.normalise", "subtract mean and divide by deviation, both of the train split", "", {}},
      {"data.shuffle", "draw a new sample order each epoch", "", {}},
      {"data.drop_last", "drop an epoch's last batch when it is smaller than data.batch", "", {}},
      {"data.split.by", "how data are split; auto: as given, else at random", "",
       one_of("auto", "given", "random", "time")},
      {"data.split.validation", "share of the data kept for validation", "fraction", fraction()},
      {"data.split.test", "share of the data kept for the test", "fraction", fraction()},
      {"data.split.stratified", "random splits of classes keep the classes' proportions", "", {}},
      {"data.split.time_column", "csv: the column that data.split.by: time sorts by", "", {}},
      {"data.augment.pad_crop", "zero padding before a random crop back to size", "pixels", at_least(0)},
      {"data.augment.flip", "mirror left-right with probability 1/2", "", {}},
      {"data.augment.noise", "standard deviation of gaussian noise, added after normalisation", "", at_least(0)},
      {"data.threads", "prefetch threads per rank; 0: read when needed", "threads", within(0, 256)},
      {"data.prefetch", "how many samples may lie ready per rank", "samples", at_least(1)},

      {"model.name", "linear, mlp, convnet, transformer, or one that your program registered", "", {}},
      {"model.hidden", "mlp: units of each hidden layer", "units", at_least(1)},
      {"model.channels", "convnet: channels of each stage; a stage halves the image", "channels", at_least(1)},
      {"model.norm", "convnet: normalisation", "", one_of("group", "batch", "none")},
      {"model.activation", "mlp, convnet, transformer: nonlinearity", "", one_of("relu", "gelu", "tanh")},
      {"model.dropout", "probability that an activation is dropped while training", "", fraction()},
      {"model.layers", "transformer: blocks", "", at_least(1)},
      {"model.heads", "transformer: attention heads per block", "", at_least(1)},
      {"model.width", "transformer: features per token", "", at_least(1)},
      {"model.tied", "transformer: the output layer shares the token embedding", "", {}},
      {"model.batch_norm", "batch statistics of each rank's share, or of the global batch", "", one_of("local", "sync")},
      {"model.options", "free-form settings of a registered model: name to text", "", {}},

      {"task.name", "what is learnt; auto: by the data", "",
       one_of("auto", "classification", "regression", "language_model")},
      {"task.label_smoothing", "share of each target spread evenly over all classes", "fraction", fraction()},
      {"task.class_weights", "weight of each class in the loss; empty: all 1", "", at_least(0)},

      {"optim.name", "optimizer", "", one_of("sgd", "adam", "adamw", "adagrad")},
      {"optim.lr", "peak learning rate", "", above(0)},
      {"optim.momentum", "sgd: momentum", "", fraction()},
      {"optim.dampening", "sgd: dampening of the momentum", "", within(0, 1)},
      {"optim.nesterov", "sgd: Nesterov momentum", "", {}},
      {"optim.beta1", "adam, adamw: decay of the first moment", "", fraction()},
      {"optim.beta2", "adam, adamw: decay of the second moment", "", fraction()},
      {"optim.eps", "adam, adamw, adagrad: added to the denominator", "", above(0)},
      {"optim.lr_decay", "adagrad: decay of the learning rate per step", "", at_least(0)},
      {"optim.weight_decay", "weight decay (decoupled in adamw)", "", at_least(0)},
      {"optim.decay_bias_and_norm", "apply weight decay to one-dimensional parameters too", "", {}},
      {"optim.lr_scale", "multiply optim.lr by data.batch / optim.base_batch, or by its root", "",
       one_of("none", "linear", "sqrt")},
      {"optim.base_batch", "global batch for which optim.lr was tuned", "samples", at_least(0)},
      {"optim.clip_norm", "largest global norm of the gradient; 0: off", "", at_least(0)},
      {"optim.clip_value", "largest absolute value in the gradient; 0: off", "", at_least(0)},
      {"optim.groups", "parameters with settings of their own; the first match wins", "", {}},
      {"optim.groups[].match", "parameter names, with * and ?, such as *.bias", "", {}},
      {"optim.groups[].lr_factor", "multiplies the learning rate", "", at_least(0)},
      {"optim.groups[].weight_decay", "in place of optim.weight_decay; null: as the others", "", at_least(0)},
      {"optim.schedule.name", "course of the learning rate; wsd: warm-up, stable, decay", "",
       one_of("constant", "step", "cosine", "linear", "wsd")},
      {"optim.schedule.unit", "unit of warmup, decay and every", "", one_of("epoch", "step")},
      {"optim.schedule.warmup", "rise from 0 to the peak", "optim.schedule.unit", at_least(0)},
      {"optim.schedule.decay", "wsd: length of the final decay", "optim.schedule.unit", at_least(0)},
      {"optim.schedule.every", "step: multiply by gamma each so often", "optim.schedule.unit", at_least(0)},
      {"optim.schedule.gamma", "step: the factor", "", above(0)},
      {"optim.schedule.final_factor", "cosine, linear, wsd: last learning rate / peak", "", within(0, 1)},

      {"train.epochs", "passes over the train split", "epochs", at_least(1)},
      {"train.steps", "stop after so many steps; 0: by train.epochs alone", "steps", at_least(0)},
      {"train.init_from", "begin with the weights of this .safetensors file or checkpoint; empty: at random", "", {}},
      {"train.max_minutes", "stop with a checkpoint after so long; 0: no limit", "minutes", at_least(0)},
      {"train.micro_batch", "samples per forward pass on one rank, gradients add up; 0: the rank's whole share", "samples",
       at_least(0)},
      {"train.eval_every", "how often to evaluate on the validation split", "train.eval_unit", above(0)},
      {"train.eval_unit", "unit of train.eval_every", "", one_of("epoch", "step")},
      {"train.eval_batch", "global batch of an evaluation", "samples", at_least(1)},
      {"train.precision", "type of parameters and arithmetic", "", one_of("float32", "float64")},
      {"train.channels_last", "keep images and convolution weights channels last", "", {}},
      {"train.nonfinite", "what follows a loss or gradient that is not finite: stop, skip up to 10 steps in a row, retry once", "",
       one_of("stop", "skip", "retry")},
      {"train.early_stop.metric", "stop when this stops improving, e.g. validation.loss; empty: off", "", {}},
      {"train.early_stop.patience", "evaluations without improvement before it stops", "evaluations", at_least(1)},
      {"train.early_stop.min_delta", "smallest change that counts as improvement", "", at_least(0)},

      {"checkpoint.every_steps", "save each so many steps; 0: off", "steps", at_least(0)},
      {"checkpoint.every_epochs", "save each so many epochs; 0: off", "epochs", at_least(0)},
      {"checkpoint.every_minutes", "save each so many minutes; 0: off", "minutes", at_least(0)},
      {"checkpoint.keep_last", "how many of the newest to keep", "checkpoints", at_least(1)},
      {"checkpoint.keep_best", "keep the best one too", "", {}},
      {"checkpoint.on_error", "what follows one that cannot be written: the run stops, or goes on with a warning", "",
       one_of("stop", "continue")},
      {"checkpoint.best_metric", "what best means; auto: validation.accuracy, else validation.loss", "", {}},

      {"parallel.strategy", "how ranks work together", "", one_of("sync")},
      {"parallel.backend", "what carries the messages; auto: mpi under mpirun", "", one_of("auto", "mpi", "threads")},
      {"parallel.bucket_mib", "gradients summed as one; 0: a sixteenth of the model's, from 0.25 to 4", "MiB", at_least(0)},
      {"parallel.shared_memory", "what ranks of one host have in common; auto: gradients, parameters and optimizer state", "",
       one_of("auto", "gradients", "off")},
      {"parallel.all_reduce", "who adds up gradients that go by message; auto: the ring between hosts, the backend within one", "",
       one_of("auto", "ring", "backend")},
      {"parallel.wire", "type of float32 gradients in messages of the ring; bfloat16: half the bytes, with error feedback", "",
       one_of("float32", "bfloat16")},
      {"parallel.shards", "parts of the global batch, added up in one order: the same bits on 1, 2, 4, ... ranks; 0: off", "",
       within(0, 1024)},
      {"parallel.check_every", "compare parameters, optimizer state and buffers of all ranks each so many steps; 0: never", "steps", at_least(0)},
      {"parallel.balance.mode", "who gets which share; auto: adaptive where ranks have different processors, else off", "",
       one_of("auto", "off", "fixed", "main_light", "adaptive", "replay")},
      {"parallel.balance.weights", "fixed: a weight per rank, shares are in proportion", "", at_least(0)},
      {"parallel.balance.host_weights", "fixed: a weight per host name, for each of its ranks", "", {}},
      {"parallel.balance.main_fraction", "main_light: share of rank 0 / share of another rank", "", within(0, 1)},
      {"parallel.balance.unit", "what is not cut in two; micro_batch: train.micro_batch samples", "", one_of("sample", "micro_batch")},
      {"parallel.balance.min_share", "adaptive: a rank's share is no smaller", "samples", at_least(1)},
      {"parallel.balance.max_share", "adaptive: a rank's share is no larger (its memory); 0: no limit", "samples", at_least(0)},
      {"parallel.balance.dead_band", "adaptive: a cut that shortens a step by less is not made", "fraction", within(0, 1)},
      {"parallel.balance.replay", "replay: folder of the run whose recorded shares are used again", "", {}},
      {"parallel.threads", "compute threads per rank; 0: by the cores it may use", "threads", within(0, 4096)},
      {"parallel.hang_seconds", "a rank that stands still so long hangs; 0: 20 times the longest step, 60 or more", "seconds", at_least(0)},
      {"parallel.debug", "check that all ranks call the same collectives, and name who does not; slow", "", {}},

      {"overfit.samples", "how many samples `tugline overfit` must learn by heart", "samples", at_least(1)},
      {"overfit.target", "accuracy to reach", "fraction", within(0, 1)},
      {"overfit.loss", "mean loss to fall to", "", above(0)},
      {"overfit.steps", "steps to get there", "steps", at_least(1)},
      {"overfit.hold", "evaluations in a row that must pass", "evaluations", at_least(1)},
      {"overfit.eval_every", "how often to evaluate", "steps", at_least(1)},

      {"log.every_steps", "how often a step is recorded in metrics.jsonl", "steps", at_least(1)},
      {"log.tensorboard", "write a TensorBoard event file", "", {}},
  };
  return table;
}

}  // namespace tugline::config
