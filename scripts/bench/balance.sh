#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Throughput with slow ranks against the sum of what the ranks do alone, and what balancing costs. Prints JSON lines for scripts/bench.sh.
# CPU quotas add up to 1.8 cores at most, so that ranks do not slow each other down; they need root. TUGLINE_PEER_PYTHON=/path, a python that has
# PyTorch 2.11, adds DDP over gloo under the same quotas.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export OMP_NUM_THREADS=1
bench() { mpirun -q --oversubscribe --bind-to "$1" -n "$2" "$root/build/release/bench/bench_balance" "${@:3}"; }
. "$root/tests/support/quota_groups.sh"
trap remove_quota_groups EXIT
# ddp SPEEDS: PyTorch's share of what its ranks do alone
ddp() {
  [ -n "${TUGLINE_PEER_PYTHON:-}" ] || return 0
  local speeds=$1 ratio value p10 p90
  quota_groups ${speeds//,/ }
  ratio=$("$TUGLINE_PEER_PYTHON" "$root/scripts/bench/ddp.py" --own mlp-256 "${groups[@]/%//cgroup.procs}")
  read -r value p10 p90 <<<"$ratio"
  remove_quota_groups
  printf '{"bench": "balance", "case": "samples/s, quotas %s, PyTorch DDP over gloo", "value": %s, "p10": %s, "p90": %s, "unit": "x", "better": "higher", "peer": "sum of its ranks'"'"' own speeds", "goal": null}\n' \
    "$speeds" "$value" "$p10" "$p90"
}
bench core 2 work --speeds 1,0.5 "$@"
bench core 2 quota --speeds 0.9,0.45 "$@"
ddp 0.9,0.45
bench none 4 quota --speeds 0.5,0.5,0.5,0.25 "$@"
ddp 0.5,0.5,0.5,0.25
bench none 4 quota --speeds 0.7,0.56,0.35,0.175 "$@"
bench core 2 change "$@"
bench core 2 equal "$@"
"$root/scripts/paired_loss.sh" balance "parallel.balance.mode=off" "parallel.balance.mode=fixed parallel.balance.weights=[1,0.5]" "$@"
