#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Searches against Optuna 5: the same tasks, the same first ten points, defaults on both sides, 100 trials; and successive halving against
# whole random trials. Raw results stay in build/bench-cache, the peer's by version, so that a second run only runs ours.
# --quick: fewer seeds, and the slow methods on fewer tasks.
# Makes build/deps/venv-optuna the first time, with PyTorch from build/deps/venv-torch where scripts/bench/ddp.sh has made that;
# TUGLINE_PEER_PYTHON=/path takes a python that has Optuna 5, SciPy and PyTorch. BENCH_SEARCH=/path takes another build of ours,
# which has bench_halving beside it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
seeds=30 gp_seeds=30 gp_everywhere=10 gp_tasks="branin hartmann6 rosenbrock4 levy8" auto_tasks=all
if [ "${1:-}" = --quick ]; then
  seeds=8 gp_seeds=4 gp_everywhere=0 gp_tasks="branin hartmann6"
  auto_tasks=branin,hartmann6,levy8,jenatton,hpolib-protein_structure,nasbench201-cifar100,nasbench201-imagenet
fi
trials=100
cores=$(env -u OMP_NUM_THREADS nproc)
cache=$root/build/bench-cache tables=$root/build/search-tables curves=$root/build/curve-tables
venv=$root/build/deps/venv-optuna
search=${BENCH_SEARCH:-$root/build/release/bench/bench_search}
if [ -z "${TUGLINE_PEER_PYTHON:-}" ] && ! "$venv/bin/python" -c 'import optuna, scipy, torch' 2>/dev/null; then
  echo "search: installing optuna 5 into build/deps/venv-optuna" >&2
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet 'optuna==5.*' scipy >&2
  for packages in "$root"/build/deps/venv-torch/lib/python3*/site-packages; do
    [ ! -d "$packages" ] || echo "$packages" >"$(echo "$venv"/lib/python3*/site-packages)/torch.pth"
  done
  "$venv/bin/python" -c 'import torch' 2>/dev/null || "$venv/bin/pip" install --quiet torch==2.11.0 >&2
fi
python=${TUGLINE_PEER_PYTHON:-$venv/bin/python}
export OMP_NUM_THREADS=1
[ -d "$tables" ] || "$python" "$root/scripts/bench/search_tables.py" "$tables" >&2
[ -d "$curves" ] || "$python" "$root/scripts/bench/curve_tables.py" "$root/configs/data" "$curves" >&2

ours=$cache/tugline-$seeds
mkdir -p "$ours"
run() { "$search" --method "$1" --workers "$2" --tasks "$3" --seeds "$4" --trials "$trials" --tables "$tables" >"$ours/$1-$2.jsonl"; }
export -f run
export search trials tables ours
xargs -P "$cores" -L 1 bash -c 'run "$@"' run <<CASES   # METHOD WORKERS TASKS SEEDS
auto 1 $auto_tasks $gp_seeds
auto 8 $auto_tasks $gp_seeds
gp 1 $(echo $gp_tasks | tr ' ' ,) $gp_seeds
tpe 1 all $seeds
tpe 8 all $seeds
CASES
while read -r method count; do "$search" --cost "$method" --trials "$count"; done >"$ours/cost.jsonl" <<'CASES'
random 100
sobol 100
tpe 100
tpe 1000
gp 100
CASES

cd "$root"   # where --serve looks for build/search-tables
mapfile -t tasks < <("$python" -c 'import json, sys
for task in dict.fromkeys(json.loads(line)["task"] for line in open(sys.argv[1])): print(task)' "$ours/tpe-1.jsonl")
peer() {   # SAMPLER SEEDS TASKS...: as many tasks at once as there are cores
  printf '%s\n' "${@:3}" | xargs -P "$cores" -I{} "$python" "$root/scripts/bench/search_peer.py" "$search" "$cache" "$1" "$trials" 0 "$2" {}
}
peer tpe "$seeds" "${tasks[@]}"
peer tpe-8 "$seeds" "${tasks[@]}"
peer random "$seeds" "${tasks[@]}"
peer gp "$gp_seeds" $gp_tasks
peer gp "$gp_everywhere" "${tasks[@]}"   # most of the time, when it is the first
# What a suggestion costs, in turn: nothing of these runs is kept for later ones.
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
: >"$ours/gp-cost.jsonl"
for seed in 0 1 2; do
  "$search" --method gp --tasks hartmann6 --first-seed "$seed" --seeds 1 --trials "$trials" >>"$ours/gp-cost.jsonl"
  "$python" "$root/scripts/bench/search_peer.py" "$search" "$fresh" gp "$trials" "$seed" 1 hartmann6
done
for run in "$fresh"/*/gp/hartmann6/*.json; do cat "$run"; echo; done >"$ours/gp-cost-peer.jsonl"
for table in "$curves"/*.curves; do
  halving=$ours/halving-$(basename "$table" .curves)
  "$(dirname "$search")/bench_halving" "$table" "$seeds" >"$halving.jsonl"
  "$python" "$root/scripts/bench/halving_peer.py" "$table" "$halving.jsonl" >"$halving-peer.jsonl"
done
"$python" "$root/scripts/bench/search_rows.py" "$ours" "$cache" "$trials"
