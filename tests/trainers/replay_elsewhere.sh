#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# replay_elsewhere.sh TUGLINE: an asynchronous run of four ranks of one host, made again from its record by two hosts of two ranks and by hosts of three
# and one, ends with the same checkpoint. Exit status 125: see host_lab.sh.
set -euo pipefail
tugline=$1 root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$root/tests/support/host_lab.sh" 2x1 -- true
run=(train "$root/configs/digits.yaml" train.epochs=3 parallel.strategy=async parallel.threads=1 parallel.bucket_mib=0.01 optim.name=adamw optim.lr=0.002 log.tensorboard=false)
said() { local code=$?; cat "$work/out"; exit "$code"; }
mpirun -q --oversubscribe --bind-to none -n 4 "$tugline" "${run[@]}" --run-dir "$work/once" >"$work/out" 2>&1 || said
python3 - "$work/once/updates.jsonl" <<'PY'
import json, sys
pieces = [line for line in map(json.loads, open(sys.argv[1])) if "piece" in line]
def flat(versions): return versions if isinstance(versions, list) else [versions]
late = sum(max(flat(p["applied"])) > min(flat(p["read"])) + 1 for p in pieces)
sys.exit(None if late > len(pieces) / 4 else f"only {late} of {len(pieces)} gradients were late: nothing is shown")
PY
last=$(basename "$(find "$work/once/checkpoints" -name '*.h5' | sort | tail -n 1)")
for layout in 2x2 3,1; do
  "$root/tests/support/host_lab.sh" "$layout" -- "$tugline" "${run[@]}" --replay "$work/once" --run-dir "$work/$layout" >"$work/out" 2>&1 || said
  "$tugline" checkpoint diff "$work/once/checkpoints/$last" "$work/$layout/checkpoints/$last" >"$work/out" 2>&1 || said
done
