#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The test of check_tree.sh: a small tree that is in order passes; with one violation planted, that one is reported where it stands.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
spdx='// SPDX-License-Identifier: Apache-2.0'
failures=0

# put FILE LINE...: writes FILE, SPDX line first.
put() {
  file=$root/$1
  shift
  mkdir -p "${file%/*}"
  printf '%s\n' "$spdx" "$@" >"$file"
}
repeated() { yes '// more' | head -n "$1"; }

in_order() {
  rm -rf "${root:?}"/*
  put CMakeLists.txt 'add_subdirectory(core)'
  put core/CMakeLists.txt 'tugline_library(core SOURCES error.cpp io/file.cpp)'
  put core/error.hpp '#pragma once' '#include <string>'
  put core/error.cpp '#include "tugline/core/error.hpp"'
  put core/io/hdf5_handle.hpp '#include <hdf5.h>'
  put core/io/file.cpp '#include "tugline/core/io/hdf5_handle.hpp"'
  put parallel/CMakeLists.txt 'tugline_library(comm SOURCES' '  mpi/backend.cpp)   # one folder down'
  put parallel/work.hpp '#include <ATen/core/Tensor.h>' '#include "tugline/core/error.hpp"'
  put parallel/mpi/backend.cpp '#include <mpi.h>'
  put trainers/CMakeLists.txt 'tugline_library(trainer SOURCES trainer.cpp)'
  put trainers/trainer.cpp '#include <torch/torch.h>' '#include "tugline/parallel/work.hpp"'
  put tests/core/io/CMakeLists.txt 'add_unit_test(io_test SOURCES io_test.cpp ../error_test.cpp)'
  put tests/core/io/io_test.cpp '#include <hdf5.h>'
  put tests/core/error_test.cpp '#include "tugline/tests/core/names.hpp"'
  put tests/package/consumer/core/error.hpp '#include "core/names.hpp"'
}

# expect "FILE:LINE: words of the rule", and nothing else.
expect() {
  found=$(sh "$here/check_tree.sh" "$root") && status=0 || status=$?
  case $found in
    "$1"*) [ "$status" = 1 ] && [ "$(printf '%s\n' "$found" | wc -l)" = 1 ] && { in_order; return; } ;;
  esac
  printf 'expected one violation %s\nfound (exit status %s):\n%s\n\n' "$1" "$status" "$found"
  failures=$((failures + 1))
  in_order
}

in_order
if ! found=$(sh "$here/check_tree.sh" "$root"); then
  printf 'a tree in order was refused:\n%s\n' "$found"
  exit 1
fi

put core/error.hpp '' '#include "tugline/parallel/work.hpp"'
expect 'core/error.hpp:3: core includes neither parallel nor trainers'
put core/error.cpp '#  include  "tugline/trainers/trainer.hpp"'
expect 'core/error.cpp:2: core includes neither parallel nor trainers'
put parallel/work.hpp '#include "tugline/trainers/trainer.hpp"'
expect 'parallel/work.hpp:2: parallel does not include trainers'
put trainers/trainer.cpp '#include "tugline/tests/support/names.hpp"'
expect 'trainers/trainer.cpp:2: only tests include tests'

put parallel/mpi/backend.hpp '#include <mpi.h>'
expect 'parallel/mpi/backend.hpp:2: mpi.h'
put trainers/trainer.cpp '#include <mpi.h>'
expect 'trainers/trainer.cpp:2: mpi.h'
put parallel/mpi/backend.cpp '#include <nccl.h>'
expect 'parallel/mpi/backend.cpp:2: nccl.h'
put core/error.cpp '#include <hdf5.h>'
expect 'core/error.cpp:2: hdf5.h'
put core/error.cpp '#include "tugline/core/io/hdf5_handle.hpp"'
expect 'core/error.cpp:2: HDF5 handles'
put parallel/work.hpp '#include <torch/torch.h>'
expect 'parallel/work.hpp:2: headers include narrow'

put core/error.cpp '#include "error.hpp"'
expect 'core/error.cpp:2: includes of our own files read'
put core/error.cpp '#include <tugline/core/error.hpp>'
expect 'core/error.cpp:2: includes of our own files stand in quotes'

put core/error.hpp "$(repeated 250)"
expect 'core/error.hpp:251: longer than 250'
put core/error.cpp "$(repeated 500)"
expect 'core/error.cpp:501: longer than 500'
put CMakeLists.txt "$(repeated 120)"
expect 'CMakeLists.txt:121: longer than 120'

echo '#pragma once' >"$root/core/error.hpp"
expect 'core/error.hpp:1: no SPDX'
: >"$root/core/error.hpp"
expect 'core/error.hpp:1: no SPDX'
put core/forgotten.cpp ''
expect 'core/forgotten.cpp:1: no CMakeLists.txt names this file'
put core/CMakeLists.txt 'tugline_library(core SOURCES error.cpp)  # io/file.cpp'
expect 'core/io/file.cpp:1: no CMakeLists.txt names this file'
put core/CMakeLists.txt 'tugline_library(core SOURCES error.cpp io/file.cpp)' 'file(GLOB more *.txt)'
expect 'core/CMakeLists.txt:3: sources are listed, never globbed'

rm -rf "${root:?}"/*
put CMakeLists.txt ''
expect '.:0: found no files'

[ "$failures" = 0 ]
