#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Asynchronous steps: what a push and a pull cost, throughput with a slow rank, time to a target loss with a slow rank, and what staleness costs
# in accuracy; TUGLINE_MNIST=/folder with MNIST's test split as IDX files adds images. The target is what synchronous training reaches after 64 steps, while it still improves. Prints JSON lines for scripts/bench.sh. CPU quotas need root; TUGLINE_PEER_PYTHON=/path, a python that has PyTorch 2.11, adds
# PyTorch DDP as a peer.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tugline=$root/build/release/bin/tugline
export OMP_NUM_THREADS=1
quick=${1:-} seeds=3 rates="0.02 0.05"
[ "$quick" = --quick ] && seeds=1
bench() { mpirun -q --oversubscribe --bind-to "$1" -n "$2" "$root/build/release/bench/$3" "${@:4}" ${quick:+$quick}; }
bench core 2 bench_async
bench core 2 bench_balance work --speeds 1,0.5 | grep '"bench":"async"'
bench core 2 bench_balance quota --speeds 0.9,0.45 | grep '"bench":"async"'
bench none 4 bench_balance quota --speeds 0.5,0.5,0.5,0.25 | grep '"bench":"async"'

# Rank r runs in control group r: 0.9 and 0.45 of a core.
work=$(mktemp -d)
. "$root/tests/support/quota_groups.sh"
cleanup() {
  remove_quota_groups
  rm -rf "$work"
}
trap cleanup EXIT
quota_groups 0.9 0.45
cat >"$work/rank.sh" <<RANK
#!/usr/bin/env bash
groups=(${groups[*]})
echo \$\$ >"\${groups[\$OMPI_COMM_WORLD_RANK]}/cgroup.procs"
exec "\$@"
RANK
chmod +x "$work/rank.sh"
# train NAME STEPS KEYS...: of each learning rate a run
train() {
  local name=$1 steps=$2 lr
  shift 2
  for lr in $rates; do
    mpirun -q --bind-to core -n 2 "$work/rank.sh" "$tugline" train "$root/scripts/bench/until_loss.yaml" train.eval_every=8 "train.steps=$steps" "optim.lr=$lr" "$@" \
      --run-dir "$work/$name-$lr" >"$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
  done
}
for seed in $(seq "$seeds"); do
  train "sync-$seed" 64 "seed=$seed" parallel.balance.mode=off
  train "balanced-$seed" 112 "seed=$seed" parallel.balance.mode=adaptive
  train "async-$seed" 112 "seed=$seed" parallel.strategy=async
done
ddp=""
if [ -n "${TUGLINE_PEER_PYTHON:-}" ]; then
  for _ in $(seq "$seeds"); do
    ddp+=" $("$TUGLINE_PEER_PYTHON" "$root/scripts/bench/ddp.py" mlp-64 "${groups[0]}/cgroup.procs" "${groups[1]}/cgroup.procs")"
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

def crossing(points, target, what):
    """Where the curve comes down to the target, between two evaluations; infinite where it does not."""
    before = None
    for point in points:
        if point[2] <= target:
            part = (before[2] - target) / (before[2] - point[2]) if before and before[2] > point[2] else 1
            return before[what] + part * (point[what] - before[what]) if before else point[what]
        before = point
    return float("inf")

def first(name, target, what):
    """Seconds (0) or steps (1) of the best learning rate."""
    return min(crossing(curve(name, rate), target, what) for rate in rates)

def row(case, peer, ours, theirs, goal):
    ratios = sorted(a / b for a, b in zip(ours, theirs))
    print(json.dumps({"bench": "async", "case": f"{case}: {statistics.median(ours):.1f} s to the loss", "value": statistics.median(ratios),
                      "p10": ratios[0], "p90": ratios[-1], "unit": "x", "better": "lower", "peer": f"{peer}, {statistics.median(theirs):.1f} s", "goal": goal}))

targets = {seed: min(curve(f"sync-{seed}", rate)[-1][2] for rate in rates) for seed in range(1, seeds + 1)}
times = {name: [first(f"{name}-{seed}", targets[seed], 0) for seed in targets] for name in ("sync", "balanced", "async")}
row("quotas 0.9,0.45, async", "synchronous, equal shares", times["async"], times["sync"], 0.75)
row("quotas 0.9,0.45, async", "synchronous, balanced", times["async"], times["balanced"], None)
if ddp:
    steps = [first(f"sync-{seed}", targets[seed], 1) for seed in targets]
    row("quotas 0.9,0.45, async", "PyTorch DDP over gloo, its time per step", times["async"], [n * ms / 1e3 for n, ms in zip(steps, ddp)], 0.75)
PY

# What staleness costs: where each sample is seen ten times, and the model over-fits; where each is seen once; and on images. With two pieces per rank,
# which makes gradients as late as they are in synchronous training, and with one.
losses() {   # OVERRIDES OPTIONS...
  local overrides="parallel.balance.mode=off $1" bound pieces
  shift
  for bound in 1 2 4 8; do
    for pieces in 8 4; do
      "$root/scripts/paired_loss.sh" --ranks 4 --relative "$@" async "$overrides" \
        "$overrides parallel.strategy=async parallel.async.staleness=$bound parallel.async.pieces=$pieces" ${quick:+$quick}
    done
  done
}
losses ""
losses "data.samples=111000 data.split.validation=0.01 data.split.test=0.0901 train.epochs=1 train.eval_every=1"
if [ -n "${TUGLINE_MNIST:-}" ]; then
  for lr in 0.02 0.05; do losses "optim.lr=$lr data.path=$TUGLINE_MNIST data.split.test=0.5 train.epochs=3 log.tensorboard=false" --config "$root/configs/mnist.yaml"; done
fi
