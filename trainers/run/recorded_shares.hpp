// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "tugline/parallel/balance/make_share_rule.hpp"

namespace tugline {

/// The shares that a run used, from the "balance" events of its metrics.jsonl, over all its attempts: what an attempt did again counts. A
/// run that recorded none gives none. Throws DataError when the file cannot be read.
RecordedShares read_recorded_shares(const std::filesystem::path& metrics);

}  // namespace tugline
