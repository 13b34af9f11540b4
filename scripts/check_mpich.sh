#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compiles parallel/mpi against MPICH's mpi.h, so that nothing of Open MPI's own slips in. The headers are unpacked into
# build/deps: installing the package would make its mpicc and mpirun the machine's default.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
headers=$root/build/deps/mpich
mpi_h() { find "$headers" -path '*/mpich/mpi.h' -print -quit; }

mkdir -p "$headers/include/tugline"
if [ -z "$(mpi_h)" ]; then
  if ! apt-cache show libmpich-dev >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then apt-get update -qq; fi
  cd "$headers"
  apt-get download -qq -o APT::Sandbox::User=root libmpich-dev >/dev/null ||
    { echo "check_mpich.sh: apt cannot fetch the headers of libmpich-dev; try apt-get update" >&2; exit 1; }
  dpkg -x libmpich-dev_*.deb .
  rm -f libmpich-dev_*.deb
fi
mpich=$(dirname "$(mpi_h)")
for part in core parallel; do ln -sfn "$root/$part" "$headers/include/tugline/$part"; done
for source in "$root"/parallel/mpi/*.cpp; do
  "${CXX:-c++}" -std=c++20 -fsyntax-only -Wall -Wextra -DOMPI_SKIP_MPICXX -DMPICH_SKIP_MPICXX \
    -I "$headers/include" -isystem "$mpich" "$source"
  echo "ok $(basename "$source")"
done
