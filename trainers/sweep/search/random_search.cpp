// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/search/random_search.hpp"

#include "tugline/core/error.hpp"

namespace tugline::sweep {
namespace {

constexpr int kAttempts = 4096;

class RandomSearch : public Search {
 public:
  RandomSearch(const Space& space, std::uint64_t seed) : space_(space), seed_(seed) {}

  Point suggest(std::int64_t number, std::span<const Observation>) override {
    return first_allowed(space_, [&](int attempt) { return space_.draw(seed_, number, attempt); });
  }

 private:
  const Space& space_;
  std::uint64_t seed_;
};

}  // namespace

std::unique_ptr<Search> make_random(const Space& space, std::uint64_t seed) { return std::make_unique<RandomSearch>(space, seed); }

Point first_allowed(const Space& space, const std::function<Point(int attempt)>& at) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    Point point = at(attempt);
    if (!space.is_forbidden(point)) return point;
  }
  throw ConfigError("forbid leaves so little of the space that " + std::to_string(kAttempts) +
                    " points in turn were forbidden: make ranges smaller instead");
}

}  // namespace tugline::sweep
