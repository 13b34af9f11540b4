// SPDX-License-Identifier: Apache-2.0
#include <array>
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

std::unique_ptr<Search> make_auto(const Space& space, const SearchOptions& options) { return gp_after_sobol(space, options.seed); }

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
