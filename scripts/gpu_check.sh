#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Does the build with CUDA work on this machine's GPUs? scripts/gpu_check.sh [--json FILE]
# Holds the communicators to their promises, trains, compares with the CPU, moves checkpoints between the two, measures steps and
# memory, and prints one table. Exit code 0: all checks passed; 1: one did not, or there is no device; then each program says so. Minutes.
#   TUGLINE_PEER_PYTHON=/path   a python whose PyTorch has CUDA: steps are also those of DistributedDataParallel over NCCL
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
json=""
while [ $# -gt 0 ]; do
  case $1 in
    --json) [ $# -gt 1 ] || { echo "gpu_check.sh: --json needs a file" >&2; exit 2; }; json=$2; shift ;;
    *) echo "gpu_check.sh: '$1' is not an option; usage: scripts/gpu_check.sh [--json FILE]" >&2; exit 2 ;;
  esac
  shift
done
build=$root/build/cuda
tugline=$build/bin/tugline list_devices=$build/tests/list_devices conformance=$build/tests/real_device_test bench=$build/bench/bench_step
for program in "$tugline" "$list_devices" "$conformance" "$bench"; do
  [ -x "$program" ] && continue
  echo "gpu_check.sh: there is no $program: cmake --preset cuda -DTUGLINE_TESTS=ON &&" \
    "cmake --build --preset cuda --target tugline list_devices real_device_test bench_step" >&2
  exit 2
done
peer=${TUGLINE_PEER_PYTHON:-}
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
config=$root/configs/digits.yaml

ranks_of() { local ranks=$1; shift; mpirun -q --oversubscribe --bind-to none -n "$ranks" "$@"; }
on() { local ranks=$1; shift; ranks_of "$ranks" "$tugline" "$@"; }
ddp() { "$peer" "$root/scripts/bench/ddp.py" --cuda "$@"; }

# Without a device: every program used here starts, and says that there is none.
says_no_device() {   # NAME COMMAND...
  local name=$1 sentence
  shift
  "$@" >"$work/out" 2>&1
  if sentence=$(grep -m 1 -o "no device.*" "$work/out"); then
    printf '%-18s %s\n' "$name" "$sentence"
  else
    printf '%-18s FAILED: it does not say that there is no device\n' "$name"
    tail -n 20 "$work/out" | sed 's/^/    /'
  fi
}
if ! "$list_devices" >"$work/devices" 2>&1; then
  says_no_device list_devices "$list_devices"
  says_no_device "tugline train" on 1 train "$config" train.device=cuda train.steps=1 --run-dir "$work/first"
  says_no_device "tugline doctor" on 1 doctor --devices
  says_no_device "tugline verify" on 1 verify "$config" train.device=cuda
  says_no_device "tugline overfit" on 1 overfit "$config" train.device=cuda
  says_no_device real_device_test ranks_of 1 "$conformance"
  says_no_device bench_step ranks_of 1 "$bench" --device cuda mlp-64
  says_no_device "bench_step --memory" ranks_of 1 "$bench" --device cuda --memory mlp-64
  if [ -n "$peer" ]; then
    says_no_device ddp.py ddp 1 mlp-64
  else
    echo "ddp.py             skipped: TUGLINE_PEER_PYTHON names no python"
  fi
  exit 1
fi
cat "$work/devices"
devices=$(grep -c '^device ' "$work/devices")

