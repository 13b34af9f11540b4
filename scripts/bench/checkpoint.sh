#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a checkpoint costs the training thread, and how long it takes until it is durable. Prints JSON lines for scripts/bench.sh.
# TUGLINE_BENCH_FOLDER: where to write, on the file system that is meant (default: build/release).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
OMP_NUM_THREADS=1 "$root/build/release/bench/bench_checkpoint" "$@" "${TUGLINE_BENCH_FOLDER:-$root/build/release}"
