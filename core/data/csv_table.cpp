// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/data/csv_table.hpp"

#include <fmt/format.h>

#include <charconv>
#include <utility>

#include "tugline/core/error.hpp"

namespace tugline {
namespace {

class CsvReader {
 public:
  CsvReader(const std::string& text, const std::string& name) : text_(text), name_(name) {
    if (text_.starts_with("\xEF\xBB\xBF")) at_ = 3;  // the byte order mark of spreadsheets
  }

  bool at_end() const { return at_ >= text_.size(); }

  CsvTable::Row row() {
    CsvTable::Row row{line_, {}};
    do row.cells.push_back(cell());
    while (skip(','));
    if (!at_end()) end_line();
    return row;
  }

 private:
  [[noreturn]] void fail(const std::string& reason) const {
    throw DataError(fmt::format("{}:{}: {}", name_, line_, reason));
  }

  bool skip(char wanted) {
    if (at_end() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }

  void skip_blanks() {
    while (skip(' ') || skip('\t')) {
    }
  }

  void end_line() {
    skip('\r');
    if (!skip('\n') && !at_end()) fail("text follows a closing quote; a quote inside quotes is written twice");
    ++line_;
  }

  std::string cell() {
    skip_blanks();
    if (skip('"')) return quoted();
    const std::size_t end = std::min(text_.find_first_of(",\r\n", at_), text_.size());
    std::string cell = text_.substr(at_, end - at_);
    cell.erase(cell.find_last_not_of(" \t") + 1);
    at_ = end;
    return cell;
  }

  std::string quoted() {
    const std::int64_t opened = line_;
    std::string cell;
    for (; !at_end(); ++at_) {
      if (text_[at_] == '"') {
        if (at_ + 1 >= text_.size() || text_[at_ + 1] != '"') {
          ++at_;
          skip_blanks();
          return cell;
        }
        ++at_;
      }
      line_ += text_[at_] == '\n';
      cell.push_back(text_[at_]);
    }
    line_ = opened;
    fail("a quote is opened here and never closed");
  }

  const std::string& text_;
  const std::string& name_;
  std::size_t at_ = 0;
  std::int64_t line_ = 1;
};

}  // namespace

CsvTable parse_csv(const std::string& text, const std::string& name) {
  CsvTable table{name, {}};
  CsvReader reader(text, name);
  while (!reader.at_end()) {
    CsvTable::Row row = reader.row();
    if (row.cells.size() == 1 && row.cells[0].empty()) continue;
    if (!table.rows.empty() && row.cells.size() != table.rows[0].cells.size()) {
      throw DataError(fmt::format("{}:{}: {} columns, but line {} has {}", name, row.line, row.cells.size(),
                                  table.rows[0].line, table.rows[0].cells.size()));
    }
    table.rows.push_back(std::move(row));
  }
  if (table.rows.empty()) throw DataError(fmt::format("{}: the file is empty", name));
  return table;
}

bool parse_number(const std::string& cell, double& value) {
  const char* begin = cell.data() + (cell.starts_with('+') ? 1 : 0);
  const char* end = cell.data() + cell.size();
  const auto [rest, status] = std::from_chars(begin, end, value);
  return status == std::errc{} && rest == end && begin != end;
}

}  // namespace tugline
