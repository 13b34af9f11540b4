#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The reader in docs/checkpoint-format.md, as it stands there, on checkpoints: read_with_python.sh CHECKPOINT... 125: Python has no h5py.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
python3 -c 'import h5py' 2>/dev/null || { echo "skipped: python3 has no h5py"; exit 125; }
program=$(sed -n '/^```python$/,/^```$/p' "$root/docs/checkpoint-format.md" | sed '1d;$d')
for checkpoint in "$@"; do
  said=$(python3 -c "$program" "$checkpoint")
  echo "$said"
  grep -q '^step 2$' <<<"$said"
  grep -q '^hidden0.weight (32, 13) float32 ' <<<"$said"
done
