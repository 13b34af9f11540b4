// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/describe/class.hpp>

#include "tugline/core/config/run_config.hpp"

// Kept out of run_config.hpp, which half of the program includes. A test counts the members, so none can be forgotten.
namespace tugline {

BOOST_DESCRIBE_STRUCT(AugmentConfig, (), (pad_crop, flip, noise))
BOOST_DESCRIBE_STRUCT(SplitConfig, (), (by, validation, test, stratified, time_column))
BOOST_DESCRIBE_STRUCT(DataConfig, (),
                      (name, batch, path, train_inputs, train_targets, validation_inputs, validation_targets, test_inputs,
                       test_targets, label, target, header, categorical, tokens, context, samples, features, classes,
                       outputs, noise, seed, normalise, shuffle, drop_last, split, augment, threads, prefetch))
BOOST_DESCRIBE_STRUCT(ModelConfig, (),
                      (name, hidden, channels, norm, activation, dropout, layers, heads, width, tied, batch_norm, options))
BOOST_DESCRIBE_STRUCT(TaskConfig, (), (name, label_smoothing, class_weights))
BOOST_DESCRIBE_STRUCT(ScheduleConfig, (), (name, unit, warmup, decay, every, gamma, final_factor))
BOOST_DESCRIBE_STRUCT(GroupConfig, (), (match, lr_factor, weight_decay))
BOOST_DESCRIBE_STRUCT(OptimConfig, (),
                      (name, lr, momentum, dampening, nesterov, beta1, beta2, eps, lr_decay, weight_decay,
                       decay_bias_and_norm, lr_scale, base_batch, clip_norm, clip_value, groups, schedule))
BOOST_DESCRIBE_STRUCT(EarlyStopConfig, (), (metric, patience, min_delta))
BOOST_DESCRIBE_STRUCT(TrainConfig, (),
                      (epochs, steps, init_from, max_minutes, micro_batch, eval_every, eval_unit, eval_batch, precision, device, tf32, cuda_graphs, read_every, channels_last,
                       stop_signals, nonfinite, spike_factor, early_stop))
BOOST_DESCRIBE_STRUCT(CheckpointConfig, (), (every_steps, every_epochs, every_minutes, keep_last, keep_best, slice_mib, on_error, best_metric))
BOOST_DESCRIBE_STRUCT(BalanceConfig, (),
                      (mode, weights, host_weights, main_fraction, unit, min_share, max_share, dead_band, replay))
BOOST_DESCRIBE_STRUCT(LocalConfig, (), (steps, sync_steps, outer_lr, outer_momentum, state))
BOOST_DESCRIBE_STRUCT(AsyncConfig, (), (staleness, pieces, local_steps, servers, staleness_power, replay))
BOOST_DESCRIBE_STRUCT(ParallelConfig, (),
                      (strategy, local, async, backend, bucket_mib, shared_memory, all_reduce, wire, shards, check_every, balance, threads, hang_seconds, debug))
BOOST_DESCRIBE_STRUCT(OverfitConfig, (), (samples, target, loss, steps, hold, eval_every))
BOOST_DESCRIBE_STRUCT(LogConfig, (), (every_steps, tensorboard))
BOOST_DESCRIBE_STRUCT(RunConfig, (), (name, seed, data, model, task, optim, train, checkpoint, parallel, overfit, log))

}  // namespace tugline
