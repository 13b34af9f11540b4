// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <set>
#include <span>
#include <vector>

#include "tugline/core/random.hpp"
#include "tugline/trainers/sweep/search/gaussian_process.hpp"
#include "tugline/trainers/sweep/search/point_encoding.hpp"

namespace tugline::sweep {

/// Points with NaN in them, in an order that tells equal ones.
struct PointOrder {
  bool operator()(const Point& a, const Point& b) const;
};
using PointSet = std::set<Point, PointOrder>;

/// Bounds of every dimension's coordinate.
struct Region {
  std::vector<double> low, high;
};

Region whole(const Space& space);
/// A trust region after Eriksson et al. 2019, "Scalable global optimization via local Bayesian optimization", of a fixed size: reals, and whole
/// numbers with so many values that they are like them, are within `reach` of the centre's on their scales, rounding aside. All else is free,
/// and so is what the centre has not.
Region around(const Space& space, const Point& centre, double reach);

/// Where in a region the expected improvement is largest: many points at once, drawn everywhere and around the best, then the best of them
/// improved by gradients in the reals and by single changes in the rest. A finite space of few points is looked at whole, the region aside.
class AcquisitionSearch {
 public:
  /// All but the region are kept by reference. `taken` points are not found again.
  AcquisitionSearch(const Space& space, const PointEncoding& encoding, const GaussianProcess& process, double best, const PointSet& taken,
                    Region region);

  /// The best point found, or an empty one if all that were looked at are taken or forbidden. `promising`: look around these too.
  Point maximise(std::span<const Point> promising, Random& random) const;

 private:
  /// A coordinate in [0, 1] for every dimension, those that are not active too: they matter when a neighbour makes them so.
  struct Candidate {
    std::vector<double> unit;
    Point point;
    double score = 0;
  };

  Candidate made(std::vector<double> unit) const;
  std::vector<Candidate> proposals(std::span<const Point> promising, Random& random) const;
  std::vector<Candidate> all_points() const;
  std::vector<Candidate> neighbours(const Candidate& candidate) const;
  std::vector<double> near(const Point& point, Random& random) const;
  double drawn(std::size_t d, Random& random) const { return region_.low[d] + (region_.high[d] - region_.low[d]) * random.uniform(); }
  bool is_inside(const Point& point) const;
  double inside(std::size_t d, double unit) const { return std::clamp(unit, region_.low[d], region_.high[d]); }
  void score(std::vector<Candidate>& candidates) const;
  void climb(Candidate& candidate) const;
  void climb_by_gradient(Candidate& candidate) const;
  bool climb_by_changes(Candidate& candidate) const;

  const Space& space_;
  const PointEncoding& encoding_;
  const GaussianProcess& process_;
  double best_;
  const PointSet& taken_;
  Region region_;
};

}  // namespace tugline::sweep
