#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sums and steps between hosts that tests/support/host_lab.sh makes of this machine (needs root, iproute2 and iperf3): how much of a link's
# rate, as iperf3 sees it in turn, a sum and an asynchronous update make use of; how much of the communication hides behind the computation; what
# bfloat16 saves.
# Prints JSON lines for scripts/bench.sh. With more hosts than cores, 1 Gbit/s may be more than the processor copies.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bench=$root/build/release/bench
export OMP_NUM_THREADS=1

# row CASE PEER GOAL BETTER A B: the ratios of two lists of numbers, pair by pair
row() {
  python3 - "$@" <<'PY'
import json, statistics, sys
case, peer, goal, better = sys.argv[1:5]
a, b = (list(map(float, words.split())) for words in sys.argv[5:7])
ratios = sorted(x / y for x, y in zip(a, b))
print(json.dumps({"bench": "hosts", "case": case, "value": statistics.median(ratios), "p10": ratios[0], "p90": ratios[-1], "unit": "x",
                  "better": better, "peer": peer, "goal": float(goal) if goal else None}))
PY
}

# What a link carries, in bit/s, from host1 to host0.
iperf_rate() {
  local server
  ip netns exec "$HOST_LAB-0" iperf3 -s -1 >/dev/null &
  server=$!
  until ip netns exec "$HOST_LAB-0" ss -Hltn 'sport = 5201' | grep -q .; do sleep 0.05; done
  ip netns exec "$HOST_LAB-1" iperf3 -c 10.77.0.1 -t 3 -J | python3 -c 'import json, sys; print(json.load(sys.stdin)["end"]["sum_received"]["bits_per_second"])'
  wait "$server"
}

# On host 0 of a lab: sums of MIB by $ranks ranks, in turn with iperf3.
rates() {
  local hosts=$1 rate=$2 mib=$3 pairs=$4 how wire ring=() backend=()
  local -a iperf=()
  for _ in $(seq "$pairs"); do
    iperf+=("$(iperf_rate)")
    for how in ring backend; do
      wire=$($HOST_LAB_MPIRUN "$bench/bench_exchange" "$how" "$mib" 3 |
        python3 -c "print(2 * ($hosts - 1) / $hosts * $mib * 2**20 * 8 / float(input()))")
      if [ "$how" = ring ]; then ring+=("$wire"); else backend+=("$wire"); fi
    done
  done
  row "$hosts hosts, $rate, $mib MiB: bits sent per second" "iperf3 on the same link" 0.95 higher "${ring[*]}" "${iperf[*]}"
  row "the same by MPI_Iallreduce" "iperf3 on the same link" "" higher "${backend[*]}" "${iperf[*]}"
}

# On host 0 of two hosts: both push a gradient of MIB to the common parameters of an asynchronous run and read those again, half of each from the
# other host: MIB in each direction.
async_rates() {
  local rate=$1 mib=$2 pairs=$3 async=() iperf=()
  for _ in $(seq "$pairs"); do
    iperf+=("$(iperf_rate)")
    async+=("$($HOST_LAB_MPIRUN "$bench/bench_async" --hosts "$mib" 3 | python3 -c "print($mib * 2**20 * 8 / float(input()))")")
  done
  row "2 hosts, $rate, asynchronous push and pull of $mib MiB: bits sent per second" "iperf3 on the same link" 0.9 higher "${async[*]}" "${iperf[*]}"
}

if [ "${1:-}" = --on-host0 ]; then shift; "$@"; exit; fi

pairs=5 quick=""
if [ "${1:-}" = --quick ]; then pairs=2 quick=--quick; fi
lab=$root/tests/support/host_lab.sh
"$lab" --rate 100mbit --driver 4x1 -- "$0" --on-host0 rates 4 100mbit 8 "$pairs"
"$lab" --rate 1gbit --driver 4x1 -- "$0" --on-host0 rates 4 1gbit 64 "$pairs"
"$lab" --rate 1gbit --driver 2x1 -- "$0" --on-host0 rates 2 1gbit 64 "$pairs"
"$lab" --rate 1gbit --driver 2x1 -- "$0" --on-host0 async_rates 1gbit 64 "$pairs"
"$lab" --rate "${TUGLINE_OVERLAP_RATE:-500mbit}" 2x1 -- "$bench/bench_step" --overlap $quick transformer-16
full=() half=()
for _ in $(seq "$pairs"); do
  full+=("$("$lab" --rate 100mbit 2x1 -- "$bench/bench_step" --ours --short mlp-64)")
  half+=("$("$lab" --rate 100mbit 2x1 -- "$bench/bench_step" --ours --short --bfloat16 mlp-64)")
done
row "step of mlp-64 on 2 hosts at 100mbit, bfloat16 on the wire" "float32 on the wire" 0.55 lower "${half[*]}" "${full[*]}"
