# SPDX-License-Identifier: Apache-2.0
# For tests of scripts/slurm that run in slurm_lab.sh: what they say of jobs. Source it; $1 is tugline, which $TUGLINE overrides.
# shellcheck shell=bash disable=SC2034  # scripts is for who sources it
set -euo pipefail
TUGLINE=${TUGLINE:-$1}
export TUGLINE OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1
scripts=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../../scripts/slurm")

fail() { printf '%s:%s: %s\n' "${BASH_SOURCE[-1]##*/}" "${BASH_LINENO[-2]}" "$*" >&2; squeue --all >&2; exit 1; }
expect() { "$@" || fail "not so: $*"; }   # expect COMMAND WORDS...
SECONDS=0
until_so() { until "$@"; do [ $SECONDS -lt 170 ] || fail "not within the time: $*"; sleep 0.1; done; }   # until_so COMMAND WORDS...

# is JOB KEY=VALUE...: as scontrol shows them.
is() {
  local said fact
  said=" $(scontrol show job --oneliner "$1") "
  for fact in "${@:2}"; do [[ $said = *" $fact "* ]] || return 1; done
}
# gone JOB: it is over, all of it.
gone() { [ -z "$(squeue --noheader --jobs "$1")" ]; }
# refuses WORDS COMMAND...: it says one line, with WORDS, and returns 2.
refuses() {
  local code=0
  "${@:2}" >said 2>&1 || code=$?
  [ "$code" = 2 ] && [ "$(wc -l <said)" = 1 ] && grep -q -- "$1" said
}
# events EVENT FILES...: how many such lines the files that are there have.
events() { cat "${@:2}" 2>/dev/null | grep -c "\"event\":\"$1\"" || true; }
