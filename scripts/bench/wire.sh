#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What bfloat16 on the wire costs in accuracy. Prints a JSON line for scripts/bench.sh.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
ring="parallel.all_reduce=ring parallel.shared_memory=off"
"$root/scripts/paired_loss.sh" wire "$ring" "$ring parallel.wire=bfloat16" "$@"
