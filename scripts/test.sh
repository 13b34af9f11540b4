#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds, runs every test. Arguments go to the last ctest, e.g. scripts/test.sh -R arena
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
scripts/setup.sh

echo "== what needs no LibTorch, under AddressSanitizer and UndefinedBehaviorSanitizer"
cmake --preset asan-notorch -DTUGLINE_TESTS=ON >/dev/null
cmake --build --preset asan-notorch
ctest --preset asan-notorch --no-tests=error -j 2

echo "== the parsers under libFuzzer, 20 seconds each"
scripts/fuzz.sh 20

echo "== parallel/mpi against MPICH's headers"
scripts/check_mpich.sh

echo "== release"
cmake --preset release -DTUGLINE_TESTS=ON -DTUGLINE_EXAMPLES=ON
cmake --build --preset release
ctest --preset release --no-tests=error -j 2 "$@"

echo "== cuda: what is linked and tested in another way with LibTorch's CUDA half; no GPU is needed"
if command -v nvcc "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" >/dev/null; then
  scripts/setup.sh --cuda
  cmake --preset cuda -DTUGLINE_TESTS=ON
  cmake --build --preset cuda --target cuda_tests   # its objects are those of the release build, out of ccache
  ctest --preset cuda --no-tests=error -L cuda
else
  echo "skipped: this machine has no CUDA toolkit (no nvcc)"
fi
