#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Does the build with CUDA work on this machine's GPUs? scripts/gpu_check.sh [--json FILE]
# Trains, compares with the CPU, moves checkpoints between the two, and prints a table. Exit code 0: all checks passed; 1: one did not, or
# there is no device. Needs build/cuda (docs/install.md); minutes.
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
tugline=$root/build/cuda/bin/tugline
[ -x "$tugline" ] || { echo "gpu_check.sh: there is no $tugline: cmake --preset cuda && cmake --build --preset cuda" >&2; exit 2; }
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
config=$root/configs/digits.yaml

# One step on one rank says whether there is a device, and why not.
if ! "$tugline" train "$config" train.device=cuda train.steps=1 --run-dir "$work/first" >"$work/out" 2>&1; then
  grep -m 1 "no device" "$work/out" || cat "$work/out"
  exit 1
fi
devices=$(nvidia-smi --list-gpus | wc -l)
echo "$devices device(s): $(nvidia-smi --query-gpu=name --format=csv,noheader | sort | uniq -c | tr -s ' ' | paste -sd ';')"

rows=$work/rows failures=0
check() {   # NAME COMMAND...: passes when the command does
  local name=$1 start=$SECONDS state=passed
  shift
  if ! "$@" >"$work/out" 2>&1; then
    state=FAILED failures=$((failures + 1))
    tail -n 20 "$work/out" | sed 's/^/    /'
  fi
  printf '%-58s %s  %d s\n' "$name" "$state" $((SECONDS - start))
  printf '{"check": "%s", "passed": %s, "seconds": %d}\n' "$name" "$([ $state = passed ] && echo true || echo false)" $((SECONDS - start)) >>"$rows"
}
on() { local ranks=$1; shift; mpirun -q --oversubscribe --bind-to none -n "$ranks" "$tugline" "$@"; }

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
moved() {   # FROM TO: half on one, half on the other, against all of it on the first
  rm -rf "$work/whole" "$work/moved"
  on 1 train "$config" train.epochs=4 "train.device=$1" --run-dir "$work/whole" || return 1
  on 1 train "$config" train.epochs=4 "train.device=$1" --until 2 --run-dir "$work/moved"
  [ $? = 75 ] && on 1 train "$config" train.epochs=4 "train.device=$2" --run-dir "$work/moved" && close 2 "$work/whole" "$work/moved"
}

for ranks in $(seq "$devices"); do
  check "gradient of $ranks rank(s) is that of one, over NCCL" on "$ranks" verify "$config" train.device=cuda model.norm=group --tolerance 1e-4
  check "training on $ranks device(s) as on the CPU" same_training "$ranks" 2 train.epochs=4
done
if [ "$devices" -gt 1 ]; then
  check "the same through host memory and MPI" same_training "$devices" 2 train.epochs=4 parallel.backend=mpi
fi
for precision in bf16 fp16; do check "training in $precision" same_training 1 10 train.epochs=4 "train.precision=$precision"; done
for optimizer in adam adamw adagrad; do check "training with $optimizer" same_training 1 2 train.epochs=4 "optim.name=$optimizer" optim.lr=0.002; done
check "a transformer" on 1 train "$root/configs/shakespeare.yaml" train.device=cuda train.steps=50 --run-dir "$work/text"
check "ten samples are learned by heart" on 1 overfit "$config" train.device=cuda
check "a checkpoint of a device goes on on the CPU" moved cuda cpu
check "a checkpoint of the CPU goes on on a device" moved cpu cuda
[ -z "$json" ] || { printf '['; paste -sd , "$rows"; printf ']\n'; } >"$json"
[ "$failures" = 0 ]
