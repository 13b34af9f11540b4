#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what building Tugline needs on Debian 12 or Ubuntu 24.04, and a LibTorch into build/deps. Does nothing when all is there.
#   --slurm                  also the Slurm that some tests start; its packages bring daemons, so nobody gets them unasked
#   --cuda                   fetch also the libraries that LibTorch's CUDA half needs and that this machine lacks (docs/install.md)
#   TUGLINE_LIBTORCH=/path   use that LibTorch (archive, pip or conda: a folder with include/ and lib/) and fetch none
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
torch_version=2.11.0
wheels=("torch==$torch_version" "nvidia-cuda-runtime==13.0.96" "nvidia-cuda-cupti==13.0.85")
# Which wheel has which library that LibTorch's CUDA half needs. The versions are those that the torch wheel asks for, the sizes are
# downloads: 2 GB for a machine that has a driver alone. A toolkit has most of them; with one that has all but the first three, 230 MB.
declare -A cuda_wheels=(
  [libcufile.so.0]=nvidia-cufile==1.15.1.6                 # 1 MB
  [libcusparseLt.so.0]=nvidia-cusparselt-cu13==0.8.0       # 170 MB
  [libnvshmem_host.so.3]=nvidia-nvshmem-cu13==3.4.5        # 60 MB
  [libcublas.so.13]=nvidia-cublas==13.1.0.3                # 423 MB
  [libcublasLt.so.13]=nvidia-cublas==13.1.0.3
  [libcudnn.so.9]=nvidia-cudnn-cu13==9.19.0.56             # 366 MB
  [libcufft.so.12]=nvidia-cufft==12.0.0.61                 # 214 MB
  [libcurand.so.10]=nvidia-curand==10.4.0.35               # 60 MB
  [libcusolver.so.12]=nvidia-cusolver==12.0.4.66           # 201 MB
  [libcusparse.so.12]=nvidia-cusparse==12.6.3.3            # 146 MB
  [libnccl.so.2]=nvidia-nccl-cu13==2.28.9                  # 196 MB
  [libnvJitLink.so.13]=nvidia-nvjitlink==13.0.88           # 41 MB
  [libnvrtc.so.13]=nvidia-cuda-nvrtc==13.0.88              # 90 MB
)

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

# unpack_wheels FOLDER WHEEL...: into a new FOLDER. Wheels are zip files; they are fetched for one fixed Python and platform, so that
# any python3 will do.
unpack_wheels() {
  local folder=$1 platform platforms=()
  shift
  for platform in _2_28 _2_27 _2_25 _2_18 _2_17 2014 _2_12 2010 _2_5 1; do platforms+=(--platform "manylinux${platform}_x86_64"); done
  mkdir -p "$folder.wheels"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.11 --implementation cp \
    "${platforms[@]}" -d "$folder.wheels" "$@" || die "pip could not fetch $*"
  rm -rf "$folder" && mkdir "$folder"
  for wheel in "$folder.wheels"/*.whl; do python3 -m zipfile -e "$wheel" "$folder"; done
  rm -rf "$folder.wheels"
}

fetch_libtorch() {
  [ -n "${TUGLINE_LIBTORCH:-}" ] && { say "setup: using LibTorch in $TUGLINE_LIBTORCH"; return; }
  [ -e "$target/torch/lib/libtorch_cpu.so" ] && return
  say "setup: fetching LibTorch $torch_version (550 MB) into build/deps"
  mkdir -p "$target.part"
  unpack_wheels "$target.part/tree" "${wheels[@]}"
  rm -rf "$target" && mv "$target.part/tree" "$target" && rm -rf "$target.part"   # the rename is last: never half a LibTorch
}

# load_cuda_half PART [-r]: what the loader finds for it, with -r every symbol too. It looks in the folder of the toolkit whose nvcc CMake
# will find.
load_cuda_half() {
  local nvcc
  nvcc=$(command -v nvcc || echo "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc")
  LD_LIBRARY_PATH="$(dirname "$(dirname "$(readlink -m "$nvcc")")")/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" \
    ldd "${@:2}" "$target/torch/lib/lib$1.so" 2>&1
}

# What the loader does not find when it loads LibTorch's CUDA half, and what that opens later. The driver's own libcuda is not ours.
missing_cuda_libraries() {
  { load_cuda_half torch_cuda; load_cuda_half torch_cuda_linalg; load_cuda_half caffe2_nvrtc; } |
    awk '/=> not found/ && $1 != "libcuda.so.1" && !seen[$1]++ { print $1 }'
}

fetch_cuda_libraries() {
  local library wheel missing strange
  [ -n "${TUGLINE_LIBTORCH:-}" ] && { say "setup: --cuda completes the LibTorch in build/deps alone; yours stays as it is"; return; }
  # One at a time: a library that is found may lack others.
  while missing=$(missing_cuda_libraries) && [ -n "$missing" ]; do
    library=${missing%%$'\n'*}
    wheel=${cuda_wheels[$library]:-}
    [ -n "$wheel" ] || die "LibTorch's CUDA half needs $library, which no package known here has: install it where the loader looks"
    say "setup: fetching $wheel, which has $library"
    rm -rf "$target.part" && mkdir "$target.part"
    unpack_wheels "$target.part/tree" "$wheel"
    move_files "$target.part/tree" "$target" "$library"
    rm -rf "$target.part"
    [ -n "$(find "$target/nvidia" -name "$library")" ] || die "$wheel has no $library"
  done
  strange=$(load_cuda_half torch_cuda -r | awk '/^undefined symbol/ && !count++ { sub(/,$/, "", $3); print $3 }')
  [ -z "$strange" ] || die "a CUDA library of this machine is too old for LibTorch's CUDA half: none has $strange"
}

# move_files FROM TO LAST: that file goes last, so that what is there is whole.
move_files() {
  (cd "$1" && find . -type f ! -name "$3" && find . -type f -name "$3") | while read -r file; do
    mkdir -p "$2/$(dirname "$file")"
    mv -f "$1/$file" "$2/$file"
  done
}

target=$root/build/deps/libtorch-$torch_version
cuda=false slurm=()
for argument in "$@"; do
  case $argument in
    --cuda) cuda=true ;;
    --slurm) slurm=(slurmctld slurmd slurm-client munge) ;;
    *) die "unknown option $argument; there are --cuda and --slurm" ;;
  esac
done
[ "$(uname -m)" = x86_64 ] || die "this recipe is for x86-64; set TUGLINE_LIBTORCH and install the packages of docs/install.md"
install_packages
fetch_libtorch
if $cuda; then fetch_cuda_libraries; fi
