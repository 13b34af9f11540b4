#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds, trains configs/digits.yaml on 2 ranks, and shows where to look next.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
scripts/setup.sh
cmake --preset release >/dev/null
cmake --build --preset release --target tugline

# Open MPI refuses to run as root unless it is told twice; containers usually are root.
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
run=runs/quickstart-$(date +%Y%m%d-%H%M%S)
# The two options let 2 ranks run on a machine with one core too.
train=(mpirun --oversubscribe --bind-to none -n 2 build/release/bin/tugline train configs/digits.yaml --run-dir "$run")
echo "+ ${train[*]}"
"${train[@]}"
cat <<TEXT

Look next at
  $run/result.json                                             how it ended
  $run/metrics.jsonl                                           every step (docs/metrics.md)
  build/release/bin/tugline checkpoint ls $run
  build/release/bin/tugline config schema                      every key a config can have
  mpirun -n 2 build/release/bin/tugline overfit configs/digits.yaml
  mpirun -n 2 build/release/bin/tugline train configs/digits.yaml optim.lr=0.1
TEXT
if [ "$(id -u)" = 0 ]; then
  echo "As root, first: export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"
fi
