#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What mixed precision costs in accuracy, on two ranks. Prints JSON lines for scripts/bench.sh.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
for precision in bf16 fp16; do
  "$root/scripts/paired_loss.sh" --relative "$precision" train.precision=float32 "train.precision=$precision" "$@"
done
