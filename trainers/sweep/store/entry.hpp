// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "tugline/trainers/sweep/store/frame.hpp"

namespace tugline::sweep {

/// One link of a job's chain, as it is on the disk.
struct Entry {
  enum class Kind { claim, end, reopen };
  Kind kind = Kind::claim;
  std::int64_t job = 0;
  int position = 0;
  int attempt = 1;                       ///< the one that is claimed or has ended; of a reopen: the last before it
  std::string worker;                    ///< who wrote it
  bool decides = false;                  ///< a claim whose content is the decision: what was before it no longer counts
  bool voids = false;                    ///< a claim that found the entry before it unreadable: that one says nothing, to nobody
  std::optional<double> lease_seconds;   ///< a claim's own
  bool final = false;                    ///< an end with which the job has ended
  std::string content;                   ///< decision, end, or why it was reopened
};

std::string to_text(const Entry& entry);

/// What a frame's payload says; nullopt: it is no entry that this version knows.
std::optional<Entry> entry_from(std::string_view payload);

/// The entry that a file's text is, or what is wrong with it as the entry at this place.
std::variant<Entry, Damage> read_entry(std::string_view text, std::int64_t job, int position);

}  // namespace tugline::sweep
