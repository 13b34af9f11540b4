#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a sweep costs beside its trials. The same trainings of about a second, two at a time: by `sweep run` and by xargs, in turn. Then how
# busy sixteen workers are kept. Prints JSON lines for scripts/bench.sh. TUGLINE_BENCH_FOLDER: where to write (default: build/release).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tugline=$root/build/release/bin/tugline
folder=${TUGLINE_BENCH_FOLDER:-$root/build/release}/bench-trials
trials=40 rounds=5 sleepers=400
if [ "${1:-}" = --quick ]; then trials=16 rounds=3 sleepers=100; fi
rm -rf "$folder" && mkdir -p "$folder"
trap 'rm -rf "$folder"' EXIT
cat >"$folder/base.yaml" <<'YAML'
data: {name: digits}
model: {name: mlp, hidden: [256, 256]}
train: {epochs: 20}
parallel: {threads: 1}
log: {tensorboard: false}
YAML
cat >"$folder/s.yaml" <<YAML
sweep: {name: s, dir: $folder/s, base: base.yaml}
space: {seed: {int: [0, $((trials - 1))]}}
search: {method: grid}
budget: {trials: $trials}
YAML
seconds() { local start=$EPOCHREALTIME; "$@" >"$folder/said" 2>&1 || { tail -n 5 "$folder/said" >&2; exit 1; }; echo "$start $EPOCHREALTIME" | awk '{print $2 - $1}'; }
by_sweep() { "$tugline" sweep run "$folder/s.yaml" -n 2; }
by_xargs() { seq 0 $((trials - 1)) | xargs -P 2 -I{} "$tugline" train "$folder/base.yaml" seed={} --run-dir "$folder/x/{}" --progress plain; }
sweeps=() plain=()
for _ in $(seq "$rounds"); do
  rm -rf "$folder/s" "$folder/x"
  one=$(seconds by_xargs)
  plain+=("$one")
  one=$(seconds by_sweep)
  sweeps+=("$one")
done
python3 - "$trials" "${sweeps[*]}" "${plain[*]}" <<'PY'
import json, statistics, sys
trials, sweeps, plain = int(sys.argv[1]), *(list(map(float, words.split())) for words in sys.argv[2:4])
ratios = sorted(a / b for a, b in zip(sweeps, plain))
print(json.dumps({"bench": "sweep", "case": f"{trials} trainings of {2 * statistics.median(plain) / trials:.1f} s, two at a time", "value": statistics.median(ratios),
                  "p10": ratios[0], "p90": ratios[-1], "unit": "x", "better": "lower", "peer": "xargs -P 2", "goal": 1.05}), flush=True)
PY
"$root/build/release/bench/bench_sweep" "$folder" "$sleepers"
