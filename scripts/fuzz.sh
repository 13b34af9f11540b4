#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# scripts/fuzz.sh [SECONDS [TARGET...]]: each parser under libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer for SECONDS (20), as
# many at a time as there are cores. Fails when an input crashes one, leaks, takes more than a second or more than 1 GiB; such inputs
# go to build/fuzz/crashes, new ones that reach new code to build/fuzz/corpus. A corpus that has grown is made small again by
#   build/fuzz/tests/fuzz_csv -merge=1 SMALL build/fuzz/corpus/csv tests/fuzz/corpus/csv
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
seconds=${1:-20}
shift $(($# > 0))
targets=("$@")
[ $# -gt 0 ] || targets=(config override sweep csv idx checkpoint safetensors)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! clang++ -fsanitize=fuzzer,address,undefined -x c++ - -o "$work/probe" 2>/dev/null \
    <<<'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }'; then
  echo "skipped: this machine has no clang++ with libFuzzer"
  exit 0
fi
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz

# The limits. An absurd size is refused by an exception, as it is without AddressSanitizer.
limits=(-timeout=1 -rss_limit_mb=1024)
export ASAN_OPTIONS=allocator_may_return_null=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 TMPDIR=$work

# fuzz TARGET: one line about it.
fuzz() {
  local target=$1 program=build/fuzz/tests/fuzz_$1 log=$work/$1.log crashes=build/fuzz/crashes/$1 own=build/fuzz/corpus/$1 found="" more=()
  local end=$((SECONDS + seconds)) stalls=0
  mkdir -p "$own" "$crashes"
  [ ! -f "tests/fuzz/dictionaries/$target.dict" ] || more=(-dict="tests/fuzz/dictionaries/$target.dict")
  while [ "$SECONDS" -lt "$end" ]; do
    "$program" "${limits[@]}" "${more[@]}" -max_len=4096 -max_total_time=$((end - SECONDS)) -print_final_stats=1 \
      -artifact_prefix="$crashes/" "$own" "tests/fuzz/corpus/$target" >>"$log" 2>&1 && break
    found=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    # On a machine that stands still for a second all inputs seem slow: go on.
    if [[ $found == */timeout-* ]] && "$program" "${limits[@]}" "$found" >/dev/null 2>&1; then
      rm "$found"
      found="" stalls=$((stalls + 1))
      continue
    fi
    found=${found:-no input was written}
    break
  done
  local runs coverage corpus result=ok
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | awk '{ sum += $1 } END { print sum }')
  coverage=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
  corpus=$(sed -n 's/.* corp: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
  case $found in
    "") [ "$stalls" = 0 ] || result="ok, though the machine stood still $stalls times" ;;
    *) result="FAILED: $found" ;;
  esac
  printf '%-12s runs %9s  cov %6s  corpus %5s  %s\n' "$target" "${runs:--}" "${coverage:--}" "${corpus:--}" "$result"
  [[ $result != FAILED* ]] || { tail -n 40 "$log" >&2; return 1; }
}

failed=0
running=0
for target in "${targets[@]}"; do
  if [ "$running" -ge "$(nproc)" ]; then
    wait -n || failed=1
    running=$((running - 1))
  fi
  fuzz "$target" &
  running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
  wait -n || failed=1
  running=$((running - 1))
done
exit "$failed"
