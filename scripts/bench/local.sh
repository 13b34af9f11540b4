#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Local rounds over a slow link: seconds of training until a loss on held-out samples, against synchronous steps, on 2 hosts at 100 Mbit/s that
# tests/support/host_lab.sh makes of this machine (needs root). The target is the lowest loss that synchronous training reaches; each side has the
# same learning rates to choose from, and the same seeds. DiLoCo's outer momentum is 0.5: the run has eight rounds, and 0.9 would look back over ten.
# Synchronous steps are the same on any link: they are made on a fast one, and count with the time that a step takes on the slow one. TUGLINE_PEER_PYTHON=/path, a python that has PyTorch 2.11, adds DDP over gloo on the same link: its time per
# step, times the synchronous steps to the loss. Prints JSON lines for scripts/bench.sh.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tugline=$root/build/release/bin/tugline
export OMP_NUM_THREADS=1
seeds=3 rates="0.02 0.05"
[ "${1:-}" = --quick ] && seeds=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
slow="--rate 100mbit"
# train LINK NAME STEPS KEYS...: of each learning rate a run
train() {
  local link=$1 name=$2 steps=$3 lr
  shift 3
  for lr in $rates; do
    "$root/tests/support/host_lab.sh" $link 2x1 -- "$tugline" train "$root/scripts/bench/until_loss.yaml" "train.steps=$steps" "optim.lr=$lr" "$@" \
      --run-dir "$work/$name-$lr" >"$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
  done
}
for seed in $(seq "$seeds"); do
  train "" "sync-$seed" 384 "seed=$seed"
  rates=0.02 train "$slow" "step-$seed" 32 "seed=$seed" train.eval_every=1000
  train "$slow" "local-$seed" 512 "seed=$seed" parallel.strategy=local parallel.local.steps=16
  train "$slow" "rounds-$seed" 512 "seed=$seed" parallel.strategy=local parallel.local.steps=32 parallel.wire=bfloat16
  train "$slow" "diloco-$seed" 512 "seed=$seed" parallel.strategy=local parallel.local.steps=64 parallel.wire=bfloat16 \
    parallel.local.outer_lr=0.7 parallel.local.outer_momentum=0.5
done
ddp=""
if [ -n "${TUGLINE_PEER_PYTHON:-}" ]; then
  for _ in $(seq "$seeds"); do
    ddp+=" $(MASTER_ADDR=10.77.0.1 GLOO_SOCKET_IFNAME=eth0 "$root/tests/support/host_lab.sh" --rate 100mbit 2x1 -- "$TUGLINE_PEER_PYTHON" "$root/scripts/bench/ddp.py" mlp-64 | tail -1)"
  done
fi
python3 - "$work" "$seeds" "$ddp" $rates <<'PY'
import json, statistics, sys
work, seeds, ddp, rates = sys.argv[1], int(sys.argv[2]), [float(word) for word in sys.argv[3].split()], sys.argv[4:]

def curve(name, rate):
    """(seconds since training began, step, loss on the validation split) after each evaluation"""
    events = [json.loads(line) for line in open(f"{work}/{name}-{rate}/metrics.jsonl")]
    begin, spent, points = next(e["time"] for e in events if e["event"] == "start"), 0.0, []
    for e in events:
        if e["event"] == "evaluation" and e["split"] == "validation":
            spent += e["seconds"]   # evaluating is no training
            points.append((e["time"] - begin - spent, e["step"], e["loss"]))
    return points

def first(name, target, what):
    """Seconds (0) or steps (1) of the best learning rate; infinite where none gets there."""
    return min((next((point[what] for point in curve(name, rate) if point[2] <= target), float("inf")) for rate in rates))

def row(case, peer, ours, theirs, goal):
    ratios = sorted(a / b for a, b in zip(ours, theirs))
    print(json.dumps({"bench": "local", "case": f"{case}: {statistics.median(ours):.1f} s to loss {statistics.median(targets.values()):.3f}",
                      "value": statistics.median(ratios), "p10": ratios[0], "p90": ratios[-1], "unit": "x", "better": "lower",
                      "peer": f"{peer}, {statistics.median(theirs):.1f} s", "goal": goal}))

def step_seconds(seed):
    times = [e["time"] for e in map(json.loads, open(f"{work}/step-{seed}-0.02/metrics.jsonl")) if e["event"] == "step"]
    return statistics.median(b - a for a, b in zip(times, times[1:]))

cases = [("local", "local SGD, rounds of 16"), ("rounds", "local SGD, rounds of 32, bfloat16"), ("diloco", "DiLoCo, rounds of 64, bfloat16, outer 0.7 and 0.5")]
targets = {seed: min(point[2] for rate in rates for point in curve(f"sync-{seed}", rate)) for seed in range(1, seeds + 1)}
steps = {seed: first(f"sync-{seed}", targets[seed], 1) for seed in targets}
sync = [steps[seed] * step_seconds(seed) for seed in targets]
gloo = [steps[seed] * ms / 1e3 for seed, ms in zip(targets, ddp)]
for name, title in cases:
    ours = [first(f"{name}-{seed}", targets[seed], 0) for seed in targets]
    goal = 0.06 if name == "diloco" else 0.1
    row(title, "synchronous steps", ours, sync, None if gloo else goal)
    if gloo:
        row(title, "PyTorch DDP over gloo, its time per step", ours, gloo, goal)
PY
