#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs benchmarks and prints a table: scripts/bench.sh [NAME...] [--quick] [--json FILE]
# A benchmark is scripts/bench/NAME.sh; it prints one JSON object per line with bench, case, value, p10, p90, unit, better, peer, goal.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
names=() quick="" json=""
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=--quick ;;
    --json) [ $# -gt 1 ] || { echo "bench.sh: --json needs a file" >&2; exit 2; }; json=$2; shift ;;
    -*) echo "bench.sh: '$1' is not an option; usage: scripts/bench.sh [NAME...] [--quick] [--json FILE]" >&2; exit 2 ;;
    *) names+=("$1") ;;
  esac
  shift
done
# Those that fetch a peer (gigabytes of PyTorch) run only when they are named.
[ ${#names[@]} -gt 0 ] || names=(step)
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
for name in "${names[@]}"; do
  [ -x "scripts/bench/$name.sh" ] || { echo "bench.sh: no benchmark '$name'; there are $(cd scripts/bench && ls -- *.sh | sed 's/\.sh$//' | tr '\n' ' ')" >&2; exit 2; }
done
cmake --preset release -DTUGLINE_TESTS=ON >/dev/null
cmake --build --preset release --target benchmarks >/dev/null
rows=$(mktemp)
trap 'rm -f "$rows"' EXIT
echo "load before: $(cut -d' ' -f1-3 /proc/loadavg), $(env -u OMP_NUM_THREADS nproc) cores"
for name in "${names[@]}"; do "scripts/bench/$name.sh" $quick >>"$rows"; done
python3 - "$rows" "$json" <<'PY'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1]) if line.startswith("{")]
print(f"{'benchmark':<10} {'case':<52} {'median':>8} {'p10':>7} {'p90':>7} {'goal':>6}  against")
for r in rows:
    goal = "" if r["goal"] is None else f"{r['goal']:.3g}"
    print(f"{r['bench']:<10} {r['case']:<52} {r['value']:>7.3f}{r['unit']} {r['p10']:>7.3f} {r['p90']:>7.3f} {goal:>6}  {r['peer']}")
if sys.argv[2]:
    json.dump(rows, open(sys.argv[2], "w"), indent=1)
PY
echo "load after: $(cut -d' ' -f1-3 /proc/loadavg)"
