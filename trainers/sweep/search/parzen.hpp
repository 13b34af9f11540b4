// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include <Eigen/Core>

#include "tugline/core/random.hpp"
#include "tugline/trainers/sweep/space/space.hpp"

namespace tugline::sweep {

/// A density over a space, in its unit coordinates: a weighted sum of kernels, one around each observed point, and a uniform one.
/// A kernel is a product over dimensions: truncated Gaussians of real, integer and ordinal ones, Aitchison-Aitken kernels of choices.
/// Where an observed point has no value its kernel is uniform, and where a point that is asked about has none the dimension is
/// marginalised: an observation counts for what it knows. Watanabe 2023, "Tree-structured Parzen estimator: understanding its algorithm
/// components and their roles for better empirical performance"; Aitchison & Aitken 1976, "Multivariate binary discrimination by the kernel
/// method".
class Parzen {
 public:
  /// How wide the Gaussians of a dimension are.
  enum class Width {
    spread,   ///< all alike, by Scott's rule from the weighted deviation: smooth
    gap,      ///< each as far as its farther neighbour (Bergstra et al. 2011): knows where points lie close together
  };

  /// `centres`: a row per observation, a column per dimension, NaN where it is not active. `prior` is the uniform kernel's weight, where
  /// the observations' is 1 on average. `space` must outlive it.
  Parzen(const Space& space, Eigen::ArrayXXd centres, const Eigen::ArrayXd& weights, double prior, Width width);

  /// The logarithm of the density at a point with NaN where it is not active, relative to the uniform one.
  double log_density(const std::vector<double>& unit) const;
  /// A point with a coordinate in every dimension.
  std::vector<double> draw(Random& random) const;

 private:
  void set_gaussian(Eigen::Index d, Width width, const Eigen::ArrayXd& weights);
  void set_choice(Eigen::Index d);
  double draw_coordinate(Eigen::Index kernel, Eigen::Index d, Random& random) const;

  const Space& space_;
  // [kernels, dimensions]. The log density of a Gaussian is level - (slope * distance)^2; of a choice, level for any other value than the
  // kernel's own and level + slope for that. Both are 0 where the observation has no value.
  Eigen::ArrayXXd centres_, level_, slope_;
  Eigen::ArrayXd log_weights_;   // the prior's is the last
};

}  // namespace tugline::sweep
