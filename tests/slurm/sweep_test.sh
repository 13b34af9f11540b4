#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# sweep.sbatch under a real Slurm: an array loses all its tasks in the middle, two for good, and each trial ends once.
# slurm_lab.sh sweep_test.sh TUGLINE
# shellcheck source=tests/slurm/jobs.sh
. "$(dirname "${BASH_SOURCE[0]}")/jobs.sh"

cat >base.yaml <<'YAML'
data: {name: digits, batch: 64}
model: {name: mlp, hidden: [32]}
train: {epochs: 400, eval_every: 50}
log: {tensorboard: false}
parallel: {threads: 1}
YAML
sweep() {   # NAME TRIALS REST: a file
  printf 'sweep: {name: %s, base: base.yaml, seed: 3}\nobjectives: [{metric: val/loss, goal: min}]\n' "$1"
  printf 'space: {optim.lr: {float: [0.01, 0.3], log: true}}\nsearch: {method: random}\nbudget: {trials: %s}\n%s\n' "$2" "$3"
}
trains() { [ "$(events step "runs/$1/trials/$2"/job-*/metrics.jsonl)" -gt 0 ]; }   # SWEEP TRIAL
resumed() { cat "runs/$1"/trials/*/job-*.00[2-9]/metrics.jsonl 2>/dev/null | grep -c '"event":"resume"' || true; }
have_resumed() { [ "$(resumed "$1")" -ge "$2" ]; }   # SWEEP HOW MANY
done_once() {   # SWEEP TRIALS
  local trial
  "$TUGLINE" sweep export "$1.yaml" --format jsonl >table
  expect [ "$(wc -l <table)" = "$2" ]
  for ((trial = 0; trial < $2; ++trial)); do
    expect [ "$(grep -c "^{\"trial\":$trial,\"state\":\"done\".*\"value\":[0-9]" table)" = 1 ]
  done
  expect [ "$(sed -n 2p -s "runs/$1"/jobs/*/* | grep -c '"final":true')" = "$2" ]
  expect [ "$("$TUGLINE" sweep replay "$1.yaml")" = "$2 decisions made again, 0 differ" ]
}

expect refuses "with sbatch" env -u SLURM_JOB_ID bash "$scripts/sweep.sbatch" eight.yaml
expect refuses "one word" env SLURM_JOB_ID=1 bash "$scripts/sweep.sbatch"
expect refuses "/no/tugline is no program" env SLURM_JOB_ID=1 TUGLINE=/no/tugline bash "$scripts/sweep.sbatch" eight.yaml

sweep eight 8 "run: {lease: 20 s}" >eight.yaml
job=$(sbatch --parsable --output=%x-%a.out "$scripts/sweep.sbatch" eight.yaml)
for trial in 0 1 2 3; do until_so trains eight 00000$trial; done
scancel --batch --signal=USR1 "${job}_1" "${job}_3"   # to be preempted; the array's last task has the array's number
scancel --batch --signal=TERM "${job}_2"
scancel "${job}_0"
for task in 1 3; do until_so is "${job}_$task" Restarts=1; done
until_so is "${job}_2" Restarts=0 JobState=FAILED ExitCode=75:0
until_so is "${job}_0" Restarts=0 JobState=CANCELLED
until_so have_resumed eight 2
scontrol requeue "${job}_1"   # preempted without a word: Slurm kills
until_so is "${job}_1" Restarts=2
until_so gone "$job"
expect is "${job}_1" Restarts=2 JobState=COMPLETED
expect is "${job}_3" Restarts=1 JobState=COMPLETED
expect is "${job}_2" Restarts=0
expect have_resumed eight 4
expect [ "$(cat runs/eight/jobs/*/* | grep -c SIGKILL || true)" = 0 ]   # Slurm's TERM beside the script's USR1 leaves a trial time to save
done_once eight 8

sweep two 1 "run: {ranks_per_trial: 2}" >two.yaml
job=$(sbatch --parsable --output=%x-%a.out --array=5 --ntasks=2 "$scripts/sweep.sbatch" two.yaml)
until_so trains two 000000
scancel --batch --signal=USR1 "${job}_5"
until_so gone "$job"
expect is "${job}_5" Restarts=1 JobState=COMPLETED
expect have_resumed two 1
expect grep -q '"ranks": 2' runs/two/trials/000000/job-000000.002/result.json
done_once two 1
