// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/report.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <tuple>
#include <utility>
#include <variant>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tugline/trainers/sweep/space/exact_number.hpp"
#include "tugline/trainers/sweep/space/points.hpp"
#include "tugline/trainers/sweep/trial_run.hpp"

namespace tugline::sweep {
namespace {

std::string value_text(const Dimension& dimension, double value) {
  if (std::isnan(value)) return "-";
  const bool named = dimension.kind == Dimension::Kind::ordinal || dimension.kind == Dimension::Kind::choice;
  return named ? dimension.values[static_cast<std::size_t>(value)] : fmt::format("{:.4g}", value);
}

std::string point_text(const Space& space, const Point& point) {
  std::string text;
  for (std::size_t d = 0; d < space.size(); ++d) {
    if (std::isnan(point[d])) continue;
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", space.dimensions()[d].key, value_text(space.dimensions()[d], point[d]));
  }
  return text;
}

std::string shown(double value) { return std::isfinite(value) ? fmt::format("{:.5g}", value) : "-"; }

std::string state_of(const Job& job, const JobRecord& record, bool goes_on) {
  if (job.state == Job::State::damaged) return "damaged";
  if (record.outcome() != nullptr) {
    return goes_on && record.outcome()->state == Outcome::State::done ? "paused" : std::string(name_of(record.outcome()->state));
  }
  return job.state == Job::State::open ? "waiting" : "running";
}

/// Of one objective the metric itself, of several the weighted sum that is made small.
double metric_of(std::span<const Objective> objectives, double value) {
  const Objective* only = nullptr;
  for (const Objective& objective : objectives) {
    if (objective.weight == 0) continue;
    if (only != nullptr) return value;
    only = &objective;
  }
  return only == nullptr || !std::isfinite(value) ? value : value / (only->maximise ? -only->weight : only->weight);
}

std::vector<Objective> reweighted(std::vector<Objective> objectives, const std::map<std::string, double>& weights) {
  for (const auto& [metric, weight] : weights) {
    const auto known = std::find_if(objectives.begin(), objectives.end(), [&](const Objective& objective) { return objective.metric == metric; });
    if (known != objectives.end()) known->weight = weight;
    else objectives.push_back({metric, metric.ends_with("accuracy"), weight});
  }
  return objectives;
}

std::string row_text(const Space& space, const TrialRow& row, double value) {
  return fmt::format("{:>6}  {:<9} {:>6}  {:>10}  {:>7}  {}\n", row.trial, row.state, row.epochs > 0 ? fmt::format("{:g}", row.epochs) : "-",
                     shown(value), row.retries, point_text(space, row.point));
}

const std::string kHead = fmt::format("{:>6}  {:<9} {:>6}  {:>10}  {:>7}  {}\n", "trial", "state", "epochs", "value", "retries", "point");

std::map<std::string, int> count_states(const std::vector<TrialRow>& rows) {
  std::map<std::string, int> states;
  for (const TrialRow& row : rows) ++states[row.state];
  return states;
}

/// What a person reads of an error; the whole of it is in the trial's folder.
std::string shortened(const std::string& why) {
  constexpr std::size_t kShown = 160;
  return why.size() <= kShown ? why : why.substr(0, kShown - 4) + " ...";
}

/// As a shell takes it.
std::string shell_text(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += ' ';
    const bool plain = !word.empty() && std::all_of(word.begin(), word.end(), [](unsigned char c) { return std::isalnum(c) != 0 || std::strchr("_./=:,+@%-", c) != nullptr; });
    if (plain) {
      text += word;
      continue;
    }
    text += '\'';
    for (const char c : word) text += c == '\'' ? "'\\''" : std::string(1, c);
    text += '\'';
  }
  return text;
}

std::string absolute(const SweepFolder& folder) { return std::filesystem::absolute(folder.sweep().dir).lexically_normal().string(); }

}  // namespace

std::vector<TrialRow> trial_rows(const SweepFolder& folder, const std::map<std::string, double>& weights) {
  const SweepConfig& sweep = folder.sweep();
  const std::vector<Objective> objectives = reweighted(sweep.objectives, weights);
  std::map<std::int64_t, TrialRow> rows;
  const auto jobs = folder.jobs();
  for (std::size_t j = 0; j < jobs.size(); ++j) {
    const Job& job = folder.job(static_cast<std::int64_t>(j));
    if (jobs[j].decision.is_lost()) continue;
    auto [place, is_new] = rows.try_emplace(jobs[j].decision.trial);
    TrialRow& row = place->second;
    row.trial = jobs[j].decision.trial;
    row.point = jobs[j].decision.point;
    row.attempts += job.attempts;
    row.retries += job.attempts - 1;
    const bool goes_on = sweep.stop.rule == "asha" && jobs[j].decision.until < sweep.stop.max;
    row.state = state_of(job, jobs[j], goes_on);
    if (is_new) row.value = std::numeric_limits<double>::infinity();
    if (jobs[j].outcome() == nullptr) continue;
    row.outcome = *jobs[j].outcome();
    row.epochs = std::max(row.epochs, row.outcome.epochs);
    const double value = score(objectives, row.outcome);
    if (std::isfinite(value)) row.value = value;
  }
  std::vector<TrialRow> result;
  for (auto& [trial, row] : rows) result.push_back(std::move(row));
  return result;
}

