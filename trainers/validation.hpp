// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tugline/trainers/evaluate.hpp"

namespace tugline {

struct Progress;
struct RunConfig;

/// Throws AgreedError (ExitCode::config) when train.early_stop.metric or checkpoint.best_metric is not known during such a training.
void require_metrics(const RunConfig& config, bool has_accuracy, bool has_validation);

/// Writes down in `progress` what an evaluation of the validation split means for early stopping and the best checkpoint. True: it is the
/// best so far.
bool note_validation(const RunConfig& config, const Evaluation& validation, Progress& progress);

/// Means over the steps of the epoch so far, as each sample was met.
Evaluation train_means(const Progress& progress);

}  // namespace tugline
