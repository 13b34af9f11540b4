#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a checkpoint costs the training thread, and how long it takes until it is durable. Prints JSON lines for scripts/bench.sh.
# TUGLINE_BENCH_FOLDER: where to write, on the file system that is meant (default: build/release).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
OMP_NUM_THREADS=1 "$root/build/release/bench/bench_checkpoint" "$@" "${TUGLINE_BENCH_FOLDER:-$root/build/release}"


# A run on 2 ranks with checkpoints, each 50 times as long after the last as dd takes to write one: each interval against as many steps at the
# pace of its own second half, when the checkpoint has long been durable.
intervals=40
[ "${1:-}" = --quick ] && intervals=10
work=$(mktemp -d "${TUGLINE_BENCH_FOLDER:-$root/build/release}/slowed-XXXXXX")
trap 'rm -rf "$work"' EXIT
cat >"$work/slowed.yaml" <<'YAML'
data: {name: synthetic, samples: 4000, features: 784, batch: 128, split: {validation: 0, test: 0}}
model: {name: mlp, hidden: [2048, 2048]}
optim: {lr: 0.001, momentum: 0.9}
train: {epochs: 100000}
checkpoint: {every_epochs: 0, keep_best: false}
log: {every_steps: 1, tensorboard: false}
YAML
# run NAME [key=value ...]
run() {
  OMP_NUM_THREADS=1 mpirun -q --bind-to core -n 2 "$root/build/release/bin/tugline" train "$work/slowed.yaml" "${@:2}" --run-dir "$work/$1" >"$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
}
run trial train.steps=60
state=$(find "$work/trial" -name 'step-*.h5' | head -1)
dd_seconds=$({ time -p dd if="$state" of="$work/copy" bs=1M conv=fsync 2>/dev/null; } 2>&1 | awk '$1 == "real" { print $2 }')
interval=$(grep '"event":"step"' "$work/trial/metrics.jsonl" | awk -v dd="$dd_seconds" -F '[:,]' '
  NR == 10 { first = $2 } { last = $2 } END { n = int(50 * dd / ((last - first) / (NR - 10))) + 1; print n < 20 ? 20 : n }')
run slowed "train.steps=$((interval * (intervals + 1)))" "checkpoint.every_steps=$interval"
python3 - "$work/slowed/metrics.jsonl" "$interval" "$(du -m "$state" | cut -f1)" <<'PY'
import json, statistics, sys
interval = int(sys.argv[2])
time = [event["time"] for event in map(json.loads, open(sys.argv[1])) if event["event"] == "step"]   # of the end of step 1, 2, ...
ratios = []
for begin in range(interval - 1, len(time) - interval, interval):   # a checkpoint is due after the step that ends here
    end, middle = begin + interval, begin + interval // 2
    ratios.append((time[end] - time[begin]) / interval / ((time[end] - time[middle]) / (end - middle)))
deciles = statistics.quantiles(ratios, n=10)
print(json.dumps({"bench": "checkpoint", "case": f"steps with a checkpoint of {sys.argv[3]} MB each {interval} steps", "value": statistics.median(ratios),
                  "p10": deciles[0], "p90": deciles[-1], "unit": "x", "better": "lower", "peer": "the steps in between", "goal": 1.03}))
PY
