// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/search/acquisition.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "tugline/trainers/sweep/search/log_expected_improvement.hpp"
#include "tugline/trainers/sweep/search/minimise.hpp"

namespace tugline::sweep {
namespace {

constexpr std::size_t kEverywhere = 1000, kNear = 100;   // proposals: of the whole space, and around each promising point
constexpr std::ptrdiff_t kClimbers = 4;                 // of each kind
constexpr std::int64_t kAllPoints = 2048;                // a finite space with no more is looked at whole
constexpr std::int64_t kFewLevels = 32;                  // a whole number with more is climbed like a real one
constexpr int kGradientSteps = 40, kRounds = 3, kChanges = 20;
constexpr double kNever = -std::numeric_limits<double>::infinity();

bool is_smooth(const Dimension& dimension) {
  if (dimension.kind == Dimension::Kind::integer) return dimension.levels() > kFewLevels;
  return dimension.kind == Dimension::Kind::real;
}

double cell(const Dimension& dimension) { return dimension.levels() > 0 ? 1.0 / static_cast<double>(dimension.levels()) : 0; }

std::int64_t count_points(const Space& space) {
  std::int64_t points = 1;
  for (const Dimension& dimension : space.dimensions()) {
    if (dimension.levels() == 0 || points > kAllPoints) return std::numeric_limits<std::int64_t>::max();
    points *= std::min(dimension.levels(), kAllPoints + 1);
  }
  return points;
}

}  // namespace

bool PointOrder::operator()(const Point& a, const Point& b) const {
  return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end(), [](double x, double y) {
    return std::isnan(x) ? !std::isnan(y) : x < y;
  });
}

Region whole(const Space& space) { return {std::vector<double>(space.size(), 0), std::vector<double>(space.size(), 1)}; }

Region around(const Space& space, const Point& centre, double reach) {
  Region region = whole(space);
  for (std::size_t d = 0; d < space.size(); ++d) {
    const Dimension& dimension = space.dimensions()[d];
    if (!is_smooth(dimension) || std::isnan(centre[d])) continue;
    const double here = to_unit(dimension, centre[d]);
    region.low[d] = std::max(here - reach, 0.0);
    region.high[d] = std::min(here + reach, 1.0);
  }
  return region;
}

AcquisitionSearch::AcquisitionSearch(const Space& space, const PointEncoding& encoding, const GaussianProcess& process, double best,
                                     const PointSet& taken, Region region)
    : space_(space), encoding_(encoding), process_(process), best_(best), taken_(taken), region_(std::move(region)) {}

AcquisitionSearch::Candidate AcquisitionSearch::made(std::vector<double> unit) const {
  Point point = space_.at(unit);
  return {std::move(unit), std::move(point), 0};
}

bool AcquisitionSearch::is_inside(const Point& point) const {
  for (std::size_t d = 0; d < point.size(); ++d) {
    if (std::isnan(point[d])) continue;
    const double here = to_unit(space_.dimensions()[d], point[d]);
    if (here != inside(d, here)) return false;
  }
  return true;
}

std::vector<double> AcquisitionSearch::near(const Point& point, Random& random) const {
  std::vector<double> unit(space_.size());
  const double reach = std::pow(10.0, -4 * random.uniform()), changed = random.uniform();
  for (std::size_t d = 0; d < unit.size(); ++d) {
    const Dimension& dimension = space_.dimensions()[d];
    unit[d] = drawn(d, random);
    if (std::isnan(point[d])) continue;
    const double here = to_unit(dimension, point[d]), step = reach * random.normal();
    const bool changes = random.uniform() < changed;
    if (dimension.kind == Dimension::Kind::choice) {
      if (!changes) unit[d] = here;
    } else {
      unit[d] = inside(d, changes ? here + step + std::copysign(is_smooth(dimension) ? 0 : cell(dimension), step) : here);
    }
  }
  return unit;
}

std::vector<AcquisitionSearch::Candidate> AcquisitionSearch::all_points() const {
  std::vector<Candidate> all;
  std::vector<double> index(space_.size(), 0);
  for (bool more = true; more;) {
    std::vector<double> unit(space_.size());
    for (std::size_t d = 0; d < unit.size(); ++d) unit[d] = to_unit(space_.dimensions()[d], space_.dimensions()[d].low + index[d]);
    all.push_back(made(std::move(unit)));
    more = false;
    for (std::size_t d = 0; d < index.size() && !more; ++d) {
      more = ++index[d] < static_cast<double>(space_.dimensions()[d].levels());
      if (!more) index[d] = 0;
    }
  }
  return all;
}

std::vector<AcquisitionSearch::Candidate> AcquisitionSearch::proposals(std::span<const Point> promising, Random& random) const {
  std::vector<Candidate> found;
  for (std::size_t i = 0; i < kEverywhere; ++i) {
    std::vector<double> unit(space_.size());
    for (std::size_t d = 0; d < unit.size(); ++d) unit[d] = drawn(d, random);
    found.push_back(made(std::move(unit)));
  }
  for (const Point& point : promising) {
    if (!is_inside(point)) continue;
    for (std::size_t i = 0; i < kNear; ++i) found.push_back(made(near(point, random)));
  }
  return found;
}

