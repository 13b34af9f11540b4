#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_tree.sh ROOT: prints file:line: rule for every violation, and fails when there is one.
set -eu
LC_ALL=C
export LC_ALL
rules=$(cd "$(dirname "$0")" && pwd)/rules.awk
cd "$1"
folders=""
for folder in core parallel trainers tests examples cmake scripts .ci; do
  if [ -d "$folder" ]; then folders="$folders $folder"; fi
done
# shellcheck disable=SC2086  # folders are words
find CMakeLists.txt $folders -type f \( -name '*.hpp' -o -name '*.cpp' -o -name '*.awk' -o -name '*.cmake' -o -name '*.cmake.in' \
  -o -name CMakeLists.txt -o -name '*.sh' -o -name '*.sbatch' -o -name '*.py' -o -path .ci/run \) -print | sort | awk -f "$rules"
