#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Faults by the hundred, and what becomes of runs: scripts/faults.sh [--quick] [--seed N] [--only KINDS]
# KINDS: some of disk,kill,stop,durable,hang,numbers,spikes; all without it.
# Prints seed, versions, and for each kind of fault how often it ended well; exit code 1 when one did not.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
quick="" seed=$RANDOM only=disk,kill,stop,durable,hang,numbers,spikes
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=--quick ;;
    --seed) seed=$2; shift ;;
    --only) only=$2; shift ;;
    *) echo "faults.sh: '$1' is not an option; usage: scripts/faults.sh [--quick] [--seed N] [--only KINDS]" >&2; exit 2 ;;
  esac
  shift
done
RANDOM=$seed
build=${TUGLINE_BUILD:-$root/build/release}
tugline=$build/bin/tugline
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
export OMP_NUM_THREADS=1
mpirun="mpirun -q --oversubscribe --bind-to none"
work=$(mktemp -d) failures=0
trap '[ "$BASHPID" != $$ ] || rm -rf "$work"' EXIT   # a child that is ended before it becomes another program would do it too
cd "$work" || exit 1
export TMPDIR=$work   # what others leave meanwhile is not counted

echo "faults: seed $seed, $("$tugline" --version), $(mpirun --version | head -1)"

report() {   # WHAT GOOD ALL [MORE]
  printf '%-58s %6d of %d   %s\n' "$1" "$2" "$3" "${4:-}"
  [ "$2" = "$3" ] || failures=$((failures + 1))
}
count() { printf '%-58s %6d of %d   %s\n' "$1" "$2" "$3" "${4:-}"; }   # the same, of what need not be all
among() { if [ -n "$quick" ]; then echo "$1"; else echo "$2"; fi; }   # QUICK FULL
below() { echo $(((RANDOM * 32768 + RANDOM) % $1)); }
pause() { sleep "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))"; }   # milliseconds
now() { date +%s.%N; }
# Seconds in the file $1, one a line: how many, the middle one, the 99th of a hundred, the longest.
seconds_of() { sort -n "$1" | awk '{ v[NR] = $1 } END { if (NR) printf "%d times: median %.2f s, p99 %.2f s, longest %.2f s\n", NR, v[int((NR + 1) / 2)], v[int((NR * 99 + 99) / 100)], v[NR] }'; }
# Time of the first step that an attempt after $2 made, in the run $1.
next_step() {
  awk -v after="$2" -F '[:,]' '$2 > after && $4 == "\"start\"" { again = 1 } again && $4 == "\"step\"" { print $2; exit }' "$1/metrics.jsonl"
}
rank_of() { pgrep -f "^$tugline train .*--run-dir $1( |\$)" | shuf -n 1 --random-source=<(yes $RANDOM); }

cat >long.yaml <<'YAML'
data: {name: digits, batch: 50}
model: {name: mlp, hidden: [64], dropout: 0.1}
optim: {lr: 0.01, momentum: 0.9}
train: {epochs: 100000, steps: 8000, eval_every: 50}
checkpoint: {every_steps: 200}
log: {every_steps: 100, tensorboard: false}
YAML
last=checkpoints/step-00008000.h5

# Exit code 0 and the bits of the run that nothing happened to.
ended_well() { [ "$2" = 0 ] && "$tugline" checkpoint diff "$1/$last" "straight/$last" >/dev/null; }

# Shared memory that no process has.
segments() {
  local segment count=0
  while read -r segment; do grep -qsF "$segment" /proc/[0-9]*/maps || count=$((count + 1)); done < <(find /dev/shm -maxdepth 1 \( -name 'vader_segment*' -o -name 'sm_segment*' \))
  echo "$count"
}
sessions() { find "$TMPDIR" -maxdepth 1 -name "tugline-session-*" | wc -l; }

$mpirun -n 2 "$tugline" train long.yaml --run-dir straight >/dev/null 2>&1 || { echo "faults.sh: the run without faults fails" >&2; exit 1; }

