#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compiles parallel/mpi against MPICH's mpi.h, so that nothing of Open MPI's own slips in. The headers are unpacked into build/deps: installing
# the package would make its mpicc and mpirun the machine's default.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
headers=$root/build/deps/mpich
if ! ls "$headers"/usr/include/*/mpich/mpi.h >/dev/null 2>&1; then
  mkdir -p "$headers"
  (cd "$headers" && apt-get download -qq libmpich-dev >/dev/null && dpkg -x libmpich-dev_*.deb . && rm -f libmpich-dev_*.deb)
fi
include=$(dirname "$(ls "$headers"/usr/include/*/mpich/mpi.h | head -n 1)")
links=$root/build/deps/mpich/include
mkdir -p "$links/tugline"
for part in core parallel; do ln -sfn "$root/$part" "$links/tugline/$part"; done
for source in "$root"/parallel/mpi/*.cpp; do
  "${CXX:-c++}" -std=c++20 -fsyntax-only -Wall -Wextra -DOMPI_SKIP_MPICXX -DMPICH_SKIP_MPICXX -I "$links" -isystem "$include" "$source"
  echo "ok $(basename "$source")"
done
