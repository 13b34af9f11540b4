// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/search/gp.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "tugline/core/error.hpp"
#include "tugline/core/random.hpp"
#include "tugline/trainers/sweep/search/acquisition.hpp"
#include "tugline/trainers/sweep/search/gaussian_process.hpp"
#include "tugline/trainers/sweep/search/gp_fit.hpp"
#include "tugline/trainers/sweep/search/point_encoding.hpp"

namespace tugline::sweep {
namespace {

constexpr std::int64_t kStartup = 10;                         // trials that are not chosen by the process
constexpr std::size_t kLeastFinished = 4;
constexpr std::size_t kMostPoints = 300, kMostFitted = 150;   // the cost of a suggestion grows with their cube
constexpr std::size_t kPromising = 5;
constexpr int kAttempts = 10000;
constexpr std::uint64_t kProposals = std::uint64_t{1} << 32;   // a stream beside those of Space::draw

class GpSearch : public Search {
 public:
  GpSearch(const Space& space, std::uint64_t seed, Startup startup)
      : space_(space), encoding_(space), seed_(seed), startup_(std::move(startup)) {}

  Point suggest(std::int64_t number, std::span<const Observation> history) override;

 private:
  Point draw(std::int64_t number, const PointSet& taken) const;

  const Space& space_;
  PointEncoding encoding_;
  std::uint64_t seed_;
  Startup startup_;
};

/// The finished trials to learn from, best first; failed ones have the worst value.
struct Lessons {
  std::vector<Point> points;
  std::vector<double> values;

  Lessons(std::span<const Observation> history, std::size_t most);
};

Lessons::Lessons(std::span<const Observation> history, std::size_t most) {
  std::vector<Observation> finished;
  double worst = -std::numeric_limits<double>::infinity();
  for (const Observation& observation : history) {
    if (observation.is_running()) continue;
    finished.push_back(observation);
    if (!observation.has_failed()) worst = std::max(worst, observation.value);
  }
  for (Observation& observation : finished) {
    if (observation.has_failed()) observation.value = std::isinf(worst) ? 0 : worst;
  }
  std::stable_sort(finished.begin(), finished.end(), [](const auto& a, const auto& b) { return a.value < b.value; });
  if (finished.size() > most) {   // half of them the best, the rest the newest
    const auto kept = finished.begin() + static_cast<std::ptrdiff_t>(most / 2);
    std::stable_sort(kept, finished.end(), [](const auto& a, const auto& b) { return a.number > b.number; });
    finished.resize(most);
    std::stable_sort(kept, finished.end(), [](const auto& a, const auto& b) { return a.value < b.value; });
  }
  for (const Observation& observation : finished) {
    points.push_back(observation.point);
    values.push_back(observation.value);
  }
}

Point GpSearch::draw(std::int64_t number, const PointSet& taken) const {
  Point allowed;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    Point point = space_.draw(seed_, number, attempt);
    if (space_.is_forbidden(point)) continue;
    if (!taken.contains(point)) return point;
    if (allowed.empty()) allowed = std::move(point);
  }
  if (allowed.empty()) throw ConfigError("the search space seems to be forbidden altogether: no point is allowed among many drawn from it");
  return allowed;
}

Vector vector_of(const std::vector<double>& values) { return Eigen::Map<const Vector>(values.data(), static_cast<Eigen::Index>(values.size())); }

Point GpSearch::suggest(std::int64_t number, std::span<const Observation> history) {
  PointSet taken;
  std::vector<Point> running;
  for (const Observation& observation : history) {
    taken.insert(observation.point);
    if (observation.is_running()) running.push_back(observation.point);
  }
  const Lessons lessons(history, kMostPoints);
  if (number < kStartup || lessons.points.size() < kLeastFinished) return startup_ ? startup_(number) : draw(number, taken);
  const Matrix x = encoding_.encode(lessons.points);
  const Lessons sample(history, kMostFitted);
  const Hyperparameters learned = fit(encoding_.layout(), TrainingSet(encoding_.encode(sample.points), vector_of(sample.values)));
  const TrainingSet data(x, vector_of(lessons.values));
  GaussianProcess process(learned, data.x, OutputWarp(data.values, learned.bend()).t);
  if (!running.empty()) process = process.with_believed(encoding_.encode(running));
  std::vector<Point> known = lessons.points;
  known.insert(known.end(), running.begin(), running.end());
  const double best = process.at(encoding_.encode(known)).mean.minCoeff();
  Random random(seed_, Purpose::search, static_cast<std::uint64_t>(number), kProposals);
  const std::size_t promising = std::min(kPromising, lessons.points.size());
  Point found = AcquisitionSearch(space_, encoding_, process, best, taken).maximise(std::span(lessons.points.data(), promising), random);
  return found.empty() ? draw(number, taken) : found;
}

}  // namespace

std::unique_ptr<Search> make_gp(const Space& space, std::uint64_t seed, Startup startup) {
  return std::make_unique<GpSearch>(space, seed, std::move(startup));
}

}  // namespace tugline::sweep
