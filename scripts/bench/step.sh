#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Step time on one rank and on two against a bare LibTorch loop. Prints JSON lines for scripts/bench.sh.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export OMP_NUM_THREADS=1
for ranks in 1 2; do
  mpirun -q --bind-to core -n "$ranks" "$root/build/release/bench/bench_step" "$@"
done
