// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/config/validate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace tugline::config {
namespace {

using Conflicts = std::vector<Conflict>;

bool names_a_metric(const std::string& text) {
  const auto dot = text.find('.');
  const std::string split = text.substr(0, dot);
  return dot != std::string::npos && dot + 1 < text.size() &&
         (split == "train" || split == "validation" || split == "test");
}

constexpr const char* kMetricForm = "expected split.metric with split train, validation or test, such as validation.loss";

void check_data(const DataConfig& data, const TaskConfig& task, Conflicts& out) {
  const bool absolute = data.name != "hdf5" && data.train_inputs.starts_with('/');
  const bool needs_path = data.name != "digits" && data.name != "synthetic" && !absolute;
  if (needs_path && data.path.empty()) {
    out.push_back({{"data.path", "data.name"}, fmt::format("data.name {} needs data.path", data.name)});
  }
  if (data.name == "hdf5" && (data.train_inputs.empty() || data.train_targets.empty())) {
    out.push_back({{"data.name", "data.train_inputs", "data.train_targets"},
                   "data.name hdf5 needs data.train_inputs and data.train_targets, paths of datasets inside the file"});
  }
  const SplitConfig& split = data.split;
  if (split.by != "given" && split.validation + split.test >= 1) {
    out.push_back(
        {{"data.split.validation", "data.split.test"},
         fmt::format("data.split.validation {} and data.split.test {} leave nothing to train on: their sum must be < 1",
                     split.validation, split.test)});
  }
  if (split.by == "time" && data.name != "csv") {
    out.push_back({{"data.split.by", "data.name"},
                   fmt::format("data.split.by time needs the rows of data.name csv, found {}", data.name)});
  } else if (split.by == "time" && split.time_column.empty()) {
    out.push_back({{"data.split.by", "data.split.time_column"}, "data.split.by time needs data.split.time_column"});
  }
  const bool typed = data.name == "csv" || data.name == "hdf5" || data.name == "synthetic";
  const std::string target = task.name == "classification" ? "class" : task.name == "regression" ? "value" : data.target;
  if (typed && data.target != target) {
    out.push_back({{"task.name", "data.target"},
                   fmt::format("task.name {} needs data.target {}, found {}", task.name, target, data.target)});
  }
}

void check_model(const ModelConfig& model, const TaskConfig& task, Conflicts& out) {
  if (model.name == "transformer" && model.width % model.heads != 0) {
    out.push_back({{"model.width", "model.heads", "model.name"},
                   fmt::format("model.width {} cannot be divided by model.heads {}", model.width, model.heads)});
  }
  const auto& weights = task.class_weights;
  if (!weights.empty() && std::ranges::all_of(weights, [](double weight) { return weight == 0; })) {
    out.push_back({{"task.class_weights"}, "task.class_weights are all 0: one at least must be larger"});
  }
}

void check_optim(const OptimConfig& optim, Conflicts& out) {
  if (optim.lr_scale != "none" && optim.base_batch == 0) {
    out.push_back({{"optim.lr_scale", "optim.base_batch"},
                   fmt::format("optim.lr_scale {} needs optim.base_batch > 0, the batch that optim.lr was tuned for",
                               optim.lr_scale)});
  }
  if (optim.name == "sgd" && optim.nesterov && (optim.momentum == 0 || optim.dampening != 0)) {
    out.push_back({{"optim.nesterov", "optim.momentum", "optim.dampening"},
                   fmt::format("optim.nesterov needs optim.momentum > 0 and optim.dampening 0, found {} and {}",
                               optim.momentum, optim.dampening)});
  }
  for (std::size_t i = 0; i < optim.groups.size(); ++i) {
    if (optim.groups[i].match.empty()) {
      const std::string key = fmt::format("optim.groups[{}]", i);
      out.push_back({{"optim.groups", key}, fmt::format("{} needs match, a pattern such as *.bias", key)});
    }
  }
  const ScheduleConfig& schedule = optim.schedule;
  if (schedule.name == "wsd" && schedule.decay == 0) {
    out.push_back(
        {{"optim.schedule.name", "optim.schedule.decay"}, "optim.schedule.name wsd needs optim.schedule.decay > 0"});
  }
  if (schedule.name == "step" && schedule.every == 0) {
    out.push_back(
        {{"optim.schedule.name", "optim.schedule.every"}, "optim.schedule.name step needs optim.schedule.every > 0"});
  }
}

void check_shards(const RunConfig& run, Conflicts& out) {
  const std::int64_t shards = run.parallel.shards;
  if (shards == 0) return;
  if ((shards & (shards - 1)) != 0) out.push_back({{"parallel.shards"}, fmt::format("parallel.shards {} is no power of two", shards)});
  if (run.train.micro_batch > 0) {
    out.push_back({{"parallel.shards", "train.micro_batch"}, "parallel.shards says how many samples go at a time: train.micro_batch must be 0"});
  }
  if (run.parallel.wire == "bfloat16") {
    out.push_back({{"parallel.shards", "parallel.wire"}, "parallel.shards needs unrounded sums: parallel.wire must be float32"});
  }
}

void check_local(const RunConfig& run, Conflicts& out) {
  if (run.parallel.strategy != "local") return;
  if (run.parallel.shards > 0) {
    out.push_back({{"parallel.strategy", "parallel.shards"}, "parallel.shards adds up gradients, and parallel.strategy local has none to add up"});
  }
  if (run.model.batch_norm == "sync") {
    out.push_back({{"parallel.strategy", "model.batch_norm"}, "model.batch_norm sync adds up over all ranks in each pass, and parallel.strategy local does not: use local or model.norm group"});
  }
}

/// What is made for memory that the host can read.
void check_device(const RunConfig& run, Conflicts& out) {
  if (run.train.tf32 && run.train.device != "cuda") {
    out.push_back({{"train.tf32", "train.device"}, "train.tf32 is for GPUs: use train.device cuda, or leave it off"});
  }
  if (run.train.tf32 && run.train.precision == "float64") {
    out.push_back({{"train.tf32", "train.precision"}, "train.tf32 rounds products of float32, and train.precision is float64: use float32, or leave it off"});
  }
  if (run.train.device == "cpu") return;
  const ParallelConfig& parallel = run.parallel;
  const auto refuse = [&](const std::string& key, const std::string& value) {
    out.push_back({{"train.device", key}, fmt::format("train.device {} needs {} {}", run.train.device, key, value)});
  };
  if (parallel.shards > 0) refuse("parallel.shards", "0");
  if (parallel.wire != "float32") refuse("parallel.wire", "float32");
  if (run.train.cuda_graphs && run.model.batch_norm == "sync") {
    out.push_back({{"train.cuda_graphs", "model.batch_norm"}, "train.cuda_graphs records passes, and model.batch_norm sync waits for other ranks within one: use local, or model.norm group"});
  }
  if (run.train.cuda_graphs && parallel.balance.mode == "adaptive") {
    out.push_back({{"train.cuda_graphs", "parallel.balance.mode"}, "train.cuda_graphs records each shape of batch, and parallel.balance.mode adaptive changes them by times that recording is part of: use off, fixed or main_light"});
  }
  if (run.train.read_every == 1) return;
  const auto must_read = [&](const std::string& key, const std::string& why) {
    out.push_back({{"train.read_every", key}, fmt::format("train.read_every {}: {}; use 1", run.train.read_every, why)});
  };
  if (parallel.strategy != "sync") must_read("parallel.strategy", fmt::format("parallel.strategy {} says in each step what its loss is", parallel.strategy));
  if (run.train.nonfinite == "retry") must_read("train.nonfinite", "train.nonfinite retry computes a step again before the next one");
  if (run.train.precision == "fp16") must_read("train.precision", "train.precision fp16 computes a step that overflows again before the next one");
  if (run.train.spike_factor > 0) must_read("train.spike_factor", "train.spike_factor judges the norm of a gradient before it moves anything");
  if (parallel.backend == "mpi") must_read("parallel.backend", "parallel.backend mpi makes the host wait in each step");
  if (parallel.balance.mode == "replay") must_read("parallel.balance.mode", "parallel.balance.mode replay changes shares after given steps");
  if (run.optim.clip_norm > 0 && run.optim.clip_value > 0) must_read("optim.clip_value", "optim.clip_value after optim.clip_norm needs the norm on the host");
}

void check_async(const RunConfig& run, Conflicts& out) {
  const ParallelConfig& parallel = run.parallel;
  if (parallel.strategy != "async" && !parallel.async.replay.empty()) {
    out.push_back({{"parallel.strategy", "parallel.async.replay"},
                   fmt::format("parallel.async.replay repeats an asynchronous run, and parallel.strategy is {}", parallel.strategy)});
  }
  if (parallel.strategy != "async") return;
  if (parallel.async.pieces > run.data.batch) {
    out.push_back({{"parallel.async.pieces", "data.batch"},
                   fmt::format("parallel.async.pieces {} is more than data.batch {}: pieces would be empty", parallel.async.pieces, run.data.batch)});
  }
  if (parallel.wire != "float32") {
    out.push_back({{"parallel.strategy", "parallel.wire"}, "parallel.strategy async sends gradients as they are: parallel.wire must be float32"});
  }
  const auto refuse = [&](const std::string& key, const std::string& why) {
    out.push_back({{"parallel.strategy", key}, fmt::format("parallel.strategy async {}", why)});
  };
  if (std::max<std::int64_t>(parallel.async.pieces, 1) * parallel.async.local_steps > run.data.batch) {
    out.push_back({{"parallel.async.local_steps", "parallel.async.pieces", "data.batch"},
                   fmt::format("parallel.async.local_steps {} cuts a piece of data.batch {} into parts that would be empty", parallel.async.local_steps, run.data.batch)});
  }
  if (parallel.async.staleness == 0 && parallel.async.pieces > 0) {
    out.push_back({{"parallel.async.staleness", "parallel.async.pieces"}, "parallel.async.staleness 0 makes whole steps of one piece per rank: parallel.async.pieces must be 0"});
  }
  if (parallel.shards > 0) refuse("parallel.shards", "adds up gradients as they come, and parallel.shards in one order: set it to 0");
  if (run.model.batch_norm == "sync") refuse("model.batch_norm", "has no passes that all ranks make at once: model.batch_norm must be local, or model.norm group");
  if (run.train.spike_factor > 0) refuse("train.spike_factor", "applies gradients of pieces as they come, and has none of a whole step to judge: train.spike_factor must be 0");
  if (parallel.shared_memory != "auto") refuse("parallel.shared_memory", "keeps its parameters in memory that ranks share: parallel.shared_memory must be auto");
  if (parallel.balance.mode != "auto" && parallel.balance.mode != "off") {
    refuse("parallel.balance.mode", fmt::format("hands pieces to whoever is free: parallel.balance.mode {} has no shares to set", parallel.balance.mode));
  }
}

void check_balance(const RunConfig& run, Conflicts& out) {
  const BalanceConfig& balance = run.parallel.balance;
  const std::string key = "parallel.balance.";
  const bool fixed = balance.mode == "fixed", replay = balance.mode == "replay";
  if (run.parallel.shards > 0 && balance.mode != "auto" && balance.mode != "off") {
    out.push_back({{key + "mode", "parallel.shards"}, fmt::format("parallel.shards needs equal shares: parallel.balance.mode cannot be {}", balance.mode)});
  }
  if (fixed && balance.weights.empty() == balance.host_weights.empty()) {
    out.push_back({{key + "mode", key + "weights", key + "host_weights"},
                   "parallel.balance.mode fixed needs either weights, one per rank, or host_weights"});
  }
  if (!fixed && (!balance.weights.empty() || !balance.host_weights.empty())) {
    out.push_back({{key + "mode", key + "weights", key + "host_weights"}, fmt::format("weights are for parallel.balance.mode fixed, and it is {}", balance.mode)});
  }
  for (const auto& [host, text] : balance.host_weights) {
    double weight = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), weight);
    if (error == std::errc() && end == text.data() + text.size() && weight >= 0 && std::isfinite(weight)) continue;
    out.push_back({{key + "host_weights"}, fmt::format("parallel.balance.host_weights: '{}' for {} is no weight; use a number >= 0", text, host)});
  }
  if (replay == balance.replay.empty()) {
    out.push_back({{key + "mode", key + "replay"}, "parallel.balance.mode replay and parallel.balance.replay, the folder of a run, go together"});
  }
  if (balance.unit == "micro_batch" && run.train.micro_batch == 0) {
    out.push_back({{key + "unit", "train.micro_batch"}, "parallel.balance.unit micro_batch needs train.micro_batch"});
  }
  if (balance.mode != "adaptive" && balance.mode != "auto" && (balance.min_share > 1 || balance.max_share > 0)) {
    out.push_back({{key + "mode", key + "min_share", key + "max_share"},
                   fmt::format("min_share and max_share are for parallel.balance.mode adaptive, and it is {}", balance.mode)});
  }
  if (balance.max_share > 0 && balance.max_share < balance.min_share) {
    out.push_back({{key + "min_share", key + "max_share"},
                   fmt::format("parallel.balance.max_share {} is less than min_share {}", balance.max_share, balance.min_share)});
  }
}

