// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/store/journal.hpp"

#include <utility>

#include "tugline/core/error.hpp"
#include "tugline/trainers/sweep/store/frame.hpp"

namespace tugline::sweep {

void Journal::add(std::string_view text) {
  try {
    files_.append(file_, text);
  } catch (const IoError&) {
  }
}

std::vector<Entry> Journal::read_on() {
  std::vector<Entry> entries;
  try {
    if (!read_) {
      read_ = files_.size(file_).value_or(0);
      return entries;
    }
    const std::string text = files_.read(file_, *read_).value_or("");
    std::size_t at = 0;
    while (const auto payload = next_frame(text, at)) {
      if (auto entry = entry_from(*payload)) entries.push_back(std::move(*entry));
    }
    *read_ += static_cast<std::int64_t>(at);
  } catch (const IoError&) {
  }
  return entries;
}

}  // namespace tugline::sweep
