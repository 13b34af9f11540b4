// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace tugline::sweep {

/// Which jobs a decision knew the end of, and of each how many final ends it has had: more than one after `sweep retry`.
using SeenJobs = std::map<std::int64_t, int>;

std::string to_text(const SeenJobs& seen);               ///< "0-57 59 61x2"
SeenJobs seen_jobs_from_text(std::string_view text);     ///< throws DataError

}  // namespace tugline::sweep
