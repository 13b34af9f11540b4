#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What bfloat16 on the wire costs in accuracy: trainings in pairs, one seed each, with float32 and with bfloat16 gradients; loss on 10,000
# samples that were held out. Prints the mean difference and its 95 % interval (Student's t); it should contain 0.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
seeds=5
if [ "${1:-}" = --quick ]; then seeds=2; fi
export OMP_NUM_THREADS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/wire.yaml" <<'YAML'
data: {name: synthetic, batch: 64, samples: 22000, features: 64, noise: 0.5, split: {validation: 0.05, test: 0.4546}}
model: {name: mlp, hidden: [128, 128]}
optim: {lr: 0.05, momentum: 0.9, schedule: {name: cosine}}
train: {epochs: 10, eval_every: 10}
checkpoint: {every_epochs: 0}
parallel: {all_reduce: ring, shared_memory: "off"}
log: {tensorboard: false}
YAML
for seed in $(seq "$seeds"); do
  for wire in float32 bfloat16; do
    mpirun -q --oversubscribe --bind-to none -n 2 "$root/build/release/bin/tugline" train "$work/wire.yaml" "seed=$seed" \
      "parallel.wire=$wire" --run-dir "$work/$wire-$seed" >/dev/null 2>&1
  done
done
python3 - "$work" "$seeds" <<'PY'
import json, statistics, sys
work, seeds = sys.argv[1], int(sys.argv[2])
loss = lambda wire, seed: json.load(open(f"{work}/{wire}-{seed}/result.json"))["test"]["loss"]
differences = [loss("bfloat16", s) - loss("float32", s) for s in range(1, seeds + 1)]
mean, t = statistics.mean(differences), {2: 12.706, 5: 2.776}[seeds]   # 97.5 % quantile at seeds - 1 degrees of freedom
half = t * statistics.stdev(differences) / seeds**0.5
base = statistics.mean(loss("float32", s) for s in range(1, seeds + 1))
print(json.dumps({"bench": "wire", "case": f"loss on 10,000 held-out samples ({base:.4f}), {seeds} pairs", "value": mean, "p10": mean - half,
                  "p90": mean + half, "unit": "", "better": "near 0", "peer": "float32 on the wire; the interval is 95 %", "goal": None}))
PY