void AcquisitionSearch::score(std::vector<Candidate>& candidates) const {
  std::vector<Point> points;
  for (const Candidate& candidate : candidates) points.push_back(candidate.point);
  const Vector improvement = log_expected_improvement(process_.at(encoding_.encode(points)), best_);
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const bool open = !taken_.contains(points[i]) && !space_.is_forbidden(points[i]);
    candidates[i].score = open ? improvement[static_cast<Eigen::Index>(i)] : kNever;
  }
}

void AcquisitionSearch::climb_by_gradient(Candidate& candidate) const {
  std::vector<std::size_t> smooth;
  for (std::size_t d = 0; d < space_.size(); ++d) {
    if (is_smooth(space_.dimensions()[d]) && !std::isnan(candidate.point[d])) smooth.push_back(d);
  }
  if (smooth.empty()) return;
  const auto n = static_cast<Eigen::Index>(smooth.size());
  const Vector base = encoding_.encode(std::span(&candidate.point, 1)).row(0);
  const auto column = [&](Eigen::Index i) { return encoding_.column(smooth[static_cast<std::size_t>(i)]); };
  Vector start(n);
  Box box{Vector(n), Vector(n)};
  for (Eigen::Index i = 0; i < n; ++i) {
    const std::size_t d = smooth[static_cast<std::size_t>(i)];
    box.low[i] = region_.low[d];
    box.high[i] = region_.high[d];
    start[i] = inside(d, base[column(i)]);
  }
  const Differentiable objective = [&](const Vector& u, Vector& gradient) {
    Vector x = base;
    for (Eigen::Index i = 0; i < n; ++i) x[column(i)] = u[i];
    Vector slope;
    const double improvement = log_expected_improvement(process_.at_point(x), best_, slope);
    for (Eigen::Index i = 0; i < n; ++i) gradient[i] = -slope[column(i)];
    return -improvement;
  };
  const Minimum found = minimise(objective, start, box, kGradientSteps);
  std::vector<double> unit = candidate.unit;
  for (Eigen::Index i = 0; i < n; ++i) unit[smooth[static_cast<std::size_t>(i)]] = found.x[i];
  std::vector<Candidate> moved{made(std::move(unit))};
  score(moved);
  if (moved[0].score > candidate.score) candidate = std::move(moved[0]);
}

std::vector<AcquisitionSearch::Candidate> AcquisitionSearch::neighbours(const Candidate& candidate) const {
  std::vector<Candidate> found;
  for (std::size_t d = 0; d < space_.size(); ++d) {
    const Dimension& dimension = space_.dimensions()[d];
    if (dimension.kind == Dimension::Kind::real || std::isnan(candidate.point[d])) continue;
    const double here = candidate.point[d];
    const double reach = dimension.levels() <= kFewLevels ? dimension.high - dimension.low : 2;
    for (double value = std::max(here - reach, dimension.low); value <= std::min(here + reach, dimension.high); ++value) {
      const double there = to_unit(dimension, value);
      if (value == here || there != inside(d, there)) continue;
      std::vector<double> unit = candidate.unit;
      unit[d] = there;
      found.push_back(made(std::move(unit)));
    }
  }
  return found;
}

bool AcquisitionSearch::climb_by_changes(Candidate& candidate) const {
  bool climbed = false;
  for (int change = 0; change < kChanges; ++change) {
    std::vector<Candidate> around = neighbours(candidate);
    if (around.empty()) break;
    score(around);
    const auto best = std::max_element(around.begin(), around.end(), [](const auto& a, const auto& b) { return a.score < b.score; });
    if (!(best->score > candidate.score)) break;
    candidate = *best;
    climbed = true;
  }
  return climbed;
}

void AcquisitionSearch::climb(Candidate& candidate) const {
  for (int round = 0; round < kRounds; ++round) {
    climb_by_gradient(candidate);
    if (!climb_by_changes(candidate)) return;   // a gradient's end is its own end
  }
}

Point AcquisitionSearch::maximise(std::span<const Point> promising, Random& random) const {
  const auto better = [](const Candidate& a, const Candidate& b) { return a.score > b.score; };
  if (count_points(space_) <= kAllPoints) {
    std::vector<Candidate> all = all_points();
    score(all);
    std::stable_sort(all.begin(), all.end(), better);
    return all[0].score > kNever ? all[0].point : Point{};
  }
  std::vector<Candidate> candidates = proposals(promising, random);
  score(candidates);
  const auto middle = candidates.begin() + static_cast<std::ptrdiff_t>(kEverywhere);
  std::stable_sort(candidates.begin(), middle, better);
  std::stable_sort(middle, candidates.end(), better);
  std::vector<Candidate> climbers(candidates.begin(), candidates.begin() + kClimbers);
  climbers.insert(climbers.end(), middle, middle + std::min(kClimbers, candidates.end() - middle));
  for (Candidate& climber : climbers) climb(climber);
  std::stable_sort(climbers.begin(), climbers.end(), better);
  return climbers[0].score > kNever ? climbers[0].point : Point{};
}

}  // namespace tugline::sweep