std::vector<TrialRow> ranked(std::vector<TrialRow> rows) {
  std::erase_if(rows, [](const TrialRow& row) { return !std::isfinite(row.value); });
  std::sort(rows.begin(), rows.end(), [](const TrialRow& a, const TrialRow& b) {
    return std::tuple(-a.epochs, a.value, a.trial) < std::tuple(-b.epochs, b.value, b.trial);
  });
  return rows;
}

std::string plan_text(SweepFolder& folder) {
  const SweepConfig& sweep = folder.sweep();
  const std::int64_t trials_in_all = folder.planner().trials();
  std::string text = fmt::format("sweep {}: {} trials by {} in {}\n", sweep.name, trials_in_all, sweep.method, absolute(folder));
  for (const Dimension& dimension : sweep.space.dimensions()) {
    const bool named = !dimension.values.empty();
    text += fmt::format("  {:<24} {}{}{}\n", dimension.key,
                        named ? fmt::format("{}", fmt::join(dimension.values, " | ")) : fmt::format("{:g} .. {:g}", dimension.low, dimension.high),
                        dimension.log ? ", log" : "", dimension.parents.empty() ? "" : ", conditional");
  }
  for (const Objective& objective : sweep.objectives) {
    text += fmt::format("  objective {} {}, weight {:g}\n", objective.maximise ? "max" : "min", objective.metric, objective.weight);
  }
  if (sweep.stop.rule == "asha") {
    const SuccessiveHalving halving(sweep.stop, sweep.objectives);
    std::int64_t epochs = 0, trials = trials_in_all;
    for (int rung = 0; rung < halving.rungs(); ++rung, trials /= sweep.stop.eta) {
      const std::int64_t more = halving.epochs_at(rung) - (rung > 0 ? halving.epochs_at(rung - 1) : 0);
      text += fmt::format("  rung {}: about {} trials to epoch {}\n", rung, trials, halving.epochs_at(rung));
      epochs += trials * more;
    }
    text += fmt::format("  about {} epochs; all trials to the end would be {}\n", epochs, trials_in_all * sweep.stop.max);
  }
  text += fmt::format("  {} rank{} a trial, at most {} attempts, lease {:g} s\n", sweep.run.ranks_per_trial, sweep.run.ranks_per_trial == 1 ? "" : "s",
                      sweep.run.max_attempts, sweep.run.lease_seconds);
  return text;
}

std::string status_text(SweepFolder& folder) {
  const auto rows = trial_rows(folder);
  if (rows.empty()) return fmt::format("sweep {}: no trial has begun in {}\n", folder.sweep().name, absolute(folder));
  const bool over = std::all_of(folder.jobs().begin(), folder.jobs().end(), [](const JobRecord& job) { return job.ended; }) &&
                    std::holds_alternative<Planner::Finished>(folder.planner().next(folder.jobs()));
  std::string text = fmt::format("sweep {} in {}\n{}{} of {} trials begun", folder.sweep().name, absolute(folder), over ? "finished: " : "", rows.size(),
                                 folder.planner().trials());
  for (const auto& [state, count] : count_states(rows)) text += fmt::format(", {} {}", count, state);
  text += "\n" + kHead;
  for (const TrialRow& row : rows) text += row_text(folder.sweep().space, row, metric_of(folder.sweep().objectives, row.value));
  for (std::size_t j = 0; j < folder.jobs().size(); ++j) {
    const Job& job = folder.job(static_cast<std::int64_t>(j));
    if (!job.damage.empty()) text += fmt::format("damaged: {}\n", job.damage);
  }
  for (const TrialRow& row : rows) {
    if (!row.outcome.why.empty()) text += fmt::format("trial {}: {}\n", row.trial, shortened(row.outcome.why));
  }
  return text;
}

std::string progress_text(const SweepFolder& folder) {
  const auto rows = trial_rows(folder);
  std::map<std::string, int> states = count_states(rows);
  std::string text = fmt::format("{}/{} trials", rows.size(), folder.planner().trials());
  if (const auto running = states.extract("running"); !running.empty()) text += fmt::format("  {} running", running.mapped());
  for (const auto& [state, count] : states) text += fmt::format("  {} {}", count, state);
  const auto best = ranked(rows);
  if (!best.empty()) text += fmt::format("  best {} (trial {})", shown(metric_of(folder.sweep().objectives, best.front().value)), best.front().trial);
  return text;
}