kill_ranks() {
  local count=$1 good=0 i run kills=0 code before_segments before_sessions rank killed
  before_segments=$(segments) before_sessions=$(sessions)
  for i in $(seq "$count"); do
    run=killed-$i
    "$tugline" launch -n 2 --mpirun "$mpirun" -- train long.yaml --run-dir "$run" >"$run.out" 2>&1 &
    local launch=$!
    pause "$(below 3000)"
    rank=$(rank_of "$run")
    killed=$(now)
    if [ -n "$rank" ] && kill -KILL "$rank" 2>/dev/null; then kills=$((kills + 1)); else killed=""; fi
    wait $launch
    code=$?
    if [ -n "$killed" ]; then next_step "$run" "$killed" | awk -v killed="$killed" '{ print $1 - killed }' >>restarts; fi
    if ended_well "$run" $code; then good=$((good + 1)); rm -rf "$run" "$run.out"; else echo "  $run: exit code $code"; tail -5 "$run.out"; fi
  done
  report "SIGKILL of a rank: ends with the bits of the unkilled run" $good "$count" "$kills were hit"
  report "  stray processes, segments, session folders" $(($(pgrep -fc "^$tugline train .*--run-dir killed-") + $(segments) - before_segments + $(sessions) - before_sessions)) 0
  echo "  death to the next step: $(seconds_of restarts)"
}

stop_runs() {   # SIGNAL: TERM to launch, or USR1 to mpirun
  local how=$1 count=$2 good=0 stopped=0 i run code child
  i=1
  while [ "$i" -le "$count" ]; do
    run=stopped-$how-$i
    if [ "$how" = TERM ]; then
      "$tugline" launch -n 2 --mpirun "$mpirun" -- train long.yaml --run-dir "$run" >"$run.out" 2>&1 &
    else
      $mpirun -n 2 "$tugline" train long.yaml --run-dir "$run" >"$run.out" 2>&1 &
    fi
    child=$!
    # A bare mpirun passes a signal on only once it has started the ranks.
    if [ "$how" = USR1 ]; then until [ -e "$run/metrics.jsonl" ] || ! kill -0 $child 2>/dev/null; do sleep 0.01; done; fi
    pause "$(below 1500)"
    kill -"$how" $child 2>/dev/null
    wait $child
    code=$?
    # The loader needs half a second for LibTorch; what comes before main runs kills, as everywhere: nothing was started.
    if [ $code = 143 ] && [ ! -e "$run" ]; then continue; fi
    i=$((i + 1))
    [ $code = 75 ] && stopped=$((stopped + 1))
    if [ $code = 75 ]; then $mpirun -n 2 "$tugline" train long.yaml --run-dir "$run" >>"$run.out" 2>&1; code=$?; fi
    if ended_well "$run" $code; then good=$((good + 1)); rm -rf "$run" "$run.out"; else echo "  $run: exit code $code"; tail -5 "$run.out"; fi
  done
  report "$how: stops with 75 or is done, and goes on with the same bits" $good "$count" "$stopped were stopped"
}

# From the signal until a checkpoint of 100 MB has its name, which it gets when it is on the disk.
durable() {
  local count=$1 i run signal newest good=0
  for i in $(seq "$count"); do
    run=large-$i
    "$tugline" launch -n 2 --mpirun "$mpirun" -- train long.yaml model.hidden=[3400,3400] checkpoint.every_steps=0 --run-dir "$run" >"$run.out" 2>&1 &
    until [ -e "$run/metrics.jsonl" ] && grep -q '"event":"step"' "$run/metrics.jsonl" || ! kill -0 $! 2>/dev/null; do sleep 0.01; done
    pause "$(below 500)"
    signal=$(now)
    kill -TERM $!
    wait $!
    [ $? = 75 ] && good=$((good + 1)) || tail -5 "$run.out"
    newest=$(find "$run/checkpoints" -name 'step-*.h5' -size +90M | sort | tail -1)
    [ -n "$newest" ] && stat -c %.Z "$newest" | awk -v signal="$signal" '{ print $1 - signal }' >>saves
    rm -rf "$run"
  done
  report "TERM with a state of 100 MB: exit code 75" $good "$count"
  echo "  signal to durable: $(seconds_of saves)"
}

