#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Tugline's step on 2 ranks against PyTorch 2.11 DDP over gloo, the same model, batch and optimizer, launched in turn.
# Makes a virtual environment with PyTorch in build/deps the first time (gigabytes): runs only when named. TUGLINE_PEER_PYTHON=/path takes
# a python that has PyTorch.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
pairs=5
[ "${1:-}" = --quick ] && pairs=2
venv=$root/build/deps/venv-torch
if [ -z "${TUGLINE_PEER_PYTHON:-}" ] && { [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import torch' 2>/dev/null; }; then
  echo "ddp: installing torch 2.11 into build/deps/venv-torch" >&2
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet torch==2.11.0 numpy >&2
fi
python=${TUGLINE_PEER_PYTHON:-$venv/bin/python}
export OMP_NUM_THREADS=1

# row CASE PEER GOAL OURS THEIRS: the ratios of two lists of numbers, pair by pair
row() {
  python3 - "$@" <<'PY'
import json, statistics, sys
case, peer, goal = sys.argv[1:4]
ours, theirs = (list(map(float, words.split())) for words in sys.argv[4:6])
ratios = sorted(a / b for a, b in zip(ours, theirs))
print(json.dumps({"bench": "ddp", "case": f"{case}, 2 ranks, {statistics.median(ours):.2f} against {statistics.median(theirs):.2f}",
                  "value": statistics.median(ratios), "p10": ratios[0], "p90": ratios[-1], "unit": "x", "better": "lower", "peer": peer,
                  "goal": float(goal)}), flush=True)
PY
}

# PyTorch's workers sometimes abort while they end ("terminate called without an active exception"): then once more.
peer() {
  local tries
  for tries in 1 2 3; do "$python" "$root/scripts/bench/ddp.py" "$@" </dev/null && return; done
  return 1
}

while read -r case goal; do
  ours=() theirs=()
  for _ in $(seq "$pairs"); do
    ours+=("$(mpirun -q --bind-to core -n 2 "$root/build/release/bench/bench_step" --ours "$case" </dev/null)")
    theirs+=("$(peer "$case")")
  done
  row "$case per rank, ms" "PyTorch 2.11 DDP over gloo" "$goal" "${ours[*]}" "${theirs[*]}"
done <<'CASES'
mlp-64 0.55
mlp-256 0.72
convnet-64 0.76
convnet-256 0.92
transformer-16 0.86
CASES
for bytes in 1048576 4194304 26214400; do
  ours=() theirs=()
  for _ in $(seq "$pairs"); do
    ours+=("$(mpirun -q --bind-to core -n 2 "$root/build/release/bench/bench_all_reduce" --ours "$bytes")")
    theirs+=("$(peer all-reduce "$bytes")")
  done
  row "all-reduce of $bytes bytes, us" "gloo 2.11" 0.25 "${ours[*]}" "${theirs[*]}"
done
