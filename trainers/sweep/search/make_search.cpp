// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "tugline/core/config/nearest.hpp"
#include "tugline/core/error.hpp"
#include "tugline/trainers/sweep/search/gp.hpp"
#include "tugline/trainers/sweep/search/grid_search.hpp"
#include "tugline/trainers/sweep/search/random_search.hpp"
#include "tugline/trainers/sweep/search/regularized_evolution.hpp"
#include "tugline/trainers/sweep/search/search.hpp"
#include "tugline/trainers/sweep/search/sobol_search.hpp"
#include "tugline/trainers/sweep/search/tpe.hpp"

namespace tugline::sweep {
namespace {

/// A Gaussian process whose first points are evenly spread.
std::unique_ptr<Search> gp_after_sobol(const Space& space, std::uint64_t seed) {
  std::shared_ptr<Search> sobol = make_sobol(space, seed);
  return make_gp(space, seed, [sobol = std::move(sobol)](std::int64_t number) { return sobol->suggest(number, {}); });
}

/// Whether evolution does better than the process alone: where dimensions come and go, or most are choices.
bool is_architecture(const Space& space) {
  const auto& all = space.dimensions();
  const auto choices = std::count_if(all.begin(), all.end(), [](const auto& d) { return d.kind == Dimension::Kind::choice; });
  const bool conditional = std::any_of(all.begin(), all.end(), [](const auto& d) { return !d.parents.empty(); });
  return conditional || 2 * static_cast<std::size_t>(choices) > all.size();
}

/// The method that had the least regret on most of bench_search's tasks as long as it is cheap, then TPE, which stays so. It depends on the
/// trial's number and not on the budget: a sweep whose budget is raised goes on as the same sweep.
class AutoSearch : public Search {
 public:
  AutoSearch(const Space& space, std::uint64_t seed)
      : careful_(is_architecture(space) ? make_regevo(space, seed) : gp_after_sobol(space, seed)), fast_(make_tpe(space, seed)) {}

  Point suggest(std::int64_t number, std::span<const Observation> history) override {
    return (number < kCareful ? careful_ : fast_)->suggest(number, history);
  }

 private:
  static constexpr std::int64_t kCareful = 300;   // a suggestion costs some 0.1 s by then

  std::unique_ptr<Search> careful_, fast_;
};

std::unique_ptr<Search> make_auto(const Space& space, const SearchOptions& options) {
  return std::make_unique<AutoSearch>(space, options.seed);
}

struct Method {
  std::string_view name;
  std::unique_ptr<Search> (*make)(const Space& space, const SearchOptions& options);
};
constexpr std::array kMethods{
    Method{"auto", make_auto},
    Method{"grid", [](const Space& space, const SearchOptions&) { return make_grid(space); }},
    Method{"random", [](const Space& space, const SearchOptions& options) { return make_random(space, options.seed); }},
    Method{"sobol", [](const Space& space, const SearchOptions& options) { return make_sobol(space, options.seed); }},
    Method{"tpe", [](const Space& space, const SearchOptions& options) { return make_tpe(space, options.seed); }},
    Method{"gp", [](const Space& space, const SearchOptions& options) { return gp_after_sobol(space, options.seed); }},
    Method{"regevo", [](const Space& space, const SearchOptions& options) { return make_regevo(space, options.seed); }}};

}  // namespace

std::unique_ptr<Search> make_search(const Space& space, const SearchOptions& options) {
  if (space.size() == 0) throw ConfigError("there is nothing to search: the space has no parameters");
  std::array<std::string_view, kMethods.size()> names;
  std::string all;
  for (std::size_t i = 0; i < kMethods.size(); ++i) {
    if (kMethods[i].name == options.method) return kMethods[i].make(space, options);
    names[i] = kMethods[i].name;
    all += " " + std::string(names[i]);
  }
  throw ConfigError("search.method: there is no '" + options.method + "', only" + all +
                    config::did_you_mean(config::nearest_word(options.method, names)));
}

}  // namespace tugline::sweep
