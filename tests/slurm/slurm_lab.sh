#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A Slurm of one machine: munged, slurmctld and slurmd on one node with eight processors to give away, whatever there really are.
# Processes, network, host name, /run and /dev/shm are the lab's own: nothing is left of it however it ends, and a Slurm that is here
# already does not notice. Needs root; where Slurm is not installed or the machine forbids it, one line says why and the exit status is
# 125, which ctest counts as skipped. Otherwise it is PROGRAM's, which runs in an empty folder; after a failure the logs are printed.
#   slurm_lab.sh PROGRAM ARGS...
# shellcheck disable=SC2034  # the daemons' numbers are read by name
set -euo pipefail
skip() { printf 'slurm_lab: skipped: %s\n' "$*"; exit 125; }

own=(unshare --pid --net --mount --uts --ipc --fork --kill-child --mount-proc)
if [ "${1-}" != --inside ]; then
  [ $# -gt 0 ] || { echo "usage: slurm_lab.sh PROGRAM ARGS..." >&2; exit 2; }
  PATH=$PATH:/usr/sbin:/sbin
  [ "$(id -u)" = 0 ] || skip "needs root"
  for tool in munged slurmctld slurmd sbatch scontrol unshare ip; do command -v $tool >/dev/null || skip "no $tool here"; done
  said=$("${own[@]}" true 2>&1) || skip "${said//$'\n'/; }"
  exec "${own[@]}" "$(realpath "${BASH_SOURCE[0]}")" --inside "$@"
fi
shift

lab=/run/lab
# Neither Slurm nor Open MPI is content with 127.0.0.1 alone.
set_up() {
  ip link set lo up && ip link add eth0 type veth peer name eth1 && ip link set eth0 up && ip link set eth1 up &&
    ip address add 10.77.0.1/24 dev eth0 && hostname node && mount -t tmpfs -o mode=755 run /run && mount -t tmpfs shm /dev/shm &&
    mkdir -p $lab/{spool,state,log,tmp,work} && printf '127.0.0.1 localhost\n10.77.0.1 node\n' >$lab/hosts &&
    mount --bind $lab/hosts /etc/hosts
}
said=$(set_up 2>&1) || skip "${said//$'\n'/; }"
chmod 1777 $lab/tmp

# cred_expire is also how long a job that was requeued waits for its next start.
cat >$lab/slurm.conf <<CONF
ClusterName=lab
SlurmctldHost=node
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$lab/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=30
StateSaveLocation=$lab/state
SlurmdSpoolDir=$lab/spool
SlurmctldPidFile=$lab/slurmctld.pid
SlurmdPidFile=$lab/slurmd.pid
NodeName=node CPUs=8
PartitionName=all Nodes=node Default=YES MaxTime=INFINITE
CONF
export SLURM_CONF=$lab/slurm.conf TMPDIR=$lab/tmp

head -c 1024 /dev/urandom >$lab/munge.key
chmod 400 $lab/munge.key
munged --foreground --socket=$lab/munge.socket --key-file=$lab/munge.key --pid-file=$lab/munged.pid --seed-file=$lab/munged.seed \
  --log-file=$lab/log/munged >$lab/log/munged.out 2>&1 &
munged=$!
slurmctld -D >$lab/log/slurmctld 2>&1 &
slurmctld=$!
slurmd -D >$lab/log/slurmd 2>&1 &
slurmd=$!
SECONDS=0
until [ "$(sinfo --noheader --format %T 2>/dev/null)" = idle ]; do
  for daemon in munged slurmctld slurmd; do
    kill -0 "${!daemon}" 2>/dev/null || skip "$daemon does not run here: $(tail -qn 1 $lab/log/$daemon*)"
  done
  [ $SECONDS -lt 60 ] || { echo "slurm_lab: after 60 s the node is not idle" >&2; tail -n 20 $lab/log/*; exit 1; }
  sleep 0.1
done

cd $lab/work
status=0
"$@" || status=$?
[ $status = 0 ] || find $lab/log . -maxdepth 1 -type f \( -path "$lab/*" -o -name "*.out" \) -exec tail -n 30 {} +
exit $status
