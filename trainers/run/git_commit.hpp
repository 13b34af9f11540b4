// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

namespace tugline {

/// The commit that is checked out in `folder` or above it; empty: none. Reads .git, starts no process.
std::string git_commit(const std::filesystem::path& folder);

}  // namespace tugline
