// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tugline {

/// A CSV file as text cells: RFC 4180 (quotes, doubled quotes, line ends inside quotes, CRLF or LF); empty lines are
/// skipped and cells outside quotes are trimmed.
struct CsvTable {
  struct Row {
    std::int64_t line;  // on which it starts, from 1
    std::vector<std::string> cells;
  };
  std::string name;       // the file, for errors
  std::vector<Row> rows;  // all of one width
};

/// Throws DataError naming file and line for unbalanced quotes, rows of unequal width and files without rows.
CsvTable parse_csv(const std::string& text, const std::string& name);

/// True and the number when all of `cell` is one, infinities and NaN included.
bool parse_number(const std::string& cell, double& value);

}  // namespace tugline
