// SPDX-License-Identifier: Apache-2.0
// Searches on tasks whose minimum is known. scripts/bench/search.sh compares what this prints with what scripts/bench/search_peer.py wrote.
//   bench_search --method tpe [--tasks branin,levy8] [--seeds 30] [--first-seed 0] [--trials 100] [--workers 1]
//     [--tables build/search-tables]
//     prints a line per task and seed: {"method", "task", "seed", "best", "floor", "values", "regret_curve", "suggest_us"}
//   bench_search --cost tpe --trials 1000
//     prints the microseconds of one suggestion, in six dimensions, with that much history
//   bench_search --serve TASK
//     is the task for other programs: it describes itself in a line of JSON, then answers lines of JSON, one for each:
//     {"seed": s} the first points of a search; {"active": d, "point": [...]} true or false; {"value": [...]} the task's value there;
//     {"duration": n, "of": s} how long trial n of a search takes
#include <algorithm>
#include <chrono>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include <boost/json.hpp>

#include "tugline/tests/bench/search_tables.hpp"
#include "tugline/tests/bench/search_tasks.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/random.hpp"
#include "tugline/trainers/sweep/search/search.hpp"

namespace tugline::sweep {
namespace {

namespace json = boost::json;
using Options = std::map<std::string, std::string, std::less<>>;
using Microseconds = std::chrono::duration<double, std::micro>;

constexpr std::int64_t kFirst = 10;   // trials that every search is given, the same ones
constexpr double kFloor = 1e-6;       // of the range: below it, regrets are all alike

Point first_point(const SearchTask& task, std::uint64_t seed, std::int64_t number) {
  for (int attempt = 0;; ++attempt) {
    Point point = task.space.draw(seed, number, attempt);
    if (!task.space.is_forbidden(point)) return point;
  }
}

/// Between half and one and a half units of time.
double duration(std::uint64_t seed, std::uint64_t trial) { return 0.5 + Random(seed, Purpose::synthetic, trial).uniform(); }

/// One search with `workers` asynchronous workers.
class Run {
 public:
  Run(const SearchTask& task, const std::string& method, std::uint64_t seed, std::int64_t trials)
      : task_(task), seed_(seed), trials_(trials), search_(make_search(task.space, {method, seed})) {}

  void work(std::size_t workers) {
    std::vector<std::pair<double, std::size_t>> ends;   // time, trial
    double now = 0;
    while (static_cast<std::int64_t>(history_.size()) < trials_ || !ends.empty()) {
      if (static_cast<std::int64_t>(history_.size()) < trials_ && ends.size() < workers) {
        ends.emplace_back(now + duration(seed_, history_.size()), history_.size());
        start();
        continue;
      }
      const auto next = std::min_element(ends.begin(), ends.end());
      now = next->first;
      Observation& trial = history_[next->second];
      trial.value = task_.evaluate(trial.point);
      ends.erase(next);
    }
  }

  double microseconds() const { return total_.count() / static_cast<double>(std::max<std::int64_t>(1, trials_ - kFirst)); }
  const std::vector<Observation>& history() const { return history_; }

 private:
  void start() {
    const auto number = static_cast<std::int64_t>(history_.size());
    Observation trial;
    trial.number = number;
    const auto before = std::chrono::steady_clock::now();
    trial.point = number < kFirst ? first_point(task_, seed_, number) : search_->suggest(number, history_);
    if (number >= kFirst) total_ += std::chrono::steady_clock::now() - before;
    history_.push_back(std::move(trial));
  }

