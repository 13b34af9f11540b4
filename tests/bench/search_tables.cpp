// SPDX-License-Identifier: Apache-2.0
#include "tugline/tests/bench/search_tables.hpp"

#include <algorithm>
#include <fstream>
#include <memory>

#include "tugline/core/error.hpp"

namespace tugline::sweep {
namespace {

using Kind = Dimension::Kind;

Dimension listed(std::string key, Kind kind, std::vector<std::string> values) {
  const auto high = static_cast<double>(values.size() - 1);
  return {std::move(key), kind, 0, high, false, std::move(values), {}};
}
Dimension ordinal(std::string key, std::vector<std::string> values) { return listed(std::move(key), Kind::ordinal, std::move(values)); }
Dimension choice(std::string key, std::vector<std::string> values) { return listed(std::move(key), Kind::choice, std::move(values)); }

// Their order is the tables': the last one changes fastest.
Space hpobench() {
  return Space({ordinal("alpha", {"1e-8", "7.7e-8", "6e-7", "4.6e-6", "3.6e-5", "2.8e-4", "2.2e-3", "1.7e-2", "0.13", "1"}),
                ordinal("batch_size", {"4", "6", "10", "16", "25", "40", "64", "101", "161", "256"}),
                ordinal("depth", {"1", "2", "3"}),
                ordinal("learning_rate_init", {"1e-5", "3.6e-5", "1.3e-4", "4.6e-4", "1.7e-3", "6e-3", "2.2e-2", "7.7e-2", "0.28", "1"}),
                ordinal("width", {"16", "25", "40", "64", "101", "161", "256", "406", "645", "1024"})});
}

Space hpolib() {
  const std::vector<std::string> functions{"relu", "tanh"}, rates{"0", "0.3", "0.6"}, units{"16", "32", "64", "128", "256", "512"};
  return Space({choice("activation_fn_1", functions), choice("activation_fn_2", functions), ordinal("batch_size", {"8", "16", "32", "64"}),
                ordinal("dropout_1", rates), ordinal("dropout_2", rates),
                ordinal("init_lr", {"5e-4", "1e-3", "5e-3", "1e-2", "5e-2", "1e-1"}), choice("lr_schedule", {"cosine", "const"}),
                ordinal("n_units_1", units), ordinal("n_units_2", units)});
}

Space nasbench201() {
  std::vector<Dimension> edges;
  for (int edge = 0; edge < 6; ++edge) {
    edges.push_back(choice("op[" + std::to_string(edge) + "]", {"none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"}));
  }
  return Space(std::move(edges));
}

Space space_of(const std::string& table) {
  if (table.starts_with("hpobench-")) return hpobench();
  if (table.starts_with("hpolib-")) return hpolib();
  return nasbench201();
}

SearchTask read(const std::filesystem::path& path) {
  const std::string name = path.stem().string();
  Space space = space_of(name);
  std::size_t rows = 1;
  for (const Dimension& dimension : space.dimensions()) rows *= static_cast<std::size_t>(dimension.levels());
  const auto table = std::make_shared<std::vector<double>>(rows);
  std::ifstream file(path, std::ios::binary);
  const auto bytes = static_cast<std::streamsize>(rows * sizeof(double));
  if (!file.read(reinterpret_cast<char*>(table->data()), bytes) || file.peek() != std::ifstream::traits_type::eof()) {
    throw IoError("'" + path.string() + "' does not hold " + std::to_string(rows) + " values; make it again by search_tables.py");
  }
  std::vector<double> sorted = *table;
  std::sort(sorted.begin(), sorted.end());
  const auto evaluate = [table, space](const Point& point) {
    std::size_t row = 0;
    for (std::size_t d = 0; d < point.size(); ++d) {
      row = row * static_cast<std::size_t>(space.dimensions()[d].levels()) + static_cast<std::size_t>(point[d]);
    }
    return (*table)[row];
  };
  return {name, std::move(space), evaluate, sorted.front(), sorted[rows / 2] - sorted.front()};
}

}  // namespace

std::vector<SearchTask> table_tasks(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> paths;
  if (std::filesystem::exists(folder)) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().extension() == ".table") paths.push_back(entry.path());
    }
  }
  std::sort(paths.begin(), paths.end());
  std::vector<SearchTask> tasks;
  for (const auto& path : paths) tasks.push_back(read(path));
  return tasks;
}

SearchTask jenatton_task() {
  const auto leaf = [](std::string key, double low, std::vector<std::size_t> parents) {
    return Dimension{std::move(key), Kind::real, low, 1, false, {}, std::move(parents)};
  };
  const auto branch = [](std::string key, std::vector<std::size_t> parents) {
    Dimension dimension = choice(std::move(key), {"0", "1"});
    dimension.parents = std::move(parents);
    return dimension;
  };
  // x1; x2 where x1 is 0, x3 where it is 1; one of x4 .. x7; r8 where x1 is 0, r9 where it is 1
  std::vector<Dimension> dimensions{branch("x1", {}),         branch("x2", {0}),       branch("x3", {0}),
                                    leaf("x4", -1, {0, 1}),   leaf("x5", -1, {0, 1}),  leaf("x6", -1, {0, 2}),
                                    leaf("x7", -1, {0, 2}),   leaf("r8", 0, {0}),      leaf("r9", 0, {0})};
  const auto active = [](std::size_t d, const Point& x) {
    if (d == 1 || d == 7) return x[0] == 0;
    if (d == 2 || d == 8) return x[0] == 1;
    const std::size_t chosen = x[0] == 0 ? (x[1] == 0 ? 3 : 4) : (x[2] == 0 ? 5 : 6);
    return d == chosen;
  };
  const auto evaluate = [](const Point& x) {
    if (x[0] == 0) return x[1] == 0 ? x[3] * x[3] + 0.1 + x[7] : x[4] * x[4] + 0.2 + x[7];
    return x[2] == 0 ? x[5] * x[5] + 0.3 + x[8] : x[6] * x[6] + 0.4 + x[8];
  };
  return {"jenatton", Space(std::move(dimensions), active), evaluate, 0.1, 2.3};
}

}  // namespace tugline::sweep
