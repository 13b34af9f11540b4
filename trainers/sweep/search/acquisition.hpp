// SPDX-License-Identifier: Apache-2.0
#pragma once

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

/// Where the expected improvement is largest: many points at once, drawn everywhere and around the best, then the best of them improved by
/// gradients in the reals and by single changes in the rest.
class AcquisitionSearch {
 public:
  /// All are kept by reference. `taken` points are not found again.
  AcquisitionSearch(const Space& space, const PointEncoding& encoding, const GaussianProcess& process, double best, const PointSet& taken);

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
  void score(std::vector<Candidate>& candidates) const;
  void climb(Candidate& candidate) const;
  void climb_by_gradient(Candidate& candidate) const;
  bool climb_by_changes(Candidate& candidate) const;

  const Space& space_;
  const PointEncoding& encoding_;
  const GaussianProcess& process_;
  double best_;
  const PointSet& taken_;
};

}  // namespace tugline::sweep
