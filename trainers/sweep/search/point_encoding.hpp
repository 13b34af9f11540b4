// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

#include "tugline/trainers/sweep/search/gp_kernel.hpp"
#include "tugline/trainers/sweep/space/space.hpp"

namespace tugline::sweep {

/// Points as coordinates whose squared distances mean something. A number is one coordinate, a choice one per value, so that two different
/// values are 1 apart (Hamming). A dimension that may be inactive has one more, which says whether it is: then the distance between a
/// point that has it and one that has not is a constant besides half of the range at most, and two that have it not are equal there.
/// All coordinates of a dimension share a length scale. `space` must outlive it.
class PointEncoding {
 public:
  explicit PointEncoding(const Space& space);

  const KernelLayout& layout() const { return layout_; }
  /// [points, coordinates]
  Matrix encode(std::span<const Point> points) const;
  /// Where a number's coordinate is, which is its to_unit.
  Eigen::Index column(std::size_t dimension) const { return first_[dimension]; }

 private:
  void encode_dimension(std::size_t d, double value, Eigen::Ref<Eigen::RowVectorXd> row) const;

  const Space* space_;
  KernelLayout layout_;
  std::vector<Eigen::Index> first_;   // of each dimension's coordinates
};

}  // namespace tugline::sweep