# A row of the table: name, state, seconds, figures. A check may print "figure: TEXT".
rows=$work/rows failures=0
: >"$rows"
row() { printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" | tee -a "$rows" | tr '\t' ' ' >&2; }
check() {   # NAME COMMAND...: passes when the command does
  local name=$1 start=$SECONDS state=passed
  shift
  if ! "$@" >"$work/out" 2>&1; then
    state=FAILED failures=$((failures + 1))
    tail -n 20 "$work/out" | sed 's/^/    /' >&2
  fi
  row "$name" "$state" $((SECONDS - start)) "$(sed -n 's/^figure: //p' "$work/out" | paste -sd ';')"
}

# The two runs' last losses on the validation split, within PERCENT of each other.
close() {   # PERCENT RUN RUN
  python3 - "$@" <<'PY'
import json, sys
a, b = (json.load(open(f"{run}/result.json"))["validation"]["loss"] for run in sys.argv[2:4])
print(a, b)
sys.exit(abs(a - b) > float(sys.argv[1]) / 100 * abs(a))
PY
}
same_training() {   # RANKS PERCENT OVERRIDES...: on the CPU and on devices
  local ranks=$1 percent=$2
  shift 2
  rm -rf "$work/cpu" "$work/cuda"
  on "$ranks" train "$config" "$@" train.device=cpu train.precision=float32 --run-dir "$work/cpu" &&
    on "$ranks" train "$config" "$@" train.device=cuda --run-dir "$work/cuda" && close "$percent" "$work/cpu" "$work/cuda"
}
same_passes() {   # RANKS OVERRIDES...: on devices, recorded and told each time; they differ by sums in no fixed order alone
  local ranks=$1
  shift
  rm -rf "$work/told" "$work/recorded"
  on "$ranks" train "$config" train.epochs=2 "$@" train.device=cuda --run-dir "$work/told" &&
    on "$ranks" train "$config" train.epochs=2 "$@" train.device=cuda train.cuda_graphs=true --run-dir "$work/recorded" &&
    close 0.1 "$work/told" "$work/recorded"
}
same_updates() {   # RANKS: asynchronous updates of the CPU, made again on devices
  local pieces="parallel.async.pieces=$((2 * $1))"
  rm -rf "$work/cpu" "$work/cuda"
  on "$1" train "$config" train.epochs=4 parallel.strategy=async "$pieces" train.device=cpu --run-dir "$work/cpu" &&
    on "$1" train "$config" train.epochs=4 parallel.strategy=async "$pieces" train.device=cuda "parallel.async.replay=$work/cpu" --run-dir "$work/cuda" &&
    close 2 "$work/cpu" "$work/cuda"
}
moved() {   # FROM TO: half on one, half on the other, against all of it on the first
  rm -rf "$work/whole" "$work/moved"
  on 1 train "$config" train.epochs=4 "train.device=$1" --run-dir "$work/whole" || return 1
  on 1 train "$config" train.epochs=4 "train.device=$1" --until 2 --run-dir "$work/moved"
  [ $? = 75 ] && on 1 train "$config" train.epochs=4 "train.device=$2" --run-dir "$work/moved" && close 2 "$work/whole" "$work/moved"
}

promises() {   # RANKS
  ranks_of "$1" "$conformance" --gtest_brief=1 >"$work/promises" 2>&1
  local code=$?
  cat "$work/promises"
  [ $code = 0 ] && ! grep -q "^skipped" "$work/promises"
}
# The middle one of three in turn: Tugline's step, and DDP's over NCCL where there is one.
steps() {   # RANKS CASE [--graphs]
  local turn ours=() theirs=()
  for turn in 1 2 3; do
    ours+=("$(ranks_of "$1" "$bench" --ours --device cuda "${@:2}")") || return 1
    [ -z "$peer" ] || theirs+=("$(ddp "$1" "$2")") || return 1
    echo "turn $turn: ${ours[*]} against ${theirs[*]:-nothing}"
  done
  python3 - "${ours[*]}" "${theirs[*]:-}" <<'PY'
import statistics, sys
ours, theirs = (statistics.median(map(float, words.split())) if words else None for words in sys.argv[1:3])
print(f"figure: {ours:.3f} ms" + (f", DDP over NCCL {theirs:.3f} ms, ratio {ours / theirs:.2f}" if theirs else ""))
PY
}
# What is allocated before the first step is what arena, optimizer and buffers need, and little more.
memory() {   # RANKS CASE
  ranks_of "$1" "$bench" --device cuda --memory "$2" >"$work/memory" || return 1
  python3 - "$work/memory" <<'PY'
import json, sys
mib = 1 << 20
rows = [json.loads(line) for line in open(sys.argv[1]) if line.startswith("{")]
for r in rows:
    print(f"figure: rank {r['rank']}: expected {r['expected_bytes'] / mib:.1f} MiB, at rest {r['bytes_at_rest'] / mib:.1f}, "
          f"peak {r['peak_bytes'] / mib:.1f}")
sys.exit(not rows or any(r["bytes_at_rest"] > 1.02 * r["expected_bytes"] + mib for r in rows))
PY
}

# Copies to and from each device, and sums over NCCL.
links() { on "$devices" doctor --devices >"$work/links"; local code=$?; sed 's/^/figure: /' "$work/links"; return $code; }

check "links of $devices device(s)" links
for ranks in $(seq "$devices"); do
  check "communicators of $ranks device(s) keep their promises" promises "$ranks"
  check "gradient of $ranks rank(s) is that of one, over NCCL" \
    on "$ranks" verify "$config" train.device=cuda model.norm=group --tolerance 1e-4
  check "training on $ranks device(s) as on the CPU" same_training "$ranks" 2 train.epochs=4
done
if [ "$devices" -gt 1 ]; then
  check "the same through host memory and MPI" same_training "$devices" 2 train.epochs=4 parallel.backend=mpi
fi
for precision in bf16 fp16; do check "training in $precision" same_training 1 10 train.epochs=4 "train.precision=$precision"; done
for optimizer in adam adamw adagrad; do
  check "training with $optimizer" same_training 1 2 train.epochs=4 "optim.name=$optimizer" optim.lr=0.002
done
for optimizer in sgd adamw adagrad; do
  check "training with $optimizer, the host eight steps ahead" \
    same_training "$devices" 2 train.epochs=4 train.read_every=8 optim.clip_norm=1 "optim.name=$optimizer" optim.lr=0.002
done
check "recorded passes as told each time, dropout" same_passes "$devices" model.dropout=0.2
check "recorded passes, micro-batches" same_passes "$devices" train.micro_batch=8
check "recorded passes, the host eight steps ahead" same_passes "$devices" train.read_every=8
for precision in bf16 fp16; do check "recorded passes in $precision" same_passes 1 "train.precision=$precision" model.dropout=0.2; done
check "local rounds on $devices device(s)" same_training "$devices" 2 train.epochs=4 parallel.strategy=local parallel.local.steps=8
check "asynchronous ranks on $devices device(s), whole steps" same_training "$devices" 2 train.epochs=4 parallel.strategy=async parallel.async.staleness=0
check "asynchronous ranks on $devices device(s), pieces" same_updates "$devices"
check "a transformer" on 1 train "$root/configs/shakespeare.yaml" train.device=cuda train.steps=50 --run-dir "$work/text"
check "ten samples are learned by heart" on 1 overfit "$config" train.device=cuda
check "a checkpoint of a device goes on on the CPU" moved cuda cpu
check "a checkpoint of the CPU goes on on a device" moved cpu cuda
[ -n "$peer" ] || row "steps of DDP over NCCL" skipped 0 "TUGLINE_PEER_PYTHON names no python whose PyTorch has CUDA"
for ranks in $(seq "$devices"); do
  for case in mlp-64 mlp-256 convnet-64 convnet-256 transformer-16; do
    check "step of $case on $ranks device(s)" steps "$ranks" "$case"
    check "step of $case on $ranks device(s), recorded" steps "$ranks" "$case" --graphs
  done
done
for case in mlp-64-adamw transformer-16-adamw; do check "memory of $case on $devices device(s)" memory "$devices" "$case"; done

python3 - "$rows" "$json" "$work/devices" <<'PY'
import json, sys
rows = [dict(zip(("check", "state", "seconds", "figures"), line.rstrip("\n").split("\t"))) for line in open(sys.argv[1])]
print(f"\n{'check':<62} {'state':<8} {'s':>5}  figures")
for r in rows:
    r["seconds"] = int(r["seconds"])
    print(f"{r['check']:<62} {r['state']:<8} {r['seconds']:>5}  {r['figures']}")
if sys.argv[2]:
    json.dump({"devices": open(sys.argv[3]).read().splitlines(), "checks": rows}, open(sys.argv[2], "w"), indent=1)
PY
[ "$failures" = 0 ]
