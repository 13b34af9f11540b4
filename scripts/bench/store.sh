#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The trial store alone: durable no-op trials per second with 8 and 64 processes. Prints JSON lines for scripts/bench.sh.
# TUGLINE_BENCH_FOLDER: where to write, on the file system that is meant (default: build/release). TUGLINE_PEER_PYTHON=/path of a python
# that has Optuna 5: its journal storage is run in turn with ours.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=${TUGLINE_BENCH_FOLDER:-$root/build/release}
"$root/build/release/bench/bench_store" "$folder" "$@"

python=${TUGLINE_PEER_PYTHON:-}
if [ -z "$python" ] || ! "$python" -c 'import optuna' 2>/dev/null; then
  echo "store: no python with optuna in TUGLINE_PEER_PYTHON: ours alone" >&2
  exit 0
fi
rm -rf "$folder/bench-store"
trap 'rm -rf "$folder/bench-store"' EXIT
rounds=3
[ "${1:-}" = --quick ] && rounds=1
for processes in 8 32; do
  ours=() theirs=()
  for round in $(seq "$rounds"); do
    ours+=("$("$root/build/release/bench/bench_store" --rate "$folder/bench-store/$processes-$round" "$processes" 4)")
    theirs+=("$("$python" "$root/scripts/bench/store.py" "$folder/bench-optuna" "$processes" 4)")
  done
  python3 - "$processes" "${ours[*]}" "${theirs[*]}" <<'PY'
import json, statistics, sys
ours, theirs = (list(map(float, words.split())) for words in sys.argv[2:4])
ratios = sorted(a / b for a, b in zip(ours, theirs))
print(json.dumps({"bench": "store", "case": f"{sys.argv[1]} processes, {statistics.median(ours):.0f}/s against {statistics.median(theirs):.0f}/s",
                  "value": statistics.median(ratios), "p10": ratios[0], "p90": ratios[-1], "unit": "x", "better": "higher",
                  "peer": "Optuna 5 journal storage", "goal": None}), flush=True)
PY
done