void check_run(const RunConfig& run, Conflicts& out) {
  const bool odd = std::ranges::any_of(run.name, [](unsigned char c) { return c == '/' || c < ' '; });
  if (odd || run.name == "." || run.name == "..") {
    out.push_back({{"name"}, fmt::format("name becomes a folder, so it cannot be '{}'", run.name)});
  }
  const TrainConfig& train = run.train;
  if (train.eval_unit == "step" && std::trunc(train.eval_every) != train.eval_every) {
    out.push_back(
        {{"train.eval_every", "train.eval_unit"},
         fmt::format("train.eval_every {} must be a whole number when train.eval_unit is step", train.eval_every)});
  }
  if (!train.early_stop.metric.empty() && !names_a_metric(train.early_stop.metric)) {
    out.push_back({{"train.early_stop.metric"},
                   fmt::format("train.early_stop.metric: {}, found '{}'", kMetricForm, train.early_stop.metric)});
  }
  if (run.checkpoint.best_metric != "auto" && !names_a_metric(run.checkpoint.best_metric)) {
    out.push_back(
        {{"checkpoint.best_metric"},
         fmt::format("checkpoint.best_metric: {}, or auto, found '{}'", kMetricForm, run.checkpoint.best_metric)});
  }
  if (run.parallel.wire == "bfloat16" && run.parallel.all_reduce == "backend") {
    out.push_back({{"parallel.wire", "parallel.all_reduce"}, "parallel.wire bfloat16 goes by the ring: set parallel.all_reduce to auto or ring"});
  }
  if (run.parallel.wire == "bfloat16" && train.precision == "float64") {
    out.push_back({{"parallel.wire", "train.precision"}, "parallel.wire bfloat16 is for float32 gradients, and train.precision is float64"});
  }
  if (run.parallel.wire == "bfloat16" && train.precision == "fp16") {
    out.push_back({{"parallel.wire", "train.precision"},
                   "train.precision fp16 changes the scale of gradients, and parallel.wire bfloat16 keeps what rounding left of them: use bf16"});
  }
  if (train.precision == "fp16" && run.parallel.strategy != "sync") {
    out.push_back({{"train.precision", "parallel.strategy"},
                   fmt::format("train.precision fp16 scales the loss for all ranks alike, step by step, and parallel.strategy {} has no such steps: use bf16",
                               run.parallel.strategy)});
  }
  if (train.spike_factor > 0 && train.spike_factor <= 1) {
    out.push_back({{"train.spike_factor"},
                   fmt::format("train.spike_factor {} would call every other step a spike: use more than 1, or 0 to look for none", train.spike_factor)});
  }
  check_shards(run, out);
  check_balance(run, out);
  check_local(run, out);
  check_async(run, out);
  check_device(run, out);
  const OverfitConfig& overfit = run.overfit;
  if (overfit.steps / overfit.eval_every < overfit.hold) {
    out.push_back({{"overfit.hold", "overfit.steps", "overfit.eval_every"},
                   fmt::format("overfit.steps {} leaves no time for overfit.hold {} evaluations every {} steps",
                               overfit.steps, overfit.hold, overfit.eval_every)});
  }
}

}  // namespace

std::vector<Conflict> validate(const RunConfig& run) {
  Conflicts out;
  check_data(run.data, run.task, out);
  check_model(run.model, run.task, out);
  check_optim(run.optim, out);
  check_run(run, out);
  return out;
}

}  // namespace tugline::config
