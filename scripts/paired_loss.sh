#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a setting costs in accuracy: scripts/paired_loss.sh [--ranks N] [--pairs 5|10|20] [--relative] [--config FILE] BENCH "OVERRIDES" "OTHER OVERRIDES" [--quick]
# Trainings on N ranks (2) in pairs, one seed each, without and with the other setting; loss on 10,000 samples that were held out, or on the test
# split of FILE. Prints a
# JSON line for scripts/bench.sh: the mean difference and its 95 % interval (Student's t), which should contain 0; with --relative, as parts of
# the loss without it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
ranks=2 seeds=5 relative=0 config=""
while [[ ${1:-} = --* ]]; do
  case $1 in
    --ranks) ranks=$2; shift 2 ;;
    --pairs) seeds=$2; shift 2 ;;
    --relative) relative=1; shift ;;
    --config) config=$2; shift 2 ;;
    *) echo "paired_loss.sh: '$1' is not an option before BENCH" >&2; exit 2 ;;
  esac
done
[ $# -ge 3 ] || { echo "paired_loss.sh: usage: scripts/paired_loss.sh [--ranks N] [--pairs 5|10|20] [--relative] [--config FILE] BENCH \"OVERRIDES\" \"OTHER OVERRIDES\" [--quick]" >&2; exit 2; }
bench=$1
if [ "${4:-}" = --quick ]; then seeds=2; fi
case $seeds in 2|5|10|20) ;; *) echo "paired_loss.sh: --pairs $seeds: 5, 10 or 20" >&2; exit 2 ;; esac
export OMP_NUM_THREADS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
what="10,000 held-out samples"
if [ -n "$config" ]; then what="test split of $(basename "$config")"; fi
cat >"$work/pair.yaml" <<'YAML'
data: {name: synthetic, batch: 64, samples: 22000, features: 64, noise: 0.5, split: {validation: 0.05, test: 0.4546}}
model: {name: mlp, hidden: [128, 128]}
optim: {lr: 0.05, momentum: 0.9, schedule: {name: cosine}}
train: {epochs: 10, eval_every: 10}
checkpoint: {every_epochs: 0}
log: {tensorboard: false}
YAML
for seed in $(seq "$seeds"); do
  for which in 2 3; do
    # shellcheck disable=SC2086
    mpirun -q --oversubscribe --bind-to none -n "$ranks" "$root/build/release/bin/tugline" train "${config:-$work/pair.yaml}" "seed=$seed" ${!which} \
      --run-dir "$work/$which-$seed" >"$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
  done
done
python3 - "$work" "$seeds" "$bench" "$2" "$3" "$relative" "$what" <<'PY'
import json, statistics, sys
work, seeds, bench, first, second, relative, what = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
loss = lambda which, seed: json.load(open(f"{work}/{which}-{seed}/result.json"))["test"]["loss"]
differences = [loss(3, s) - loss(2, s) for s in range(1, seeds + 1)]
mean, t = statistics.mean(differences), {2: 12.706, 5: 2.776, 10: 2.262, 20: 2.093}[seeds]   # 97.5 % quantile at seeds - 1 degrees of freedom
half = t * statistics.stdev(differences) / seeds**0.5
base = statistics.mean(loss(2, s) for s in range(1, seeds + 1))
if relative == "1":
    mean, half = mean / base, half / base
print(json.dumps({"bench": bench, "case": f"loss, {what} ({base:.4f}), {seeds} pairs", "value": mean, "p10": mean - half,
                  "p90": mean + half, "unit": "", "better": "near 0", "peer": f"{first}; with {second}; the interval is 95 %", "goal": 0.02 if relative == "1" else None}))
PY
