#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# train.sbatch under a real Slurm: a preempted run goes back into the queue and ends with the bits of the run that nothing happened to.
# slurm_lab.sh train_test.sh TUGLINE
# shellcheck source=tests/slurm/jobs.sh
. "$(dirname "${BASH_SOURCE[0]}")/jobs.sh"

cat >long.yaml <<'YAML'
data: {name: digits, batch: 64}
model: {name: mlp, hidden: [32], dropout: 0.1}
train: {epochs: 400, eval_every: 50}
log: {tensorboard: false}
YAML
trains() { [ "$(events step "$1/metrics.jsonl")" -gt 0 ]; }   # RUN

expect refuses "a config and a folder" bash "$scripts/train.sbatch" long.yaml

for run in preempted cancelled; do sbatch --parsable --output=%x-%j.out "$scripts/train.sbatch" long.yaml $run >$run.job; done
preempted=$(cat preempted.job) cancelled=$(cat cancelled.job)
until_so trains preempted
scancel --batch --signal=USR1 "$preempted"
until_so trains cancelled
scancel --batch --signal=TERM "$cancelled"
until_so is "$preempted" Restarts=1
until_so gone "$cancelled"
expect is "$cancelled" Restarts=0 JobState=FAILED ExitCode=75:0

mpirun -q --oversubscribe --bind-to none -n 2 "$TUGLINE" train long.yaml --run-dir straight --progress plain >straight.out 2>&1
until_so gone "$preempted"
expect is "$preempted" Restarts=1 JobState=COMPLETED
expect [ "$(events resume preempted/metrics.jsonl)" = 1 ]
last=$(cd straight/checkpoints && echo step-*.h5 | awk '{ print $NF }')
expect "$TUGLINE" checkpoint diff "preempted/checkpoints/$last" "straight/checkpoints/$last"
