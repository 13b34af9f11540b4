// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>
#include <set>

#include "tugline/trainers/sweep/space/rules.hpp"

namespace tugline::sweep {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Goes through all that a dimension depends on: values one by one where they are few, else as ranges.
class Reach {
 public:
  Reach(const Rules& rules, std::size_t target)
      : rules_(rules), target_(target), low_(rules.dimensions.size(), kNaN), high_(rules.dimensions.size(), kNaN) {
    std::set<std::size_t> all;
    add_ancestors(target, all);
    ancestors_.assign(all.begin(), all.end());
    constexpr std::int64_t kMostCases = 10'000;
    std::int64_t cases = 1;
    for (const std::size_t ancestor : ancestors_) {
      const std::int64_t levels = rules.dimensions[ancestor].levels();
      const bool few = levels > 0 && levels < kMostCases && cases * (levels + 1) <= kMostCases;
      one_by_one_.push_back(few);
      if (few) cases *= levels + 1;
    }
  }

  bool from(std::size_t next = 0) {
    if (next == ancestors_.size()) return may_be_active(target_);
    const std::size_t d = ancestors_[next];
    const Dimension& dimension = rules_.dimensions[d];
    const bool may = may_be_active(d), must = must_be_active(d);
    const auto with = [&](double low, double high) {
      low_[d] = low;
      high_[d] = high;
      return from(next + 1);
    };
    if (!must && with(kNaN, kNaN)) return true;
    if (!may) return false;
    if (!one_by_one_[next]) return with(dimension.low, dimension.high);
    for (double value = dimension.low; value <= dimension.high; ++value) {
      if (with(value, value)) return true;
    }
    return false;
  }

 private:
  void add_ancestors(std::size_t of, std::set<std::size_t>& out) const {
    for (const std::size_t parent : rules_.dimensions[of].parents) {
      if (out.insert(parent).second) add_ancestors(parent, out);
    }
  }
  bool may_be_active(std::size_t d) const {
    return std::ranges::all_of(rules_.conditions[d], [&](const Expression& one) { return one.may_hold(low_, high_); });
  }
  bool must_be_active(std::size_t d) const {
    return std::ranges::all_of(rules_.conditions[d], [&](const Expression& one) { return one.must_hold(low_, high_); });
  }

  const Rules& rules_;
  const std::size_t target_;
  std::vector<std::size_t> ancestors_;
  std::vector<bool> one_by_one_;
  Point low_, high_;
};

}  // namespace

bool can_be_active(const Rules& rules, std::size_t dimension) { return Reach(rules, dimension).from(); }

}  // namespace tugline::sweep
