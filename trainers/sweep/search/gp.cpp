// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/search/gp.hpp"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "tugline/core/random.hpp"
#include "tugline/trainers/sweep/search/acquisition.hpp"
#include "tugline/trainers/sweep/search/gaussian_process.hpp"
#include "tugline/trainers/sweep/search/gp_fit.hpp"
#include "tugline/trainers/sweep/search/point_encoding.hpp"
#include "tugline/trainers/sweep/search/untried.hpp"

namespace tugline::sweep {
namespace {

constexpr std::int64_t kStartup = 10;                          // trials that are not chosen by the process
constexpr std::size_t kLeastFinished = 4;
constexpr std::size_t kMostPoints = 300, kMostFitted = 150;    // the cost of a suggestion grows with their cubes
constexpr std::size_t kPromising = 5;                          // of the best points: what is looked around of
constexpr std::int64_t kExplores = 4;                          // every so many trials one does
/// Of the best point: where one of those looks, and all but the one that explores where several others run. What is believed of running
/// trials leaves most to gain far away: they would all explore, and none would learn which way is down.
constexpr double kReach = 0.2;
constexpr std::size_t kSeveral = 2;
constexpr std::int64_t kProbes = 256;                          // points that tell how little is known anywhere
constexpr std::uint64_t kProposals = std::uint64_t{1} << 32;   // a stream beside those of Space::draw

/// The finished trials to learn from, best first; failed ones have the worst value.
struct Lessons {
  std::vector<Point> points;
  Vector values;

  explicit Lessons(std::span<const Observation> history);
};

/// The trials that have ended; if they are too many half of them are the best, the others the newest.
std::vector<Observation> worth_learning(std::span<const Observation> history) {
  std::vector<Observation> finished;
  std::copy_if(history.begin(), history.end(), std::back_inserter(finished), [](const auto& trial) { return !trial.is_running(); });
  const auto by_value = [](const Observation& a, const Observation& b) { return a.value < b.value; };
  std::stable_sort(finished.begin(), finished.end(), by_value);
  if (finished.size() <= kMostPoints) return finished;
  const auto kept = finished.begin() + kMostPoints / 2;
  std::sort(kept, finished.end(), [](const auto& a, const auto& b) { return a.number > b.number; });
  finished.resize(kMostPoints);
  std::stable_sort(kept, finished.end(), by_value);
  return finished;
}

Lessons::Lessons(std::span<const Observation> history) {
  const std::vector<Observation> trials = worth_learning(history);
  values.resize(static_cast<Eigen::Index>(trials.size()));
  double worst = 0;   // of those before, which are no worse
  for (std::size_t i = 0; i < trials.size(); ++i) {
    if (!trials[i].has_failed()) worst = trials[i].value;
    points.push_back(trials[i].point);
    values[static_cast<Eigen::Index>(i)] = worst;
  }
}

/// Every k-th of them: a sample of good and bad ones, the best among them.
TrainingSet thinned(const TrainingSet& data) {
  TrainingSet sample = data;
  const Eigen::Index n = data.values.size(), most = std::min<Eigen::Index>(n, kMostFitted);
  for (Eigen::Index i = 0; i < most; ++i) {
    sample.x.row(i) = data.x.row(i * n / most);
    sample.values[i] = data.values[i * n / most];
  }
  sample.x.conservativeResize(most, Eigen::NoChange);
  sample.values.conservativeResize(most);
  return sample;
}

class GpSearch : public Search {
 public:
  GpSearch(const Space& space, std::uint64_t seed, Startup startup)
      : space_(space), encoding_(space), seed_(seed), startup_(std::move(startup)) {}

  Point suggest(std::int64_t number, std::span<const Observation> history) override;

 private:
  Point start(std::int64_t number, const PointSet& taken) const;
  double aim(std::int64_t number, const GaussianProcess& process, const std::vector<Point>& known) const;

  const Space& space_;
  PointEncoding encoding_;
  std::uint64_t seed_;
  Startup startup_;
};

/// A startup knows no history: in a small space it comes back to points that were tried.
Point GpSearch::start(std::int64_t number, const PointSet& taken) const {
  Point point = startup_ ? startup_(number) : Point{};
  return point.empty() || taken.contains(point) ? untried(space_, seed_, number, taken) : point;
}

/// What a new point is to improve on. Now and then it is more than the best: a process that is too sure of itself sees nothing to gain but
/// close to the best, and would never learn better (Jones 2001, "A taxonomy of global optimization methods based on response surfaces").
double GpSearch::aim(std::int64_t number, const GaussianProcess& process, const std::vector<Point>& known) const {
  const double best = process.at(encoding_.encode(known)).mean.minCoeff();
  if (number % kExplores != 0) return best;
  std::vector<Point> probes;
  for (std::int64_t i = 0; i < kProbes; ++i) probes.push_back(space_.draw(~seed_, i));
  return best - process.at(encoding_.encode(probes)).deviation.maxCoeff();
}

Point GpSearch::suggest(std::int64_t number, std::span<const Observation> history) {
  PointSet taken;
  std::vector<Point> running;
  for (const Observation& trial : history) {
    taken.insert(trial.point);
    if (trial.is_running()) running.push_back(trial.point);
  }
  const Lessons lessons(history);
  if (number < kStartup || lessons.points.size() < kLeastFinished) return start(number, taken);
  const TrainingSet data(encoding_.encode(lessons.points), lessons.values);
  const Hyperparameters learned = fit(encoding_.layout(), thinned(data));
  const GaussianProcess finished(learned, data.x, OutputWarp(data.values, learned.bend()).t);
  const GaussianProcess process = running.empty() ? finished : finished.with_believed(encoding_.encode(running));
  std::vector<Point> known = lessons.points;
  known.insert(known.end(), running.begin(), running.end());
  const std::span promising(lessons.points.data(), std::min(kPromising, lessons.points.size()));
  Random random(seed_, Purpose::search, static_cast<std::uint64_t>(number), kProposals);
  const double best = aim(number, process, known);
  const auto look_in = [&](Region region) {
    return AcquisitionSearch(space_, encoding_, process, best, taken, std::move(region)).maximise(promising, random);
  };
  const bool knows_better = lessons.values[0] < lessons.values[lessons.values.size() - 1];
  Point found;
  if (knows_better && number % kExplores >= (running.size() < kSeveral ? kExplores - 1 : 1)) {
    Eigen::Index centre = 0;
    finished.at(data.x).mean.minCoeff(&centre);   // not the least value, which may be luck
    found = look_in(around(space_, lessons.points[static_cast<std::size_t>(centre)], kReach));
  }
  if (found.empty()) found = look_in(whole(space_));
  return found.empty() ? untried(space_, seed_, number, taken) : found;
}

}  // namespace

std::unique_ptr<Search> make_gp(const Space& space, std::uint64_t seed, Startup startup) {
  return std::make_unique<GpSearch>(space, seed, std::move(startup));
}

}  // namespace tugline::sweep
