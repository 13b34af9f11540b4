#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Synchronous SGD on one host: the sum of a bucket at 2 and 4 ranks, then a whole step on 2 ranks in several launches, since its time
# may differ from launch to launch; and what it gains to keep freed memory. Prints JSON lines for scripts/bench.sh.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export OMP_NUM_THREADS=1
launches=5
[ "${1:-}" = --quick ] && launches=2
mpirun -q --bind-to core -n 2 "$root/build/release/bench/bench_all_reduce" "$@"
mpirun -q --oversubscribe --bind-to none -n 4 "$root/build/release/bench/bench_all_reduce" "$@"
for _ in $(seq "$launches"); do
  mpirun -q --bind-to core -n 2 "$root/build/release/bench/bench_step" "$@"
done

# Freed memory that is kept (core/freed_memory.hpp) against glibc's own way, which any setting of malloc in the environment leaves it.
pairs=5
[ "${1:-}" = --quick ] && pairs=2
for case in convnet-64 convnet-256 transformer-16; do
  kept=() given_back=()
  for _ in $(seq "$pairs"); do
    kept+=("$(mpirun -q --bind-to core -n 2 "$root/build/release/bench/bench_step" --ours "$case")")
    given_back+=("$(GLIBC_TUNABLES=glibc.malloc.check=0 mpirun -q --bind-to core -n 2 "$root/build/release/bench/bench_step" --ours "$case")")
  done
  python3 - "$case" "${kept[*]}" "${given_back[*]}" <<'PY'
import json, statistics, sys
kept, given_back = (list(map(float, words.split())) for words in sys.argv[2:4])
ratios = sorted(a / b for a, b in zip(kept, given_back))
print(json.dumps({"bench": "step", "case": f"{sys.argv[1]} per rank, 2 ranks, {statistics.median(kept):.2f} ms, freed memory kept", "value": statistics.median(ratios),
                  "p10": ratios[0], "p90": ratios[-1], "unit": "x", "better": "lower", "peer": "freed memory given back, as glibc does", "goal": None}), flush=True)
PY
done