hangs() {
  local count=$1 found=0 i kind rank code step
  local kinds=(freeze hang loader)
  for i in $(seq "$count"); do
    kind=${kinds[$((i % 3))]} rank=$((i / 3 % 2)) step=$((1 + $(below 5000)))
    timeout 60 $mpirun -n 2 "$tugline" train long.yaml --run-dir "hang-$i" parallel.hang_seconds=2 \
      --inject "$kind:rank=$rank,step=$step" >hang.out 2>&1
    code=$?
    if [ $code = 76 ] && grep -Eq "hang: rank $rank (has been computing in step $step|has been waiting for data in step $step|does not answer)" hang.out; then found=$((found + 1)); else echo "  $kind of rank $rank at step $step: exit code $code"; cat hang.out; fi
    rm -rf "hang-$i"
  done
  report "hangs: found, and the right rank is named" $found "$count"
}

numbers() {
  local count=$1 nan=0 flip=0 i rank step code
  for i in $(seq "$count"); do
    rank=$((i % 2)) step=$((1 + $(below 300)))
    $mpirun -n 2 "$tugline" train long.yaml train.steps=400 train.nonfinite=retry --run-dir "nan-$i" --inject "nan:rank=$rank,step=$step" >nan.out 2>&1
    code=$?
    [ -e short ] || $mpirun -n 2 "$tugline" train long.yaml train.steps=400 --run-dir short >/dev/null 2>&1
    if [ $code = 0 ] && "$tugline" checkpoint diff "nan-$i/checkpoints/step-00000400.h5" short/checkpoints/step-00000400.h5 >/dev/null; then nan=$((nan + 1)); else echo "  nan on rank $rank at step $step: $code"; cat nan.out; fi
    $mpirun -n 2 "$tugline" train long.yaml train.steps=400 parallel.check_every=20 parallel.shared_memory=gradients --run-dir "flip-$i" \
      --inject "flip:rank=$rank,step=$step" >flip.out 2>&1
    code=$?
    if [ $code = 77 ] && grep -q "after step $(((step + 19) / 20 * 20)): " flip.out; then flip=$((flip + 1)); else echo "  flip on rank $rank at step $step: $code"; cat flip.out; fi
    rm -rf "nan-$i" "flip-$i"
  done
  report "NaN in one rank's gradient: never reaches the optimizer" $nan "$count"
  report "a bit of one rank's parameters flips: found in the interval" $flip "$count"
}

# Steps whose gradient was called a spike, in the run $1: step, rank, parameter.
alarms() {
  sed -nE 's/.*"event":"spike".*"rank":(-?[0-9]+).*"parameter":"([^"]*)".*"step":([0-9]+).*/\3 \1 \2/p' "$1/metrics.jsonl"
}
# Flips that left the number finite, in the run $1: step, rank, parameter, bit, number.
flips() {
  local rank
  for rank in 0 1; do
    sed -nE "s/.*step ([0-9]+): bit ([0-9]+) of element .* of the gradient of '([^']*)' flips: .* becomes -?([0-9.e+-]+)$/\1 $rank \3 \2 \4/p" "$1/logs/rank-$rank.log"
  done
}

