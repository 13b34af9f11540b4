#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds, runs every test. Arguments go to the last ctest, e.g. scripts/test.sh -R arena
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
scripts/setup.sh

echo "== what needs no LibTorch, under AddressSanitizer and UndefinedBehaviorSanitizer"
cmake --preset asan-notorch >/dev/null
cmake --build --preset asan-notorch
ctest --preset asan-notorch --output-on-failure -j 2 | tail -n 15

echo "== parallel/mpi against MPICH's headers"
scripts/check_mpich.sh

echo "== release"
cmake --preset release
cmake --build --preset release
ctest --preset release --output-on-failure -j 2 "$@"
