// SPDX-License-Identifier: Apache-2.0
#include <xxhash.h>

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <sstream>
#include <system_error>

#include "tugline/core/error.hpp"
#include "tugline/trainers/sweep/space/rules.hpp"
#include "tugline/trainers/sweep/space/section.hpp"
#include "tugline/trainers/sweep/space/sweep_config.hpp"

namespace tugline::sweep {
namespace {

namespace fs = std::filesystem;
using config::Allowed;
using config::Tree;

const Allowed kPositive{.min = 1, .choices = {}};

class SweepReader {
 public:
  SweepReader(const Tree& tree, const fs::path& file, config::Problems& problems)
      : file_(file), problems_(problems), root_(&tree, "", problems), tree_(tree) {}

  SweepConfig read() && {
    read_sweep();
    read_objectives();
    read_stop();
    read_search();
    read_run();
    read_repeat();
    read_space();
    root_.finish();
    problems_.throw_if_any();
    return std::move(sweep_);
  }

 private:
  Section section(const char* key) { return Section(root_.find(key), key, problems_); }

  void read_sweep() {
    Section section = this->section("sweep");
    sweep_.name = file_.stem().string();
    section.read("name", sweep_.name);
    std::string dir = (fs::path("runs") / sweep_.name).string();
    section.read("dir", dir);
    if (dir.empty()) section.problem(section.place("dir"), "dir", "expected a folder, found nothing");
    sweep_.dir = dir;
    section.read("seed", sweep_.seed);
    of_config_ = section.has("base");
    if (section.read("base", sweep_.base_text)) {
      sweep_.base = fs::absolute(file_.parent_path() / sweep_.base_text).lexically_normal();
      std::error_code ignored;
      if (!fs::is_regular_file(*sweep_.base, ignored)) {
        section.problem(section.place("base"), "base", fmt::format("there is no file '{}'", sweep_.base->string()));
      } else {
        sweep_.base_digest = digest_of_base(*sweep_.base);
      }
    }
    section.finish();
  }

  void read_objectives() {
    const Tree* list = root_.find("objectives");
    if (list == nullptr) {
      sweep_.objectives = {{.metric = of_config_ ? "val/loss" : "value"}};
      return;
    }
    if (list->kind != Tree::Kind::list || list->children.empty()) {
      const std::string what = list->kind == Tree::Kind::list ? "an empty one" : found(*list);
      return problems_.add(list->place, "objectives", fmt::format("expected a list such as [{{metric: val/error}}], found {}", what));
    }
    for (const Tree& one : list->children) read_objective(one);
    const auto weighs = [](const Objective& one) { return one.weight > 0; };
    if (std::ranges::any_of(sweep_.objectives, weighs)) return;
    problems_.add(list->place, "objectives", "at least one weight must be greater than 0");
  }

  void read_objective(const Tree& tree) {
    static const Allowed kMetrics{.choices = {"train/loss", "train/accuracy", "train/error", "val/loss", "val/accuracy", "val/error",
                                              "test/loss", "test/accuracy", "test/error", "cost/seconds"}};
    Section section(&tree, fmt::format("objectives[{}]", sweep_.objectives.size()), problems_);
    Objective objective;
    const bool named = section.read("metric", objective.metric, of_config_ ? kMetrics : Allowed{});
    if (!section.has("metric")) section.problem(tree.place, "metric", "expected the name of a metric, found nothing");
    const auto same = std::ranges::find(sweep_.objectives, objective.metric, &Objective::metric);
    if (named && same != sweep_.objectives.end()) section.problem(section.place("metric"), "metric", "stands here twice");
    std::string goal = objective.metric.ends_with("accuracy") ? "max" : "min";
    section.read("goal", goal, {.choices = {"min", "max"}});
    objective.maximise = goal == "max";
    section.read("weight", objective.weight, {.min = 0, .choices = {}});
    section.finish();
    sweep_.objectives.push_back(objective);
  }