  const SearchTask& task_;
  std::uint64_t seed_;
  std::int64_t trials_;
  std::unique_ptr<Search> search_;
  std::vector<Observation> history_;
  Microseconds total_{0};
};

void compare(const SearchTask& task, const Options& options) {
  const auto first_seed = std::stoull(options.at("first-seed")), seeds = std::stoull(options.at("seeds"));
  for (auto seed = first_seed; seed < first_seed + seeds; ++seed) {
    Run run(task, options.at("method"), seed, std::stoll(options.at("trials")));
    run.work(std::stoull(options.at("workers")));
    json::array values, curve;
    double regret = std::numeric_limits<double>::infinity();
    for (const Observation& trial : run.history()) {
      values.push_back(trial.value);
      regret = std::min(regret, std::max(trial.value - task.best, kFloor * task.range));
      if (values.size() % 10 == 0) curve.push_back(regret);
    }
    std::cout << json::serialize(json::object{{"method", options.at("method")}, {"task", task.name}, {"seed", seed}, {"best", task.best},
                                              {"floor", kFloor * task.range}, {"values", values}, {"regret_curve", curve},
                                              {"suggest_us", run.microseconds()}})
              << std::endl;
  }
}

/// The median over repetitions, each of which is a new search: what was remembered must not count.
void cost(const std::string& method, std::int64_t trials) {
  const auto tasks = function_tasks();
  const SearchTask& task = task_named(tasks, "hartmann6");
  std::vector<Observation> history;
  for (std::int64_t number = 0; number < trials; ++number) {
    Point point = first_point(task, 0, number);
    const double value = task.evaluate(point);
    history.push_back({number, std::move(point), value});
  }
  std::vector<double> times;
  for (std::uint64_t seed = 0; seed < 51; ++seed) {
    const auto search = make_search(task.space, {method, seed});
    const auto before = std::chrono::steady_clock::now();
    search->suggest(trials, history);
    times.push_back(Microseconds(std::chrono::steady_clock::now() - before).count());
  }
  std::nth_element(times.begin(), times.begin() + 25, times.end());
  std::cout << json::serialize(json::object{{"method", method}, {"trials", trials}, {"suggest_us", times[25]}}) << std::endl;
}

json::array to_json(const Point& point) {
  json::array array;
  for (const double value : point) std::isnan(value) ? array.push_back(nullptr) : array.push_back(value);
  return array;
}

Point to_point(const json::value& array) {
  Point point;
  for (const json::value& value : array.as_array()) {
    point.push_back(value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.to_number<double>());
  }
  return point;
}

json::object describe(const SearchTask& task) {
  constexpr const char* kKinds[] = {"real", "integer", "ordinal", "choice"};
  json::array dimensions;
  for (const Dimension& dimension : task.space.dimensions()) {
    dimensions.push_back({{"key", dimension.key}, {"kind", kKinds[static_cast<int>(dimension.kind)]}, {"low", dimension.low},
                          {"high", dimension.high}, {"log", dimension.log}, {"conditional", !dimension.parents.empty()}});
  }
  return {{"name", task.name}, {"best", task.best}, {"range", task.range}, {"floor", kFloor}, {"dimensions", dimensions}};
}

json::value answer(const SearchTask& task, const json::object& question) {
  if (const auto* seed = question.if_contains("seed")) {
    json::array points;
    for (std::int64_t number = 0; number < kFirst; ++number) {
      points.push_back(to_json(first_point(task, seed->to_number<std::uint64_t>(), number)));
    }
    return points;
  }
  if (const auto* dimension = question.if_contains("active")) {
    return task.space.is_active(dimension->to_number<std::size_t>(), to_point(question.at("point")));
  }
  if (const auto* trial = question.if_contains("duration")) {
    return duration(question.at("of").to_number<std::uint64_t>(), trial->to_number<std::uint64_t>());
  }
  return task.evaluate(to_point(question.at("value")));
}

/// Functions, the tree, and the tables of folder `tables` where there are some.
std::vector<SearchTask> all_tasks(const std::filesystem::path& tables) {
  std::vector<SearchTask> tasks = function_tasks();
  tasks.push_back(jenatton_task());
  for (SearchTask& task : table_tasks(tables)) tasks.push_back(std::move(task));
  return tasks;
}

int main_with(const Options& options) {
  const auto tasks = all_tasks(options.at("tables"));
  if (const auto served = options.find("serve"); served != options.end()) {
    const SearchTask& task = task_named(tasks, served->second);
    std::cout << json::serialize(describe(task)) << std::endl;
    for (std::string line; std::getline(std::cin, line);) {
      std::cout << json::serialize(answer(task, json::parse(line).as_object())) << std::endl;
    }
  } else if (const auto method = options.find("cost"); method != options.end()) {
    cost(method->second, std::stoll(options.at("trials")));
  } else {
    const std::string wanted = "," + options.at("tasks") + ",";
    for (const SearchTask& task : tasks) {
      if (wanted == ",all," || wanted.find("," + task.name + ",") != std::string::npos) compare(task, options);
    }
  }
  return 0;
}

}  // namespace
}  // namespace tugline::sweep

int main(int argc, char** argv) {
  tugline::sweep::Options options{{"method", "auto"}, {"tasks", "all"}, {"seeds", "30"}, {"first-seed", "0"}, {"trials", "100"},
                                  {"workers", "1"},
                                  {"tables", "build/search-tables"}};
  for (int i = 1; i + 1 < argc; i += 2) options[std::string(argv[i]).substr(2)] = argv[i + 1];
  try {
    return tugline::sweep::main_with(options);
  } catch (const std::exception& error) {
    std::cerr << "bench_search: " << error.what() << "\n";
    return 1;
  }
}
