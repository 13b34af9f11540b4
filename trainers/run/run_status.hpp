// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

namespace tugline {

/// How the run in `folder` goes, for a person: its state, figures, newest checkpoint, and which rank the others wait for. From its
/// files alone, so it may be running, anywhere; `now` is unix seconds. Newline at the end. Throws IoError when there is no such folder
/// or a file cannot be read, UsageError when it is no folder of a run that has begun.
std::string run_status(const std::filesystem::path& folder, double now);

}  // namespace tugline