  void read_stop() {
    Section section = this->section("stop");
    StopSettings& stop = sweep_.stop;
    std::string unit;
    const bool ruled = section.read("rule", stop.rule, {.choices = {"none", "median", "asha"}}) || !section.has("rule");
    section.read("unit", unit, {.choices = {"epoch"}});
    section.read("min", stop.min, kPositive);
    section.read("max", stop.max, kPositive);
    section.read("eta", stop.eta, {.min = 2, .choices = {}});
    section.read("warmup_trials", stop.warmup_trials, {.min = 0, .choices = {}});
    section.finish();
    if (!ruled) return;
    constexpr std::pair<std::string_view, std::string_view> kRulesOf[] = {
        {"min", "median asha"}, {"max", "asha"}, {"eta", "asha"}, {"warmup_trials", "median"}};
    for (const auto& [key, rules] : kRulesOf) {
      const bool belongs = rules.find(stop.rule) != rules.npos;
      if (section.has(key) && !belongs) section.problem(section.place(key), key, fmt::format("rule {} has no such setting", stop.rule));
    }
    const auto is_shown = [](const Objective& one) { return one.weight == 0 || one.metric.starts_with("val/"); };
    if (stop.rule == "median" && (!of_config_ || !std::ranges::all_of(sweep_.objectives, is_shown))) {
      section.problem(section.place("rule"), "rule", "median compares objectives while trials run: it needs sweep.base, and objectives of val/ alone");
    }
    if (stop.rule != "asha") return;
    if (!section.has("max")) section.problem(section.place("rule"), "max", "asha needs it: the epochs of a whole trial");
    if (stop.max == 0 || stop.max >= stop.min) return;
    section.problem(section.place("max"), "max", fmt::format("is less than min, which is {}", stop.min));
  }

  void read_search() {
    Section search = section("search");
    search.read("method", sweep_.method, {.choices = {"auto", "grid", "random", "sobol", "tpe", "gp", "regevo"}});
    search.finish();
    Section budget = section("budget");
    budget.read("trials", sweep_.trials, kPositive);
    budget.finish();
  }

  void read_run() {
    Section section = this->section("run");
    section.read("ranks_per_trial", sweep_.run.ranks_per_trial, kPositive);
    section.read("max_attempts", sweep_.run.max_attempts, kPositive);
    section.read("mpirun", sweep_.run.mpirun);
    section.read_duration("lease", sweep_.run.lease_seconds);
    double timeout = 0;
    if (section.read_duration("timeout", timeout)) sweep_.run.timeout_seconds = timeout;
    section.finish();
  }

  void read_repeat() {
    Section section = this->section("repeat");
    std::string mode = "none";
    std::int64_t lag = 16;
    const bool known = section.read("mode", mode, {.choices = {"none", "lag"}});
    section.read("lag", lag, kPositive);
    section.finish();
    if (mode == "lag") sweep_.lag = lag;
    if (section.has("lag") && mode == "none" && (known || !section.has("mode"))) {
      section.problem(section.place("lag"), "lag", "is a setting of mode: lag");
    }
  }

  void read_space() {
    const Tree* space = root_.find("space");
    const Tree* forbid = root_.find("forbid");
    const Tree* first = root_.find("first");
    if (space == nullptr || space->kind != Tree::Kind::map || space->children.empty()) {
      const std::string what = space == nullptr || space->kind == Tree::Kind::map ? "nothing" : found(*space);
      return problems_.add(space == nullptr ? tree_.place : space->place, "space", fmt::format("expected keys to search, found {}", what));
    }
    std::vector<ReadParameter> parameters = read_parameters(*space, of_config_, problems_);
    for (ReadParameter& one : parameters) {
      if (sweep_.stop.rule != "asha" || one.tree->key != "train.epochs" || !of_config_) continue;
      problems_.add(one.tree->key_place, one.tree->key, "is set by stop.max");
      one.broken = true;
    }
    Rules rules = read_rules(parameters, forbid, problems_);
    sweep_.first = read_first(first, rules, parameters, problems_);
    if (!problems_.empty()) return;
    for (ReadParameter& one : parameters) sweep_.parameters.push_back(std::move(one.parameter));
    if (forbid != nullptr) {
      for (const Tree& one : forbid->children) sweep_.forbid.push_back(one.text);
    }
    sweep_.space = make_space(std::move(rules));
  }

  const fs::path file_;
  config::Problems& problems_;
  Section root_;
  const Tree& tree_;
  bool of_config_ = false;   // there is a base
  SweepConfig sweep_;
};

}  // namespace

std::string digest_of_base(const fs::path& base) {
  std::ifstream in(base, std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(in), {});
  return fmt::format("{:016x}", XXH3_64bits(bytes.data(), bytes.size()));
}

SweepConfig parse_sweep(const std::string& yaml, const std::string& name) {
  config::Problems problems;
  const std::optional<Tree> tree = config::read_yaml(yaml, name, 0, problems);
  if (!tree) problems.throw_if_any();
  return SweepReader(*tree, name, problems).read();
}

SweepConfig load_sweep(const fs::path& file) {
  errno = 0;
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  if (in) text << in.rdbuf();
  if (!in) {
    const std::string why = std::generic_category().message(errno != 0 ? errno : EIO);
    throw ConfigError(fmt::format("cannot read the sweep '{}': {}", file.string(), why));
  }
  return parse_sweep(text.str(), file.string());
}

}  // namespace tugline::sweep
