// SPDX-License-Identifier: Apache-2.0
// Tables: types are inferred from the train file, other files must follow them.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/csv_table.hpp"
#include "tugline/core/data/file_bytes.hpp"
#include "tugline/core/data/memory_dataset.hpp"
#include "tugline/core/data/source.hpp"
#include "tugline/core/error.hpp"

namespace tugline {
namespace {

constexpr std::size_t kMaxOneHot = 1000;

struct Column {
  std::string name;  // "column 3" without a header
  bool numeric = true;
  std::vector<std::string> categories;  // sorted; not numeric only
};

struct Schema {
  std::vector<std::string> header;  // empty without one
  std::vector<Column> columns;
  std::size_t label = 0;
  std::optional<std::size_t> time;
  std::vector<std::string> class_names;  // sorted; target: class only
};

[[noreturn]] void fail(const CsvTable& table, const CsvTable::Row& row, const Column& column, const std::string& reason) {
  throw DataError(fmt::format("{}:{}: column {}: {}", table.name, row.line, column.name, reason));
}

bool is_missing(const std::string& cell) {
  static const std::set<std::string> kMarks = {"", "?", "NA", "N/A", "na", "n/a", "NaN", "nan", "NAN", "null", "NULL"};
  return kMarks.contains(cell);
}

bool is_number(const std::string& cell) {
  double value = 0;
  return parse_number(cell, value);
}

/// A header is a first row without numbers above a column of numbers, or one that has the label's or the time's name.
bool has_header(const CsvTable& table, const DataConfig& config) {
  if (config.header) return *config.header;
  const auto& first = table.rows.front().cells;
  const auto holds = [&](const std::string& name) {   // a number asks for a column by its index
    return !name.empty() && !is_number(name) && std::find(first.begin(), first.end(), name) != first.end();
  };
  if (holds(config.split.time_column) || holds(config.label)) return true;
  if (std::any_of(first.begin(), first.end(), [](const auto& cell) { return is_number(cell) || is_missing(cell); }))
    return false;
  if (table.rows.size() < 2) return false;
  const auto& second = table.rows[1].cells;
  return std::any_of(second.begin(), second.end(), is_number);
}

/// A column by name, or by its index (negative: from the end). An empty `wanted` is the last one.
std::size_t find_column(const Schema& schema, const std::string& wanted, const char* key, const CsvTable& table) {
  const auto count = static_cast<std::int64_t>(schema.columns.size());
  if (wanted.empty()) return count - 1;
  const auto name = std::find(schema.header.begin(), schema.header.end(), wanted);
  if (name != schema.header.end()) return name - schema.header.begin();
  double index = 0;
  if (parse_number(wanted, index) && index == std::trunc(index)) {
    if (index >= -count && index < count) return static_cast<std::size_t>(index < 0 ? index + count : index);
    throw DataError(fmt::format("{}: data.{}: there is no column {}: the file has {}", table.name, key, wanted, count));
  }
  throw DataError(schema.header.empty() ? fmt::format("{}: data.{}: there is no column '{}': the file has no header line",
                                                      table.name, key, wanted)
                                        : fmt::format("{}: data.{}: there is no column '{}' among {}", table.name, key,
                                                      wanted, fmt::join(schema.header, ", ")));
}

/// Numeric when most of its cells are numbers; a stray word in it is then found as an error when it is read.
void infer_column(const CsvTable& table, std::size_t index, Column& column) {
  std::size_t numbers = 0;
  std::set<std::string> texts;
  for (const auto& row : table.rows) {
    const std::string& cell = row.cells[index];
    if (is_missing(cell))
      fail(table, row, column, cell.empty() ? "the value is missing" : fmt::format("the value '{}' is missing", cell));
    numbers += is_number(cell);
    texts.insert(cell);
  }
  column.numeric = numbers * 2 > table.rows.size();
  if (!column.numeric) column.categories.assign(texts.begin(), texts.end());
}

double number_at(const CsvTable& table, const CsvTable::Row& row, std::size_t index, const Column& column) {
  const std::string& cell = row.cells[index];
  double value = 0;
  if (is_missing(cell))
    fail(table, row, column, cell.empty() ? "the value is missing" : fmt::format("the value '{}' is missing", cell));
  if (!parse_number(cell, value))
    fail(table, row, column, fmt::format("'{}' is not a number, as most of this column are", cell));
  if (!std::isfinite(static_cast<float>(value))) fail(table, row, column, fmt::format("'{}' is not a finite number", cell));
  return value;
}

std::size_t place_in(const std::vector<std::string>& sorted, const std::string& text) {
  return std::lower_bound(sorted.begin(), sorted.end(), text) - sorted.begin();
}

std::size_t category_at(const CsvTable& table, const CsvTable::Row& row, std::size_t index, const Column& column) {
  const std::string& cell = row.cells[index];
  const std::size_t place = place_in(column.categories, cell);
  if (place == column.categories.size() || column.categories[place] != cell) {
    fail(table, row, column, fmt::format("'{}' does not occur in the train file", cell));
  }
  return place;
}

/// The name of a class: whole numbers alike however they are written ("1", "1.0"), other texts as they stand.
std::string class_name_at(const CsvTable& table, const CsvTable::Row& row, std::size_t index, const Column& column) {
  if (!column.numeric) return row.cells[index];
  const double value = number_at(table, row, index, column);
  if (value != std::trunc(value)) {
    fail(table, row, column, fmt::format("{} is not a class; for regression set data.target: value", row.cells[index]));
  }
  return fmt::format("{:.0f}", value);
}

std::vector<std::string> class_names_of(const CsvTable& table, std::size_t index, const Column& column) {
  std::set<std::string> names;
  for (const auto& row : table.rows) names.insert(class_name_at(table, row, index, column));
  std::vector<std::string> result(names.begin(), names.end());
  if (column.numeric) {
    std::sort(result.begin(), result.end(),
              [](const auto& left, const auto& right) { return std::stod(left) < std::stod(right); });
  }
  if (result.size() < 2) {
    throw DataError(fmt::format("{}: column {}: only one class, '{}'", table.name, column.name, result.front()));
  }
  return result;
}

Schema infer_schema(CsvTable& table, const DataConfig& config) {
  Schema schema;
  if (has_header(table, config)) {
    schema.header = table.rows.front().cells;
    table.rows.erase(table.rows.begin());
    if (table.rows.empty()) throw DataError(fmt::format("{}: the file has a header line and no records", table.name));
  }
  const std::size_t width = table.rows.front().cells.size();
  if (width < 2)
    throw DataError(fmt::format("{}: only one column: a label and a feature are needed, with commas between", table.name));
  for (std::size_t i = 0; i < width; ++i) {
    schema.columns.push_back({schema.header.empty() ? std::to_string(i) : "'" + schema.header[i] + "'", true, {}});
  }
  schema.label = find_column(schema, config.label, "label", table);
  if (config.split.by == "time") schema.time = find_column(schema, config.split.time_column, "split.time_column", table);
  if (schema.time == schema.label)
    throw ConfigError("data.split.time_column: the label column cannot be the time column too");
  if (schema.time && width < 3) {
    throw DataError(fmt::format("{}: only two columns: a feature is needed beside the label and the time", table.name));
  }
  for (std::size_t i = 0; i < width; ++i) {
    Column& column = schema.columns[i];
    infer_column(table, i, column);
    const bool feature = i != schema.label && i != schema.time;
    if (feature && config.categorical == "onehot" && column.categories.size() > kMaxOneHot) {
      throw DataError(
          fmt::format("{}: column {}: {} different texts are too many for data.categorical: onehot; use index, or drop "
                      "the column",
                      table.name, column.name, column.categories.size()));
    }
  }
  const Column& label = schema.columns[schema.label];
  if (config.target == "class") schema.class_names = class_names_of(table, schema.label, label);
  if (config.target == "value" && !label.numeric) {
    fail(table, table.rows.front(), label,
         fmt::format("'{}' is not a number, which data.target: value needs", table.rows.front().cells[schema.label]));
  }
  return schema;
}

/// Other files may have the header too, but their columns must be those of the train file.
void check_columns(CsvTable& table, const Schema& schema, const CsvTable& train) {
  if (table.rows.front().cells.size() != schema.columns.size()) {
    throw DataError(fmt::format("{}: {} columns, but {} has {}", table.name, table.rows.front().cells.size(), train.name,
                                schema.columns.size()));
  }
  if (schema.header.empty()) return;
  for (std::size_t i = 0; i < schema.header.size(); ++i) {
    const std::string& found = table.rows.front().cells[i];
    if (found != schema.header[i]) {
      throw DataError(fmt::format("{}:{}: column {} is '{}', but in {} it is '{}'", table.name, table.rows.front().line, i,
                                  found, train.name, schema.header[i]));
    }
  }
  table.rows.erase(table.rows.begin());
  if (table.rows.empty()) throw DataError(fmt::format("{}: the file has a header line and no records", table.name));
}

/// The place of each record in time: numbers by value, other texts (2024-01-31, 2024-01-31T12:00) in the order of their
/// letters.
std::vector<std::int64_t> time_ranks(const CsvTable& table, std::size_t index, const Column& column) {
  std::map<double, std::int64_t> by_number;
  std::map<std::string, std::int64_t> by_text;
  for (const auto& row : table.rows) {
    if (column.numeric) {
      by_number[number_at(table, row, index, column)] = 0;
      continue;
    }
    const std::string& cell = row.cells[index];
    if (cell.size() < 10 || cell[4] != '-' || cell[7] != '-' || !is_number(cell.substr(0, 4))) {
      fail(table, row, column, fmt::format("'{}' is no time: write numbers, or dates like 2024-01-31", cell));
    }
    by_text[cell] = 0;
  }
  std::int64_t rank = 0;
  for (auto& entry : by_number) entry.second = rank++;
  for (auto& entry : by_text) entry.second = rank++;
  std::vector<std::int64_t> ranks;
  for (const auto& row : table.rows) {
    ranks.push_back(column.numeric ? by_number[number_at(table, row, index, column)] : by_text[row.cells[index]]);
  }
  return ranks;
}

void append_features(const CsvTable& table, const CsvTable::Row& row, const Schema& schema, bool onehot,
                     std::vector<float>& out) {
  for (std::size_t i = 0; i < schema.columns.size(); ++i) {
    const Column& column = schema.columns[i];
    if (i == schema.label || i == schema.time) continue;
    if (column.numeric) {
      out.push_back(static_cast<float>(number_at(table, row, i, column)));
      continue;
    }
    const std::size_t category = category_at(table, row, i, column);
    if (onehot) {
      out.resize(out.size() + column.categories.size());
      out[out.size() - column.categories.size() + category] = 1;
    } else {
      out.push_back(static_cast<float>(category));
    }
  }
}

std::int64_t class_at(const CsvTable& table, const CsvTable::Row& row, const Schema& schema) {
  const Column& column = schema.columns[schema.label];
  const std::string name = class_name_at(table, row, schema.label, column);
  const auto place = std::find(schema.class_names.begin(), schema.class_names.end(), name);
  if (place == schema.class_names.end()) {
    fail(table, row, column, fmt::format("class '{}' does not occur in the train file", name));
  }
  return place - schema.class_names.begin();
}

Source encode(const CsvTable& table, const Schema& schema, const DataConfig& config) {
  const bool classified = config.target == "class";
  std::vector<float> inputs, values;
  Source source;
  for (const auto& row : table.rows) {
    append_features(table, row, schema, config.categorical == "onehot", inputs);
    if (classified) {
      source.classes.push_back(class_at(table, row, schema));
    } else {
      values.push_back(static_cast<float>(number_at(table, row, schema.label, schema.columns[schema.label])));
    }
  }
  const auto count = static_cast<std::int64_t>(table.rows.size());
  SampleSpec spec;
  spec.input_shape = {static_cast<std::int64_t>(inputs.size()) / count};
  spec.num_classes = static_cast<std::int64_t>(schema.class_names.size());
  spec.class_names = schema.class_names;
  if (classified) {
    source.data = std::make_shared<MemoryDataset>(spec, count, std::move(inputs), source.classes);
  } else {
    spec.target_shape = {1};
    spec.target_dtype = DType::float32;
    source.data = std::make_shared<MemoryDataset>(spec, count, std::move(inputs), std::move(values));
  }
  if (schema.time) source.time_rank = time_ranks(table, *schema.time, schema.columns[*schema.time]);
  return source;
}

}  // namespace

Sources open_csv(const DataConfig& config) {
  if (config.path.empty() && config.train_inputs.empty()) throw ConfigError("data.path: csv data needs a file name");
  if (config.split.by == "time" && config.split.time_column.empty()) {
    throw ConfigError("data.split.time_column: a split by time needs the name of a column");
  }
  const auto file =
      config.train_inputs.empty() ? std::filesystem::path(config.path) : below_path(config, config.train_inputs);
  CsvTable train = parse_csv(read_file(file), file.string());
  const Schema schema = infer_schema(train, config);
  const auto other = [&](const std::string& name) -> Source {
    if (name.empty()) return {};
    const auto path = below_path(config, name);
    CsvTable table = parse_csv(read_file(path), path.string());
    check_columns(table, schema, train);
    return encode(table, schema, config);
  };
  Sources sources;
  sources.name = train.name;
  sources.train = encode(train, schema, config);
  sources.validation = other(config.validation_inputs);
  sources.test = other(config.test_inputs);
  return sources;
}

}  // namespace tugline
