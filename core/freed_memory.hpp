// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace tugline {

/// What this process frees it keeps, for what it will allocate next. By default glibc gives large blocks back to the system, as a training step frees
/// its activations, and the next step takes each page anew, zeroed: more than a tenth of a small convnet's step. The process then stays as large
/// as it has been at its largest. Does nothing where the environment sets malloc (MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_,
/// GLIBC_TUNABLES=glibc.malloc...), nor with another malloc than glibc's. Returns whether it did. For the start of main(); App::run() calls it.
bool keep_freed_memory();

}  // namespace tugline
