#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Synchronous SGD on one host: the sum of a bucket at 2 and 4 ranks, then a whole step on 2 ranks in several launches, since its time
# may differ from launch to launch. Prints JSON lines for scripts/bench.sh.
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
