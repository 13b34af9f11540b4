#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Several hosts on one machine: network namespaces with links to one switch, host names (host0, host1, ...) and a /dev/shm of
# their own, gone when the program ends. Files and environment are the caller's on all of them. Needs root; where the machine
# forbids it, one line says why and the exit status is 125, which ctest counts as skipped. Otherwise it is PROGRAM's.
#   host_lab.sh [--rate 100mbit] [--delay 1ms] LAYOUT -- PROGRAM ARGS...             mpirun PROGRAM over all hosts
#   host_lab.sh [--rate 100mbit] [--delay 1ms] --driver LAYOUT -- PROGRAM ARGS...    PROGRAM itself, once, on host0
# LAYOUT is HOSTSxRANKS (2x2), or the ranks of each host (3,1). A host sends at --rate and receives at --rate, both at once;
# --delay is the way from host to host. A driver may run, in any order and as often as it likes,
#   $HOST_LAB_MPIRUN PROGRAM ARGS...                 over all hosts; with -n 2 before PROGRAM, the first two ranks only
#   ip netns exec $HOST_LAB-1 PROGRAM ARGS...        on host1, say iperf3 -s -1; iperf3 -c host1 then finds it from host0
# shellcheck disable=SC2016,SC2086,SC2317  # text for another shell, lists of words, a function for traps
set -euo pipefail

usage() { printf 'host_lab: %s\n' "$*" >&2; exit 2; }
skip() { printf 'host_lab: skipped: %s\n' "$*"; exit 125; }
needed() { local said; said=$("$@" 2>&1) || skip "$* failed: ${said//$'\n'/; }"; }

# on_host N COMMAND...: becomes that command on host N of the lab.
on_host() {
  local host=$1
  shift
  exec ip netns exec "$HOST_LAB-$host" unshare --uts sh -c 'hostname "$0" && mount -t tmpfs shm /dev/shm &&
    mount --bind "/run/$HOST_LAB/hosts" /etc/hosts && exec "$@"' "host$host" "$@"
}

