#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Local rounds over a slow link: seconds of training until a loss on held-out samples, against synchronous steps, on 2 hosts at 100 Mbit/s that
# tests/support/host_lab.sh makes of this machine (needs root). The target is what synchronous training reaches after its steps; each side has the
# same learning rates to choose from, and the same seeds. Prints JSON lines for scripts/bench.sh.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tugline=$root/build/release/bin/tugline
export OMP_NUM_THREADS=1
seeds=3 rates="0.02 0.05"
[ "${1:-}" = --quick ] && seeds=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# train NAME STEPS KEYS...: of each learning rate a run
train() {
  local name=$1 steps=$2 lr
  shift 2
  for lr in $rates; do
    "$root/tests/support/host_lab.sh" --rate 100mbit 2x1 -- "$tugline" train "$root/scripts/bench/until_loss.yaml" "train.steps=$steps" "optim.lr=$lr" "$@" \
      --run-dir "$work/$name-$lr" >"$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
  done
}
for seed in $(seq "$seeds"); do
  train "sync-$seed" 96 "seed=$seed"
  train "local-$seed" 512 "seed=$seed" parallel.strategy=local parallel.local.steps=16
  train "reset-$seed" 512 "seed=$seed" parallel.strategy=local parallel.local.steps=32 parallel.local.state=reset
  train "diloco-$seed" 512 "seed=$seed" parallel.strategy=local parallel.local.steps=32 parallel.local.state=reset parallel.local.outer_lr=0.7 parallel.local.outer_momentum=0.9
done
python3 - "$work" "$seeds" $rates <<'PY'
import json, statistics, sys
work, seeds, rates = sys.argv[1], int(sys.argv[2]), sys.argv[3:]

def curve(name, rate):
    """(seconds since training began, loss on the validation split) after each evaluation"""
    events = [json.loads(line) for line in open(f"{work}/{name}-{rate}/metrics.jsonl")]
    begin, spent, points = next(e["time"] for e in events if e["event"] == "start"), 0.0, []
    for e in events:
        if e["event"] == "evaluation" and e["split"] == "validation":
            spent += e["seconds"]   # evaluating is no training
            points.append((e["time"] - begin - spent, e["loss"]))
    return points

def seconds_to(name, target):
    """The best learning rate's; infinite where none gets there."""
    return min((next((t for t, loss in curve(name, rate) if loss <= target), float("inf")) for rate in rates))

cases = [("local", "local SGD, rounds of 16"), ("reset", "local SGD, rounds of 32, state: reset"), ("diloco", "DiLoCo, rounds of 32, state: reset")]
targets = {seed: min(curve(f"sync-{seed}", rate)[-1][1] for rate in rates) for seed in range(1, seeds + 1)}
for name, title in cases:
    ours = [seconds_to(f"{name}-{seed}", targets[seed]) for seed in targets]
    sync = [seconds_to(f"sync-{seed}", targets[seed]) for seed in targets]
    ratios = sorted(a / b for a, b in zip(ours, sync))
    print(json.dumps({"bench": "local", "case": f"{title}: {statistics.median(ours):.1f} s to loss {statistics.median(targets.values()):.3f}",
                      "value": statistics.median(ratios), "p10": ratios[0], "p90": ratios[-1], "unit": "x", "better": "lower",
                      "peer": f"synchronous steps, {statistics.median(sync):.1f} s", "goal": 0.06 if name == "diloco" else 0.1}))
PY
