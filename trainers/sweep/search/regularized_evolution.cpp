// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/search/regularized_evolution.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "tugline/trainers/sweep/search/acquisition.hpp"
#include "tugline/trainers/sweep/search/gaussian_process.hpp"
#include "tugline/trainers/sweep/search/gp_fit.hpp"
#include "tugline/trainers/sweep/search/log_expected_improvement.hpp"
#include "tugline/trainers/sweep/search/point_encoding.hpp"
#include "tugline/trainers/sweep/search/untried.hpp"

namespace tugline::sweep {
namespace {

constexpr std::int64_t kStartup = 10;        // trials that have no parents
constexpr std::size_t kLeastParents = 4;
constexpr std::size_t kTournament = 10;
constexpr std::size_t kChildren = 500;       // that are screened
constexpr double kAgain = 0.5;               // chance of one more change
constexpr std::size_t kLessons = 150;        // newest trials that the process learns from: its cost grows with their cube
constexpr std::uint64_t kBirths = std::uint64_t{1} << 33;   // a stream beside those of Space::draw

/// A number's new place on its scale, reflected at the ends: steps are of every size from a two hundredth to half of the scale, or to the
/// next value at least.
double stepped(const Dimension& dimension, double unit, Random& random) {
  const double cell = dimension.levels() > 0 ? 1 / static_cast<double>(dimension.levels()) : 0;
  const double size = 0.5 * std::pow(10.0, -2 * random.uniform());
  const double step = size * random.normal();
  const double there = std::fmod(std::abs(unit + step + std::copysign(cell, step)), 2.0);
  return std::min(there, 2 - there);
}

double changed(const Dimension& dimension, double value, Random& random) {
  double other = value;
  while (other == value) {
    other = dimension.kind == Dimension::Kind::choice ? static_cast<double>(random.below(static_cast<std::uint64_t>(dimension.levels())))
                                                      : from_unit(dimension, stepped(dimension, to_unit(dimension, value), random));
  }
  return other;
}

/// The newest trials that have ended; failed ones have the worst value of all. One at least has ended well.
std::vector<Observation> lessons_of(std::span<const Observation> history) {
  double worst = -std::numeric_limits<double>::infinity();
  for (const Observation& trial : history) {
    if (!trial.is_running() && !trial.has_failed()) worst = std::max(worst, trial.value);
  }
  std::vector<Observation> lessons;
  for (auto trial = history.rbegin(); trial != history.rend() && lessons.size() < kLessons; ++trial) {
    if (trial->is_running()) continue;
    lessons.push_back(*trial);
    if (trial->has_failed()) lessons.back().value = worst;
  }
  return lessons;
}

/// What the trials so far promise of points that were not tried.
class Screen {
 public:
  Screen(const PointEncoding& encoding, std::span<const Observation> history) : encoding_(encoding), process_(learn(encoding, history)) {
    std::vector<Point> known, running;
    for (const Observation& trial : history) {
      if (trial.is_running()) running.push_back(trial.point);
      known.push_back(trial.point);
    }
    if (!running.empty()) process_ = process_.with_believed(encoding_.encode(running));
    best_ = process_.at(encoding_.encode(known)).mean.minCoeff();
  }

  /// The point that the most improvement is expected of.
  const Point& choose(const std::vector<Point>& points) const {
    const Vector improvement = log_expected_improvement(process_.at(encoding_.encode(points)), best_);
    return points[static_cast<std::size_t>(std::max_element(improvement.begin(), improvement.end()) - improvement.begin())];
  }

 private:
  static GaussianProcess learn(const PointEncoding& encoding, std::span<const Observation> history) {
    std::vector<Point> points;
    const std::vector<Observation> lessons = lessons_of(history);
    Vector values(static_cast<Eigen::Index>(lessons.size()));
    for (std::size_t i = 0; i < lessons.size(); ++i) {
      points.push_back(lessons[i].point);
      values[static_cast<Eigen::Index>(i)] = lessons[i].value;
    }
    const TrainingSet data(encoding.encode(points), values);
    const Hyperparameters learned = fit(encoding.layout(), data);
    return GaussianProcess(learned, data.x, OutputWarp(data.values, learned.bend()).t);
  }

  const PointEncoding& encoding_;
  GaussianProcess process_;
  double best_ = 0;
};

class RegularizedEvolution : public Search {
 public:
  RegularizedEvolution(const Space& space, std::uint64_t seed) : space_(space), encoding_(space), seed_(seed) {}

  Point suggest(std::int64_t number, std::span<const Observation> history) override {
    PointSet taken;
    for (const Observation& trial : history) taken.insert(trial.point);
    const std::vector<Observation> parents = population(history);
    if (number < kStartup || parents.size() < kLeastParents) return untried(space_, seed_, number, taken);
    const std::vector<Point> children = born(number, parents, std::move(taken));
    if (children.size() == 1) return children.front();
    return Screen(encoding_, history).choose(children);
  }

 private:
  /// New points, none of them twice.
  std::vector<Point> born(std::int64_t number, const std::vector<Observation>& parents, PointSet taken) const {
    Random random(seed_, Purpose::search, static_cast<std::uint64_t>(number), kBirths);
    std::vector<Point> children;
    for (std::size_t birth = 0; birth < kChildren; ++birth) {
      Point child = mutant(space_, winner(parents, random).point, random);
      if (!space_.is_forbidden(child) && taken.insert(child).second) children.push_back(std::move(child));
    }
    if (children.empty()) children.push_back(untried(space_, seed_, number, taken));
    return children;
  }

  static const Observation& winner(const std::vector<Observation>& parents, Random& random) {
    const Observation* best = nullptr;
    for (std::size_t drawn = 0; drawn < kTournament; ++drawn) {
      const Observation& other = parents[random.below(parents.size())];
      if (!best || other.value < best->value) best = &other;
    }
    return *best;
  }

  const Space& space_;
  PointEncoding encoding_;
  std::uint64_t seed_;
};

}  // namespace

std::unique_ptr<Search> make_regevo(const Space& space, std::uint64_t seed) { return std::make_unique<RegularizedEvolution>(space, seed); }

std::vector<Observation> population(std::span<const Observation> history) {
  std::vector<Observation> alive;
  for (auto trial = history.rbegin(); trial != history.rend() && alive.size() < kPopulation; ++trial) {
    if (!trial->is_running() && !trial->has_failed()) alive.push_back(*trial);
  }
  std::reverse(alive.begin(), alive.end());
  return alive;
}

Point mutant(const Space& space, const Point& parent, Random& random) {
  Point child = parent;
  std::vector<std::size_t> genes;
  for (std::size_t d = 0; d < space.size(); ++d) {
    const Dimension& dimension = space.dimensions()[d];
    if (std::isnan(parent[d])) {
      child[d] = from_unit(dimension, random.uniform());
    } else if (dimension.high > dimension.low) {
      genes.push_back(d);
    }
  }
  if (genes.empty()) return parent;
  do {
    const auto gene = genes.begin() + static_cast<std::ptrdiff_t>(random.below(genes.size()));
    child[*gene] = changed(space.dimensions()[*gene], child[*gene], random);
    genes.erase(gene);
  } while (!genes.empty() && random.uniform() < kAgain);
  return space.without_inactive(std::move(child));
}

}  // namespace tugline::sweep
