// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/search/tpe.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tugline/core/random.hpp"
#include "tugline/trainers/sweep/search/acquisition.hpp"
#include "tugline/trainers/sweep/search/parzen.hpp"
#include "tugline/trainers/sweep/search/sobol_search.hpp"
#include "tugline/trainers/sweep/search/untried.hpp"

namespace tugline::sweep {
namespace {

// Chosen by trials on seeds other than those that benchmarks report.
constexpr std::size_t kStart = 10;
constexpr int kCandidates = 96, kFewestCandidates = 8;
constexpr double kBestShare = 0.12;   // of the finished trials: they are the best ones
constexpr std::size_t kMostBest = 25;
constexpr double kPriorOfBest = 0.5, kPriorOfOthers = 1;
constexpr double kRunningWeight = 0.5;   // among the others: some of them will turn out to be good

using Trials = std::vector<const Observation*>;

double badness(const Observation& trial) { return trial.has_failed() ? std::numeric_limits<double>::infinity() : trial.value; }

std::vector<double> to_unit(const Space& space, const Point& point) {
  std::vector<double> unit(point.size());
  for (std::size_t d = 0; d < point.size(); ++d) unit[d] = std::isnan(point[d]) ? point[d] : to_unit(space.dimensions()[d], point[d]);
  return unit;
}

Eigen::ArrayXXd centres_of(const Space& space, const Trials& trials) {
  Eigen::ArrayXXd centres(static_cast<Eigen::Index>(trials.size()), static_cast<Eigen::Index>(space.size()));
  for (Eigen::Index i = 0; i < centres.rows(); ++i) {
    const std::vector<double> unit = to_unit(space, trials[i]->point);
    centres.row(i) = Eigen::Map<const Eigen::ArrayXd>(unit.data(), centres.cols());
  }
  return centres;
}

/// Weights fall with the rank; the trials are sorted from the best.
Parzen parzen_of_best(const Space& space, const Trials& trials) {
  const auto count = static_cast<Eigen::Index>(trials.size());
  const Eigen::ArrayXd ranks = Eigen::ArrayXd::LinSpaced(count, 1, static_cast<double>(count));
  const Eigen::ArrayXd weights = std::log(static_cast<double>(count) + 1) - ranks.log();
  return Parzen(space, centres_of(space, trials), weights, kPriorOfBest, Parzen::Width::spread);
}

Parzen parzen_of_others(const Space& space, const Trials& trials) {
  Eigen::ArrayXd weights(static_cast<Eigen::Index>(trials.size()));
  for (std::size_t i = 0; i < trials.size(); ++i) weights[static_cast<Eigen::Index>(i)] = trials[i]->is_running() ? kRunningWeight : 1;
  return Parzen(space, centres_of(space, trials), weights, kPriorOfOthers, Parzen::Width::gap);
}

class Tpe : public Search {
 public:
  Tpe(const Space& space, std::uint64_t seed) : space_(space), seed_(seed), start_(make_sobol(space, seed)) {}

  Point suggest(std::int64_t number, std::span<const Observation> history) override {
    Trials finished, others;   // constant liar: those that are running are among the others
    for (const Observation& trial : history) (trial.is_running() ? others : finished).push_back(&trial);
    std::stable_sort(finished.begin(), finished.end(), [](auto* a, auto* b) { return badness(*a) < badness(*b); });
    const auto failed = std::find_if(finished.begin(), finished.end(), [](auto* trial) { return trial->has_failed(); });
    const auto succeeded = static_cast<std::size_t>(failed - finished.begin());
    if (finished.size() < kStart || succeeded == 0) return first_new(number, {start_->suggest(number, history)}, history);

    const auto share = static_cast<std::size_t>(std::ceil(kBestShare * static_cast<double>(finished.size())));
    const auto middle = finished.begin() + static_cast<std::ptrdiff_t>(std::min({share, kMostBest, succeeded}));
    // The more are running, the fewer candidates: workers that know the same take different ones.
    const int count = std::max(kFewestCandidates, static_cast<int>(kCandidates / std::sqrt(1 + static_cast<double>(others.size()))));
    others.insert(others.end(), middle, finished.end());
    const Parzen best = parzen_of_best(space_, {finished.begin(), middle});
    return first_new(number, ranked_candidates(number, count, best, parzen_of_others(space_, others)), history);
  }

 private:
  /// Points drawn from the density of the best, the most promising first.
  std::vector<Point> ranked_candidates(std::int64_t number, int count, const Parzen& best, const Parzen& others) const {
    // A stream that no dimension of Space::draw has.
    Random random(seed_, Purpose::search, static_cast<std::uint64_t>(number), ~std::uint64_t{0});
    std::vector<std::pair<double, Point>> scored;
    for (int i = 0; i < count; ++i) {
      Point point = space_.at(best.draw(random));
      const std::vector<double> unit = to_unit(space_, point);
      scored.emplace_back(best.log_density(unit) - others.log_density(unit), std::move(point));
    }
    std::stable_sort(scored.begin(), scored.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    std::vector<Point> ranked;
    for (auto& [score, point] : scored) ranked.push_back(std::move(point));
    return ranked;
  }

  Point first_new(std::int64_t number, const std::vector<Point>& candidates, std::span<const Observation> history) const {
    for (const Point& point : candidates) {
      if (is_new(point, history) && !space_.is_forbidden(point)) return point;
    }
    PointSet taken;
    for (const Observation& trial : history) taken.insert(trial.point);
    return untried(space_, seed_, number, taken);
  }

  static bool is_new(const Point& point, std::span<const Observation> history) {
    const PointOrder before;
    return std::none_of(history.begin(), history.end(),
                        [&](const Observation& trial) { return !before(point, trial.point) && !before(trial.point, point); });
  }

  const Space& space_;
  std::uint64_t seed_;
  std::unique_ptr<Search> start_;
};

}  // namespace

std::unique_ptr<Search> make_tpe(const Space& space, std::uint64_t seed) { return std::make_unique<Tpe>(space, seed); }

}  // namespace tugline::sweep
