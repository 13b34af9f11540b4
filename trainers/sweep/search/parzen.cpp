// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/search/parzen.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

namespace tugline::sweep {
namespace {

using Eigen::ArrayXd;
using Eigen::Index;

double normal_cdf(double z) { return 0.5 * std::erfc(-z * std::numbers::sqrt2 / 2); }

/// Scott's rule, on as many dimensions as there are; the deviation and the number of points are those that the weights leave.
double spread_width(const std::vector<double>& values, const std::vector<double>& weights, std::size_t dimensions) {
  double sum = 0, squares = 0, mean = 0, variance = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    sum += weights[i];
    squares += weights[i] * weights[i];
    mean += weights[i] * values[i];
  }
  mean /= sum;
  for (std::size_t i = 0; i < values.size(); ++i) variance += weights[i] * (values[i] - mean) * (values[i] - mean);
  return std::sqrt(variance / sum) * std::pow(sum * sum / squares, -1 / (static_cast<double>(dimensions) + 4));
}

/// The distance to the farther of both neighbours; of the outermost values, to their only one.
std::vector<double> gaps(const std::vector<double>& values) {
  if (values.size() == 1) return {1.0};
  std::vector<std::pair<double, std::size_t>> sorted(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) sorted[i] = {values[i], i};
  std::sort(sorted.begin(), sorted.end());
  std::vector<double> widths(values.size(), 0);
  for (std::size_t k = 1; k < sorted.size(); ++k) {
    const double gap = sorted[k].first - sorted[k - 1].first;
    widths[sorted[k].second] = gap;
    widths[sorted[k - 1].second] = std::max(widths[sorted[k - 1].second], gap);
  }
  return widths;
}

/// The least width ("magic clip"). It falls with the number of points, else the density could never become sharp; half a cell, and the
/// density in the middles of cells sums up to one within 2 %.
double least_width(const Dimension& dimension, double value, std::size_t count, Parzen::Width width) {
  const double points = static_cast<double>(count) + 2;
  const double clip = width == Parzen::Width::spread ? 0.3 / points : 1 / std::min(100.0, points);
  if (dimension.kind == Dimension::Kind::real) return clip;
  const double whole = from_unit(dimension, value);
  return std::max(clip, (to_unit(dimension, whole + 0.5) - to_unit(dimension, whole - 0.5)) / 2);
}

}  // namespace

Parzen::Parzen(const Space& space, Eigen::ArrayXXd centres, const ArrayXd& weights, double prior, Width width)
    : space_(space), centres_(std::move(centres)) {
  const Index kernels = centres_.rows();
  level_ = slope_ = Eigen::ArrayXXd::Zero(kernels, centres_.cols());
  for (Index d = 0; d < centres_.cols(); ++d) {
    if (space.dimensions()[d].kind == Dimension::Kind::choice) {
      set_choice(d);
    } else {
      set_gaussian(d, width, weights);
    }
  }
  log_weights_.resize(kernels + 1);
  log_weights_.head(kernels) = (weights / weights.sum() * static_cast<double>(kernels) / (static_cast<double>(kernels) + prior)).log();
  log_weights_[kernels] = std::log(prior / (static_cast<double>(kernels) + prior));
}

void Parzen::set_gaussian(Index d, Width width, const ArrayXd& weights) {
  const Dimension& dimension = space_.dimensions()[d];
  std::vector<Index> known;
  std::vector<double> values, their_weights;
  for (Index i = 0; i < centres_.rows(); ++i) {
    if (std::isnan(centres_(i, d))) continue;
    known.push_back(i);
    values.push_back(centres_(i, d));
    their_weights.push_back(weights[i]);
  }
  centres_.col(d) = centres_.col(d).isNaN().select(0.5, centres_.col(d));
  if (known.empty()) return;
  std::vector<double> widths = gaps(values);
  if (width == Width::spread) std::fill(widths.begin(), widths.end(), spread_width(values, their_weights, space_.size()));
  for (std::size_t k = 0; k < known.size(); ++k) {
    const double sigma = std::clamp(widths[k], std::min(1.0, least_width(dimension, values[k], values.size(), width)), 1.0);
    const double inside = normal_cdf((1 - values[k]) / sigma) - normal_cdf(-values[k] / sigma);
    level_(known[k], d) = -std::log(sigma * inside * std::sqrt(2 * std::numbers::pi));
    slope_(known[k], d) = 1 / (sigma * std::numbers::sqrt2);
  }
}

void Parzen::set_choice(Index d) {
  const double choices = static_cast<double>(space_.dimensions()[d].levels());
  const double count = static_cast<double>((!centres_.col(d).isNaN()).count());
  for (Index i = 0; i < centres_.rows(); ++i) {
    if (std::isnan(centres_(i, d))) continue;
    level_(i, d) = std::log(choices / (count + choices));
    slope_(i, d) = std::log(count + 1);
  }
}

double Parzen::log_density(const std::vector<double>& unit) const {
  ArrayXd logs = log_weights_;
  auto kernels = logs.head(centres_.rows());
  for (Index d = 0; d < centres_.cols(); ++d) {
    if (std::isnan(unit[d])) continue;
    if (space_.dimensions()[d].kind == Dimension::Kind::choice) {
      kernels += level_.col(d) + (centres_.col(d) == unit[d]).select(slope_.col(d), 0.0);
    } else {
      kernels += level_.col(d) - (slope_.col(d) * (centres_.col(d) - unit[d])).square();
    }
  }
  const double largest = logs.maxCoeff();
  double sum = 0;
  for (const double log : logs) {
    if (log > largest - 40) sum += std::exp(log - largest);   // most kernels are far away, and too small to change the sum
  }
  return largest + std::log(sum);
}

std::vector<double> Parzen::draw(Random& random) const {
  double left = random.uniform();
  Index kernel = 0;
  while (kernel < centres_.rows() && (left -= std::exp(log_weights_[kernel])) >= 0) ++kernel;
  std::vector<double> unit(space_.size());
  for (std::size_t d = 0; d < unit.size(); ++d) {
    unit[d] = kernel == centres_.rows() ? random.uniform() : draw_coordinate(kernel, static_cast<Index>(d), random);
  }
  return unit;
}

double Parzen::draw_coordinate(Index kernel, Index d, Random& random) const {
  const double centre = centres_(kernel, d), slope = slope_(kernel, d);
  if (slope == 0) return random.uniform();
  if (space_.dimensions()[d].kind == Dimension::Kind::choice) {
    const double choices = static_cast<double>(space_.dimensions()[d].levels());
    const double more_than_others = std::exp(level_(kernel, d)) * std::expm1(slope) / choices;
    return random.uniform() < more_than_others ? centre : random.uniform();
  }
  double unit;
  do {
    unit = centre + random.normal() / (slope * std::numbers::sqrt2);
  } while (unit < 0 || unit > 1);
  return unit;
}

}  // namespace tugline::sweep
