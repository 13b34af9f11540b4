#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what building Tugline needs on Debian 12 or Ubuntu 24.04, and a LibTorch into build/deps. Does nothing when all is there.
#   --slurm                  also the Slurm that some tests start; its packages bring daemons, so nobody gets them unasked
#   TUGLINE_LIBTORCH=/path   use that LibTorch (archive, pip or conda: a folder with include/ and lib/) and fetch none
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
torch_version=2.11.0
wheels=("torch==$torch_version" "nvidia-cuda-runtime==13.0.96" "nvidia-cuda-cupti==13.0.85")

slurm=()
case $* in
  "") ;;
  --slurm) slurm=(slurmctld slurmd slurm-client munge) ;;
  *) echo "setup.sh: '$*' is not an option; usage: scripts/setup.sh [--slurm]" >&2; exit 2 ;;
esac

say() { printf '%s\n' "$*"; }
die() { printf 'setup.sh: %s\n' "$*" >&2; exit 1; }

installed() { [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null | cut -c1-2)" = ii ]; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
    die "needs root to install packages: run it as root, or install sudo"; fi
}

# Boost.Describe with JSON conversion needs 1.81 or later: Debian 12 has it beside its default, Ubuntu 24.04 has 1.83.
boost_version() {
  local version
  for version in 1.81 1.83 1.88; do
    if apt-cache show "libboost-json$version-dev" >/dev/null 2>&1; then echo "$version"; return; fi
  done
  return 1
}

install_packages() {
  command -v apt-get >/dev/null || die "no apt-get here: install the packages listed in docs/install.md by hand"
  local boost
  if ! boost=$(boost_version); then   # no package lists yet
    as_root apt-get update -qq
    boost=$(boost_version) || die "apt has no Boost 1.81 or later; on Ubuntu, enable the universe component"
  fi
  local packages=(g++ cmake ninja-build ccache mold pkg-config git ca-certificates
    python3 python3-pip openmpi-bin libopenmpi-dev libhdf5-dev zlib1g-dev
    "libboost$boost-dev" "libboost-json$boost-dev" "libboost-program-options$boost-dev" "libboost-iostreams$boost-dev"
    libyaml-cpp-dev libeigen3-dev libnlopt-dev libspdlog-dev libfmt-dev libxxhash-dev libgtest-dev libgmock-dev iproute2 "${slurm[@]}")
  local missing=()
  for package in "${packages[@]}"; do installed "$package" || missing+=("$package"); done
  # Tools that are there without a package (a newer cmake in /usr/local, say) are fine.
  local wanted=()
  for package in "${missing[@]}"; do
    case $package in
      cmake | ccache | mold | git | python3) command -v "$package" >/dev/null && continue ;;
      iproute2) command -v ip >/dev/null && command -v tc >/dev/null && continue ;;
      ninja-build) command -v ninja >/dev/null && continue ;;
      python3-pip) python3 -m pip --version >/dev/null 2>&1 && continue ;;
    esac
    wanted+=("$package")
  done
  [ ${#wanted[@]} = 0 ] && return
  say "setup: installing ${wanted[*]}"
  as_root apt-get update -qq
  # An older Boost, say, would have to go: that is the owner's decision.
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-remove "${wanted[@]}" >/dev/null ||
    die "apt-get would not install them (see above); by hand: apt-get install --no-install-recommends ${wanted[*]}"
}

# The wheels are zip files; they are fetched for one fixed Python and platform, so that any python3 will do.
fetch_libtorch() {
  local target=$root/build/deps/libtorch-$torch_version
  [ -n "${TUGLINE_LIBTORCH:-}" ] && { say "setup: using LibTorch in $TUGLINE_LIBTORCH"; return; }
  [ -e "$target/torch/lib/libtorch_cpu.so" ] && return
  say "setup: fetching LibTorch $torch_version (550 MB) into build/deps"
  local parts=$target.part
  mkdir -p "$parts/wheels"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.11 \
    --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 -d "$parts/wheels" "${wheels[@]}" || die "pip could not fetch ${wheels[*]}"
  rm -rf "$parts/tree" && mkdir "$parts/tree"
  for wheel in "$parts"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$parts/tree"; done
  rm -rf "$target" && mv "$parts/tree" "$target" && rm -rf "$parts"   # the rename is last: half a LibTorch is never taken for one
}

[ "$(uname -m)" = x86_64 ] || die "this recipe is for x86-64; set TUGLINE_LIBTORCH and install the packages of docs/install.md"
install_packages
fetch_libtorch
