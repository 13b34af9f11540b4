// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/search/tpe.hpp"

#include <algorithm>
#include <limits>

#include "tugline/core/random.hpp"
#include "tugline/trainers/sweep/search/parzen.hpp"
#include "tugline/trainers/sweep/search/sobol_search.hpp"
#include "tugline/trainers/sweep/search/untried.hpp"

namespace tugline::sweep {
namespace {

// Chosen on other seeds than those that benchmarks report; all of them are on plateaus.
constexpr std::size_t kStart = 10;
constexpr int kCandidates = 96;
constexpr double kBestShare = 0.12;   // of the finished trials: they are the best ones
constexpr std::size_t kMostBest = 25;
constexpr double kPriorOfBest = 0.5, kPriorOfOthers = 1;

using Trials = std::vector<const Observation*>;

std::vector<double> to_unit(const Space& space, const Point& point) {
  std::vector<double> unit(point.size());
  for (std::size_t d = 0; d < point.size(); ++d) unit[d] = std::isnan(point[d]) ? point[d] : to_unit(space.dimensions()[d], point[d]);
  return unit;
}

/// Around trials that are sorted from the best, whose weights fall with their rank, or around others, whose weights are alike.
Parzen parzen_of(const Space& space, const Trials& trials, bool best) {
  const auto count = static_cast<Eigen::Index>(trials.size());
  Eigen::ArrayXXd centres(count, static_cast<Eigen::Index>(space.size()));
  for (Eigen::Index i = 0; i < count; ++i) {
    const std::vector<double> unit = to_unit(space, trials[i]->point);
    centres.row(i) = Eigen::Map<const Eigen::ArrayXd>(unit.data(), centres.cols());
  }
  Eigen::ArrayXd weights = Eigen::ArrayXd::Ones(count);
  if (best) weights = std::log(static_cast<double>(count) + 1) - Eigen::ArrayXd::LinSpaced(count, 1, static_cast<double>(count)).log();
  return Parzen(space, std::move(centres), weights, best ? kPriorOfBest : kPriorOfOthers, best ? Parzen::Width::spread : Parzen::Width::gap);
}

class Tpe : public Search {
 public:
  Tpe(const Space& space, std::uint64_t seed) : space_(space), seed_(seed), start_(make_sobol(space, seed)) {}

  Point suggest(std::int64_t number, std::span<const Observation> history) override {
    Trials finished, others;   // running trials are among the others from the beginning
    for (const Observation& trial : history) (trial.is_running() ? others : finished).push_back(&trial);
    const auto badness = [](const Observation* trial) { return trial->has_failed() ? std::numeric_limits<double>::infinity() : trial->value; };
    std::stable_sort(finished.begin(), finished.end(), [&](auto* a, auto* b) { return badness(a) < badness(b); });
    const auto succeeded = static_cast<std::size_t>(std::count_if(finished.begin(), finished.end(), [](auto* t) { return !t->has_failed(); }));
    if (finished.size() < kStart || succeeded == 0) return start_->suggest(number, history);

    const auto share = static_cast<std::size_t>(std::ceil(kBestShare * static_cast<double>(finished.size())));
    const auto middle = finished.begin() + static_cast<std::ptrdiff_t>(std::min({share, kMostBest, succeeded}));
    others.insert(others.end(), middle, finished.end());
    return best_candidate(number, history, parzen_of(space_, Trials(finished.begin(), middle), true), parzen_of(space_, others, false));
  }

 private:
  struct Candidate {
    Point point;
    double score;
  };

  Point best_candidate(std::int64_t number, std::span<const Observation> history, const Parzen& best, const Parzen& others) const {
    // A stream that no dimension of Space::draw has.
    Random random(seed_, Purpose::search, static_cast<std::uint64_t>(number), ~std::uint64_t{0});
    std::vector<Candidate> candidates;
    for (int i = 0; i < kCandidates; ++i) {
      Point point = space_.at(best.draw(random));
      const std::vector<double> unit = to_unit(space_, point);
      candidates.push_back({std::move(point), best.log_density(unit) - others.log_density(unit)});
    }
    std::stable_sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
    PointSet taken;
    for (const Observation& trial : history) taken.insert(trial.point);
    for (const Candidate& candidate : candidates) {
      if (!taken.contains(candidate.point) && !space_.is_forbidden(candidate.point)) return candidate.point;
    }
    return untried(space_, seed_, number, taken);
  }

  const Space& space_;
  std::uint64_t seed_;
  std::unique_ptr<Search> start_;
};

}  // namespace

std::unique_ptr<Search> make_tpe(const Space& space, std::uint64_t seed) { return std::make_unique<Tpe>(space, seed); }

}  // namespace tugline::sweep