std::string best_text(const SweepFolder& folder) {
  const auto rows = ranked(trial_rows(folder));
  if (rows.empty()) return "no trial has a value yet\n";
  const TrialRow& best = rows.front();
  std::string text = fmt::format("trial {}  value {}  epochs {:g}\n", best.trial, shown(metric_of(folder.sweep().objectives, best.value)), best.epochs);
  for (const auto& [metric, value] : best.outcome.metrics) text += fmt::format("  {} {:.6g}\n", metric, value);
  if (!best.outcome.folder.empty()) text += fmt::format("  {}\n", (folder.sweep().dir / best.outcome.folder).string());
  if (folder.sweep().base) text += fmt::format("  {}\n", shell_text(training_command(folder.sweep(), best.point, "tugline")));
  return text;
}

std::string rank_text(const SweepFolder& folder, const std::map<std::string, double>& weights, std::size_t count) {
  std::string text = kHead;
  const auto objectives = reweighted(folder.sweep().objectives, weights);
  const auto rows = ranked(trial_rows(folder, weights));
  for (std::size_t i = 0; i < std::min(rows.size(), count); ++i) text += row_text(folder.sweep().space, rows[i], metric_of(objectives, rows[i].value));
  return text;
}

std::string export_csv(const SweepFolder& folder) {
  const auto rows = trial_rows(folder);
  const auto quoted = [](const std::string& text) {   // RFC 4180
    if (text.find_first_of(",\"\r\n") == text.npos) return text;
    std::string doubled = "\"";
    for (const char c : text) doubled += c == '"' ? "\"\"" : std::string(1, c);
    return doubled + '"';
  };
  std::set<std::string> metrics;
  for (const TrialRow& row : rows) {
    for (const auto& [metric, value] : row.outcome.metrics) metrics.insert(metric);
  }
  std::string text = "trial,state,epochs,value,attempts";
  for (const Dimension& dimension : folder.sweep().space.dimensions()) text += "," + quoted(dimension.key);
  for (const std::string& metric : metrics) text += "," + quoted(metric);
  text += "\n";
  for (const TrialRow& row : rows) {
    text += fmt::format("{},{},{:g},{},{}", row.trial, row.state, row.epochs, std::isfinite(row.value) ? exact_text(metric_of(folder.sweep().objectives, row.value)) : "", row.attempts);
    for (std::size_t d = 0; d < row.point.size(); ++d) {
      const Dimension& dimension = folder.sweep().space.dimensions()[d];
      text += "," + (std::isnan(row.point[d]) ? "" : dimension.values.empty() ? exact_text(row.point[d]) : quoted(value_text(dimension, row.point[d])));
    }
    for (const std::string& metric : metrics) {
      const auto value = row.outcome.metrics.find(metric);
      text += "," + (value == row.outcome.metrics.end() ? "" : exact_text(value->second));
    }
    text += "\n";
  }
  return text;
}

std::string export_jsonl(const SweepFolder& folder) {
  std::string text;
  for (const TrialRow& row : trial_rows(folder)) {
    boost::json::object metrics;
    for (const auto& [metric, value] : row.outcome.metrics) metrics[metric] = value;
    boost::json::object line{{"trial", row.trial}, {"state", row.state}, {"epochs", row.epochs}, {"attempts", row.attempts},
                             {"point", plain_values(folder.sweep().space, row.point)}, {"metrics", std::move(metrics)}};
    line["value"] = std::isfinite(row.value) ? boost::json::value(metric_of(folder.sweep().objectives, row.value)) : boost::json::value(nullptr);
    if (!row.outcome.why.empty()) line["why"] = row.outcome.why;
    text += boost::json::serialize(line) + "\n";
  }
  return text;
}

std::vector<std::string> NewEnds::lines() {
  folder_.refresh();
  std::vector<std::string> lines;
  const auto rows = trial_rows(folder_);
  const auto best = ranked(rows);
  told_.resize(folder_.jobs().size());
  for (std::size_t j = 0; j < told_.size(); ++j) {
    const JobRecord& job = folder_.jobs()[j];
    const Told before = std::exchange(told_[j], {job.ends.size(), job.decision.is_lost() && job.ended});
    if (told_[j].is_lost && !before.is_lost) lines.push_back(fmt::format("job {}: {}", j, job.ends.back().why));
    if (job.decision.is_lost() || job.ends.size() <= before.ends) continue;
    const Outcome& end = job.ends.back();
    const double value = metric_of(folder_.sweep().objectives, score(folder_.sweep().objectives, end));
    const bool is_best = !best.empty() && best.front().trial == job.decision.trial;
    lines.push_back(fmt::format("trial {:>4}  {:<9} epoch {:<4g} {:>9}{}  {}", job.decision.trial, name_of(end.state), end.epochs, shown(value),
                                is_best ? " best" : "     ", point_text(folder_.sweep().space, job.decision.point)));
    if (!end.why.empty()) lines.push_back("            " + shortened(end.why));
  }
  return lines;
}

}  // namespace tugline::sweep
