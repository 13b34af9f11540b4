// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace tugline {

/// The calls by which a file gets onto a disk, made to fail on purpose in this program: this library's definitions come before the system's.
enum class Call { open, write, fsync, close, rename };

/// From now on the `number`-th call (from 1) of that kind on a checkpoint's file fails with `error`; 0 of `error`: a write that does half of
/// what it was asked to. One failure, then everything works again.
void fail_call(Call call, int number, int error);
/// How many calls of that kind have been made on checkpoints' files since the last fail_call().
int calls_made(Call call);
/// The failure has not happened yet.
bool failure_is_due();

}  // namespace tugline
