#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a checkpoint costs the training thread, and how long it takes until it is durable. Prints JSON lines for scripts/bench.sh.
# TUGLINE_BENCH_FOLDER: where to write, on the file system that is meant (default: build/release).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
OMP_NUM_THREADS=1 "$root/build/release/bench/bench_checkpoint" "$@" "${TUGLINE_BENCH_FOLDER:-$root/build/release}"

# A run on 2 ranks with checkpoints, each 50 times as long after the last as dd takes to write one, over the same run without, in pairs.
pairs=5
[ "${1:-}" = --quick ] && pairs=2
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
# run NAME [key=value ...]: trains, and prints seconds per step without the first ten
run() {
  OMP_NUM_THREADS=1 mpirun -q --bind-to core -n 2 "$root/build/release/bin/tugline" train "$work/slowed.yaml" "${@:2}" --run-dir "$work/$1" >"$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
  grep '"event":"step"' "$work/$1/metrics.jsonl" | awk -F '[:,]' 'NR == 10 { first = $2 } { last = $2 } END { printf "%.9f\n", (last - first) / (NR - 10) }'
}
step=$(run trial train.steps=60)
state=$(find "$work/trial" -name 'step-*.h5' | head -1)
dd_seconds=$({ time -p dd if="$state" of="$work/copy" bs=1M conv=fsync 2>/dev/null; } 2>&1 | awk '$1 == "real" { print $2 }')
interval=$(awk -v dd="$dd_seconds" -v step="$step" 'BEGIN { n = int(50 * dd / step) + 1; print n < 10 ? 10 : n }')
steps=$((5 * interval + 11))
ratios=""
for pair in $(seq "$pairs"); do
  without=$(run "without-$pair" "train.steps=$steps")
  with=$(run "with-$pair" "train.steps=$steps" "checkpoint.every_steps=$interval")
  ratios="$ratios $(awk -v a="$with" -v b="$without" 'BEGIN { print a / b }')"
  rm -rf "$work/with-$pair" "$work/without-$pair"
done
python3 - "$(du -m "$state" | cut -f1)" "$interval" $ratios <<'PY'
import json, statistics, sys
ratios = sorted(map(float, sys.argv[3:]))
print(json.dumps({"bench": "checkpoint", "case": f"steps with a checkpoint of {sys.argv[1]} MB each {sys.argv[2]} steps", "value": statistics.median(ratios),
                  "p10": ratios[0], "p90": ratios[-1], "unit": "x", "better": "lower", "peer": "the same steps without", "goal": 1.03}))
PY
