#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Tugline's step on 2 ranks against PyTorch 2.11 DDP over gloo, the same model, batch and optimizer, launched in turn.
# Makes a virtual environment with PyTorch in build/deps the first time (gigabytes): runs only when named.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
pairs=5
[ "${1:-}" = --quick ] && pairs=2
venv=$root/build/deps/venv-torch
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
  echo "ddp: installing torch 2.11 into build/deps/venv-torch" >&2
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet torch==2.11.0 numpy >&2
fi
export OMP_NUM_THREADS=1
for case in mlp-64 mlp-256 convnet-64 convnet-256; do
  ours=() theirs=()
  for _ in $(seq "$pairs"); do
    ours+=("$(mpirun -q --bind-to core -n 2 "$root/build/release/bench/bench_step" --ours "$case")")
    theirs+=("$("$venv/bin/python" "$root/scripts/bench/ddp.py" "$case")")
  done
  python3 - "$case" "${ours[*]}" "${theirs[*]}" <<'PY'
import json, statistics, sys
case, ours, theirs = sys.argv[1], *[list(map(float, a.split())) for a in sys.argv[2:4]]
ratios = sorted(a / b for a, b in zip(ours, theirs))
goals = {"mlp-64": 0.55, "mlp-256": 0.72, "convnet-64": 0.76, "convnet-256": 0.92}
print(json.dumps({"bench": "ddp", "case": f"{case} per rank, 2 ranks, {statistics.median(ours):.2f} ms", "value": statistics.median(ratios),
                  "p10": ratios[0], "p90": ratios[-1], "unit": "x", "better": "lower", "peer": "PyTorch 2.11 DDP over gloo, 2 ranks",
                  "goal": goals[case]}))
PY
done