# mpirun starts its daemons with: agent --agent hostN words of a shell command. On a busy machine it warns that setpgid failed:
# the agent ran before mpirun got to it, which harms nothing.
if [ "${1-}" = --agent ]; then
  host=${2#host}
  shift 2
  on_host "$host" sh -c "$*"
fi

rate="" delay="" driver=""
while [[ ${1-} = -* ]]; do
  if [[ "$1 ${2-}" =~ ^--rate\ [1-9][0-9]{0,3}[kmg]bit$ ]]; then rate=$2; shift 2
  elif [[ "$1 ${2-}" =~ ^--delay\ [0-9]{1,6}[um]s$ ]]; then delay=$2; shift 2
  elif [ "$1" = --driver ]; then driver=yes; shift
  else usage "options are --rate with kbit, mbit or gbit (100mbit), --delay with us or ms (1ms), --driver; not '$1 ${2-}'"; fi
done
ranks=()
if [[ ${1-} =~ ^([1-9][0-9]?)x([1-9][0-9]{0,2})$ ]]; then
  for ((host = 0; host < BASH_REMATCH[1]; ++host)); do ranks+=("${BASH_REMATCH[2]}"); done
elif [[ ${1-} =~ ^[1-9][0-9]{0,2}(,[1-9][0-9]{0,2}){0,98}$ ]]; then
  IFS=, read -ra ranks <<<"$1"
else
  usage "a layout is HOSTSxRANKS as in 2x2, or the ranks of each host as in 3,1, not '${1-}'"
fi
if [ "${2-}" != -- ] || [ $# -lt 3 ]; then usage "after the layout come -- and a program"; fi
shift 2
command -v "$1" >/dev/null || usage "there is no program $1"   # mpirun -q would not say so

[ "$(id -u)" = 0 ] || skip "needs root"
for tool in ip tc unshare setpriv mpirun; do command -v "$tool" >/dev/null || skip "no $tool here"; done

# remove_lab NAME: ends what runs on its hosts (a process may start others while it is being killed), then takes it away.
remove_lab() {
  local space pids
  for space in /run/netns/"$1"-*; do
    space=${space##*/}
    for _ in {1..500}; do
      pids=$(ip netns pids "$space" 2>/dev/null || true)
      [ -n "$pids" ] || break
      kill -KILL $pids 2>/dev/null || true
      sleep 0.01
    done
  done
  for space in /run/netns/"$1"-*; do ip netns delete "${space##*/}" 2>/dev/null || true; done
  rm -rf "/run/${1:?}"
}

for left in /run/tug[0-9]*; do   # those whose owner was killed
  owner=${left#/run/tug}
  if [ -d "$left" ] && { [ "$owner" = $$ ] || ! grep -qs host_lab "/proc/$owner/cmdline"; }; then remove_lab "tug$owner"; fi
done

export HOST_LAB=tug$$
job=""
stop() {   # stop STATUS: mpirun takes two seconds to end its ranks
  trap "" HUP INT TERM
  kill -TERM $job 2>/dev/null || true
  for _ in {1..50}; do kill -0 $job 2>/dev/null || break; sleep 0.1; done
  exit "$1"
}
trap 'trap "" HUP INT TERM; remove_lab "$HOST_LAB" || true' EXIT
trap 'stop 129' HUP
trap 'stop 130' INT
trap 'stop 143' TERM
mkdir "/run/$HOST_LAB"
ln -s "$(realpath "${BASH_SOURCE[0]}")" "/run/$HOST_LAB/agent"

# shape SPACE DEVICE [DELAY]: what leaves the device. The bucket holds two packets and 0.25 ms; on fast links, one packet as TCP
# hands it over (64 KiB), which the kernel would otherwise cut up for a third of a core. The queue holds 50 ms.
shape() {
  local bits burst where=(root)
  if [ -n "$rate" ]; then
    bits=$(sed 's/kbit/000/; s/mbit/000000/; s/gbit/000000000/' <<<"$rate")
    burst=$((bits / 32000 + 3028))
    if [ "$bits" -ge 400000000 ] && [ "$burst" -lt 70000 ]; then burst=70000; fi
    needed tc -n "$1" qdisc add dev "$2" root handle 1: tbf rate "$rate" burst "$burst" latency 50ms
    where=(parent 1:1)
  fi
  [[ ${3-} =~ ^0*([um]s)?$ ]] || needed tc -n "$1" qdisc add dev "$2" "${where[@]}" netem delay "$3" limit 100000
}

switch=$HOST_LAB-switch
needed ip netns add "$switch"
needed ip -n "$switch" link add name lan type bridge
needed ip -n "$switch" link set lan up
echo "127.0.0.1 localhost" >"/run/$HOST_LAB/hosts"
hosts="" total=0
for host in "${!ranks[@]}"; do
  space=$HOST_LAB-$host
  needed ip netns add "$space"
  needed ip -n "$switch" link add name "port$host" type veth peer name eth0 netns "$space"
  needed ip -n "$switch" link set "port$host" master lan up
  needed ip -n "$space" address add "10.77.0.$((host + 1))/24" dev eth0
  needed ip -n "$space" link set eth0 up
  needed ip -n "$space" link set lo up
  shape "$space" eth0 "$delay"
  shape "$switch" "port$host"
  echo "10.77.0.$((host + 1)) host$host" >>"/run/$HOST_LAB/hosts"
  hosts+=,host$host:${ranks[host]} total=$((total + ranks[host]))
done
needed on_host 0 true

export HOST_LAB_MPIRUN="mpirun -q --oversubscribe --bind-to none -x OMP_NUM_THREADS -H ${hosts:1}"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_plm=rsh OMPI_MCA_plm_rsh_agent="/run/$HOST_LAB/agent --agent" OMPI_MCA_orte_tmpdir_base=/run/$HOST_LAB
export OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader,tcp OMPI_MCA_btl_tcp_if_include=eth0 OMPI_MCA_oob_tcp_if_include=eth0
# Each host takes all cores for its own, so its ranks would spin where another host's have work to do.
if [ "$total" -gt "$(nproc)" ]; then export OMPI_MCA_mpi_yield_when_idle=1; fi

[ -n "$driver" ] || set -- $HOST_LAB_MPIRUN "$@"
# In the background, so that this script hears signals; yet with stdin, open to Ctrl-C, and not outliving this script.
on_host 0 setpriv --pdeathsig KILL env --default-signal=INT,QUIT "$@" <&0 &
job=$!
wait "$job"