# Bits of gradients flip, one at a time. What is found is computed again; whether a flip can be found depends on what it does to the norm.
spikes() {
  local count=$1 quiet=0 same=0 found=0 ended=0 i run code step bits alarm
  local looking="train.spike_factor=10 train.nonfinite=retry"
  for i in $(seq "$(among 1 20)"); do
    run=calm-$i
    $mpirun -n 2 "$tugline" train long.yaml seed="$i" $looking --run-dir "$run" >calm.out 2>&1
    code=$?
    if [ $code = 0 ] && [ -z "$(alarms "$run")" ]; then quiet=$((quiet + 1)); else echo "  seed $i: exit code $code"; tail -5 calm.out; fi
    rm -rf "$run"
  done
  report "8000 steps in which no bit flips: no false alarm" $quiet "$(among 1 20)"

  [ -e short ] || $mpirun -n 2 "$tugline" train long.yaml train.steps=400 --run-dir short >/dev/null 2>&1
  for i in $(seq "$count"); do
    run=one-$i
    $mpirun -n 2 "$tugline" train long.yaml train.steps=400 $looking --run-dir "$run" --inject "flip_gradient:rank=$((i % 2)),step=$((30 + RANDOM % 370)),bit=30" >one.out 2>&1
    code=$?
    alarm=$(alarms "$run")
    if [ -n "$alarm" ]; then
      found=$((found + 1))
      if [ $code = 0 ] && "$tugline" checkpoint diff "$run/checkpoints/step-00000400.h5" short/checkpoints/step-00000400.h5 >/dev/null; then same=$((same + 1)); else echo "  $alarm: $code"; cat one.out; fi
    fi
    rm -rf "$run"
  done
  report "a gradient's highest exponent bit flips and is found: same bits" $same $found "$found of $count were"

  : >judged   # class, found, rightly named, number
  for i in $(seq "$count"); do
    run=many-$i
    local injected=()
    for step in $(seq 40 10 390); do
      bits=(31 $((27 + RANDOM % 4)) $((23 + RANDOM % 4)) $((RANDOM % 23)))
      injected+=(--inject "flip_gradient:rank=$((RANDOM % 2)),step=$((step + RANDOM % 10)),bit=${bits[$((step / 10 % 4))]}")
    done
    $mpirun -n 2 "$tugline" train long.yaml train.steps=400 $looking --run-dir "$run" "${injected[@]}" >many.out 2>&1
    code=$?
    alarms "$run" >alarms.txt
    flips "$run" >flips.txt
    if [ $code = 0 ] && ! awk 'FILENAME == "flips.txt" { flip[$1] = 1; next } !($1 in flip) { print }' flips.txt alarms.txt | grep .; then ended=$((ended + 1)); else echo "  $run: exit code $code"; tail -5 many.out; fi
    awk 'FILENAME == "alarms.txt" { alarm[$1] = $2 " " $3; next }
         { class = $4 == 31 ? "sign" : $4 >= 27 ? "high" : $4 >= 23 ? "low" : "mantissa"; print class, $1 in alarm, alarm[$1] == $2 " " $3, $5 }' alarms.txt flips.txt >>judged
    rm -rf "$run"
  done
  report "36 flips a run: it ends, and there is no other alarm" $ended "$count"
  report "  rank and parameter of those found" "$(awk '$2 && $3' judged | wc -l)" "$(awk '$2' judged | wc -l)"
  for bits in "sign:the sign" "high:the high half of the exponent" "low:the low half of the exponent" "mantissa:the mantissa"; do
    count "  found, of flips in ${bits#*:}" "$(awk -v class="${bits%%:*}" '$1 == class && $2' judged | wc -l)" "$(awk -v class="${bits%%:*}" '$1 == class' judged | wc -l)"
  done
  awk '!$2 && $4 > largest { largest = $4 } END { printf "  largest element that a flip made and was not found: %.2g\n", largest }' judged
}

wanted() { [[ ,$only, == *,$1,* ]]; }
if wanted disk; then "$build/tests/checkpoint_faults" $quick --seed "$seed" || failures=$((failures + 1)); fi
if wanted kill; then kill_ranks "$(among 15 300)"; fi
if wanted stop; then
  stop_runs TERM "$(among 5 50)"
  stop_runs USR1 "$(among 5 50)"
fi
if wanted durable; then durable "$(among 3 50)"; fi
if wanted hang; then hangs "$(among 6 40)"; fi
if wanted numbers; then numbers "$(among 3 300)"; fi
if wanted spikes; then spikes "$(among 3 100)"; fi
[ $failures = 0 ] || { echo "faults.sh: $failures kinds of faults did not always end well" >&2; exit 1; }
