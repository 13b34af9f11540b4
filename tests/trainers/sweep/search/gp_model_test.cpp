// SPDX-License-Identifier: Apache-2.0
// The model of the Gaussian-process search, against formulas written down another way and differences.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <tuple>
#include <utility>
#include <vector>

#include "tugline/core/random.hpp"
#include "tugline/tests/trainers/sweep/search/search_lab.hpp"
#include "tugline/trainers/sweep/search/gaussian_process.hpp"
#include "tugline/trainers/sweep/search/gp_fit.hpp"
#include "tugline/trainers/sweep/search/log_expected_improvement.hpp"
#include "tugline/trainers/sweep/search/point_encoding.hpp"

namespace tugline::sweep {
namespace {

using Exact = long double;
using ExactMatrix = Eigen::Matrix<Exact, Eigen::Dynamic, Eigen::Dynamic>;
using ExactVector = Eigen::Matrix<Exact, Eigen::Dynamic, 1>;

std::vector<Point> drawn(const Space& space, std::uint64_t seed, std::int64_t count) {
  std::vector<Point> points;
  for (std::int64_t i = 0; i < count; ++i) points.push_back(space.draw(seed, i));
  return points;
}

/// Values without structure, one of them far off.
Vector some_values(Eigen::Index count, std::uint64_t seed) {
  Random random(seed, Purpose::search, 77);
  Vector values(count);
  for (double& value : values) value = 2 + random.normal();
  values[count / 3] = 90;
  return values;
}

TrainingSet some_data(const Space& space, std::uint64_t seed, std::int64_t count) {
  return {PointEncoding(space).encode(drawn(space, seed, count)), some_values(count, seed)};
}

/// Warps and length scales that are all different; log(noise) as given.
Hyperparameters some_hyperparameters(const KernelLayout& layout, std::uint64_t seed, double log_noise) {
  Hyperparameters h{layout, {}};
  h.theta.resize(h.size());
  Random random(seed, Purpose::search, 88);
  for (double& t : h.theta) t = 0.5 * random.normal();
  h.theta[h.noise_index()] = log_noise;
  return h;
}

Hyperparameters of_mixed_space(std::uint64_t seed, double log_noise) {
  return some_hyperparameters(PointEncoding(mixed_space()).layout(), seed, log_noise);
}

/// The derivative by x[i], to the fourth order in the step.
template <typename Function>
double difference(const Function& f, Vector x, Eigen::Index i, double step) {
  const auto at = [&](double by) {
    Vector moved = x;
    moved[i] += by;
    return f(moved);
  };
  return (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step);
}

/// Matern-5/2 with warps, one pair of coordinates after the other.
Exact correlation(const Hyperparameters& h, const Matrix& a, Eigen::Index i, const Matrix& b, Eigen::Index j) {
  const auto bent = [&](Exact u, int warp) {
    if (warp < 0) return u;
    const Exact x = std::clamp(u, Exact{1e-9}, 1 - Exact{1e-9});
    return 1 - std::pow(1 - std::pow(x, std::exp(Exact{h.theta[h.warp_index(warp)]})), std::exp(Exact{h.theta[h.warp_index(warp) + 1]}));
  };
  Exact square = 0;
  for (Eigen::Index k = 0; k < a.cols(); ++k) {
    const auto c = static_cast<std::size_t>(k);
    const Exact off = (bent(a(i, k), h.layout.warp[c]) - bent(b(j, k), h.layout.warp[c])) / std::exp(Exact{h.theta[h.layout.scale[c]]});
    square += off * off;
  }
  const Exact r = std::sqrt(5 * square);
  return (1 + r + r * r / 3) * std::exp(-r);
}

ExactMatrix correlations(const Hyperparameters& h, const Matrix& a, const Matrix& b) {
  ExactMatrix k(a.rows(), b.rows());
  for (Eigen::Index i = 0; i < a.rows(); ++i) {
    for (Eigen::Index j = 0; j < b.rows(); ++j) k(i, j) = correlation(h, a, i, b, j);
  }
  return k;
}

ExactMatrix with_noise(const Hyperparameters& h, const Matrix& x) {
  const ExactMatrix k = correlations(h, x, x);
  return k + std::exp(Exact{h.theta[h.noise_index()]}) * ExactMatrix::Identity(k.rows(), k.cols());
}

/// What is believed at one row of `asked`: the constant mean as an explicit basis function with a normal prior (Rasmussen & Williams 2006,
/// equation 2.41), inverses of matrices, the signal's variance as the mean of its posterior.
std::pair<Exact, Exact> dense_belief(const Hyperparameters& h, const Matrix& x, const Vector& values, const Matrix& asked,
                                     Eigen::Index row) {
  const ExactMatrix inverse = with_noise(h, x).inverse();
  const ExactVector t = values.cast<Exact>(), cross = correlations(h, x, asked).col(row), ones = ExactVector::Ones(t.size());
  const Exact precision = 1 + ones.dot(inverse * ones), mean = ones.dot(inverse * t) / precision;
  const Exact rest = 1 - ones.dot(inverse * cross);
  const Exact square = t.dot(inverse * t) - precision * mean * mean;
  const Exact variance = (1 + square / 2) / (1 + Exact(t.size()) / 2);
  return {cross.dot(inverse * t) + rest * mean, std::sqrt(variance * (1 - cross.dot(inverse * cross) + rest * rest / precision))};
}

/// Of the data's values, up to a constant; the signal's variance is integrated out numerically.
Exact dense_minus_log_marginal(const Hyperparameters& h, const TrainingSet& data) {
  const ExactVector bent = data.values.cast<Exact>().array() + std::exp(Exact{h.theta[h.bend_index()]}), logs = bent.array().log();
  const Exact n = logs.size(), deviation = std::sqrt((logs.array() - logs.mean()).square().mean());
  const ExactVector t = (logs.array() - logs.mean()) / deviation;
  const ExactMatrix covariance = with_noise(h, data.x).array() + 1;
  const Exact square = t.dot(covariance.inverse() * t);
  Exact integral = 0;
  for (int i = -3000; i <= 3000; ++i) {   // over the variance's logarithm
    const Exact s = i * Exact{0.01};
    integral += 0.01L * std::exp(-n / 2 * s - square / 2 * std::exp(-s) - s - std::exp(-s));
  }
  return -std::log(integral) + std::log(covariance.determinant()) / 2 + logs.sum() + n * std::log(deviation);
}

TEST(GpMarginal, ItsValueIsTheIntegralOverTheVarianceAndTheMean) {
  const Space space = mixed_space();
  for (const std::uint64_t seed : {1, 2, 3}) {
    const Hyperparameters h = of_mixed_space(seed, -4);
    const TrainingSet one = some_data(space, seed, 14), other = some_data(space, seed + 10, 14);
    const Exact expected = dense_minus_log_marginal(h, one) - dense_minus_log_marginal(h, other);   // priors and constants leave
    EXPECT_NEAR(negative_log_posterior(h, one, nullptr) - negative_log_posterior(h, other, nullptr), static_cast<double>(expected), 1e-8);
  }
}

TEST(GpMarginal, ItsGradientIsThatOfDifferences) {
  for (const Space& space : {mixed_space(), architectures()}) {
    for (const double log_noise : {-2.0, -6.0, -10.0}) {
      const TrainingSet data = some_data(space, 5, 25);
      const Hyperparameters h = some_hyperparameters(PointEncoding(space).layout(), 6, log_noise);
      const auto value = [&](const Vector& theta) { return negative_log_posterior({h.layout, theta}, data, nullptr); };
      Vector gradient;
      EXPECT_EQ(negative_log_posterior(h, data, &gradient), value(h.theta));
      ASSERT_EQ(gradient.size(), h.size());
      for (Eigen::Index i = 0; i < h.size(); ++i) {
        const double expected = difference(value, h.theta, i, 1e-3);
        EXPECT_NEAR(gradient[i], expected, 1e-6 * (1 + std::abs(expected))) << "theta " << i << ", noise " << log_noise;
      }
    }
  }
}

// Where the data do not know a dimension its length scale is what the prior says (Hvarfner et al. 2024).
TEST(GpMarginal, TheLengthScalesPriorGrowsWithTheRootOfTheDimensions) {
  const Space space(std::vector<Dimension>(9, {"x", Dimension::Kind::real, 0, 1, false, {}, {}}));
  TrainingSet data = some_data(space, 1, 12);
  data.x.col(4).setConstant(0.25);
  Hyperparameters h = some_hyperparameters(PointEncoding(space).layout(), 2, -4);
  const double middle = std::sqrt(2) + std::log(9) / 2;
  const auto value = [&](double log_scale) {
    h.theta[4] = log_scale;
    return negative_log_posterior(h, data, nullptr);
  };
  EXPECT_NEAR(value(middle + std::sqrt(3)) - value(middle), 0.5, 1e-9);
  EXPECT_NEAR(value(middle - 2 * std::sqrt(3)) - value(middle), 2, 1e-9);
  EXPECT_NEAR(fit(PointEncoding(space).layout(), data).theta[4], middle, 1e-2);
}

// It stops before the very top: by half of a logarithm at most.
TEST(GpFit, FindsWhatNoDrawOfHyperparametersBeatsAndWhichDimensionMatters) {
  const Space space({{"x", Dimension::Kind::real, 0, 1, false, {}, {}}, {"y", Dimension::Kind::real, 0, 1, false, {}, {}}});
  const PointEncoding encoding(space);
  const std::vector<Point> points = drawn(space, 3, 30);
  Vector values(30);
  for (Eigen::Index i = 0; i < 30; ++i) values[i] = 3 + std::sin(9 * points[static_cast<std::size_t>(i)][0]);
  const TrainingSet data(encoding.encode(points), values);
  const Hyperparameters fitted = fit(encoding.layout(), data);
  EXPECT_GT(fitted.theta[1], fitted.theta[0] + 2);
  Random random(4, Purpose::search);
  for (int i = 0; i < 300; ++i) {
    Hyperparameters other = fitted;
    for (double& t : other.theta) t += (i % 3 == 0 ? 2 : 0.1) * random.normal();
    EXPECT_LT(negative_log_posterior(fitted, data, nullptr), negative_log_posterior(other, data, nullptr) + 0.5);
  }
}

TEST(GpFit, WarpsInputsOnlyWhereThatPays) {
  const Space space({{"x", Dimension::Kind::real, 0, 1, false, {}, {}}});
  const PointEncoding encoding(space);
  Matrix x(40, 1);
  Vector even(40), uneven(40);
  for (Eigen::Index i = 0; i < 40; ++i) {
    x(i, 0) = (static_cast<double>(i) + 0.5) / 40;
    even[i] = 2 + std::sin(8 * x(i, 0));
    uneven[i] = 2 + std::sin(20 * std::pow(x(i, 0), 0.2));   // nearly all of it close to 0
  }
  EXPECT_EQ(fit(encoding.layout(), {x, even}).layout.warps, 0);
  EXPECT_EQ(fit(encoding.layout(), {x, uneven}).layout.warps, 1);
}

TEST(GaussianProcess, BelievesWhatTheDenseFormulaSays) {
  const Space space = mixed_space();
  for (const double log_noise : {-2.0, -8.0, -14.0}) {
    const Hyperparameters h = of_mixed_space(7, log_noise);
    const Matrix x = PointEncoding(space).encode(drawn(space, 1, 20)), asked = PointEncoding(space).encode(drawn(space, 2, 10));
    const Vector t = OutputWarp(some_values(20, 3).array() + 1, 1).t;
    const GaussianProcess process(h, x, t);
    const Beliefs beliefs = process.at(asked);
    for (Eigen::Index i = 0; i < asked.rows(); ++i) {
      const auto [mean, deviation] = dense_belief(h, x, t, asked, i);
      EXPECT_NEAR(beliefs.mean[i], static_cast<double>(mean), 1e-8) << log_noise;
      EXPECT_NEAR(beliefs.deviation[i], static_cast<double>(deviation), 1e-8) << log_noise;
      const Belief belief = process.at_point(asked.row(i));
      EXPECT_NEAR(belief.mean, beliefs.mean[i], 1e-10);
      EXPECT_NEAR(belief.deviation, beliefs.deviation[i], 1e-10);
    }
  }
}

TEST(GaussianProcess, InterpolatesDataWithoutNoise) {
  const Space space = mixed_space();
  const Matrix x = PointEncoding(space).encode(drawn(space, 1, 30)), elsewhere = PointEncoding(space).encode(drawn(space, 2, 30));
  const Vector t = OutputWarp(some_values(30, 3).array() + 1, 1).t;
  const GaussianProcess process(of_mixed_space(7, std::log(1e-8)), x, t);
  EXPECT_LT((process.at(x).mean - t).cwiseAbs().maxCoeff(), 1e-4);
  EXPECT_LT(process.at(x).deviation.maxCoeff(), 0.05 * process.at(elsewhere).deviation.minCoeff());
}

TEST(GaussianProcess, ItsSlopesAreThoseOfDifferences) {
  const Space space = mixed_space();
  const GaussianProcess process(of_mixed_space(7, -5), PointEncoding(space).encode(drawn(space, 1, 20)), some_values(20, 3));
  Random random(8, Purpose::search);
  for (int i = 0; i < 5; ++i) {
    Vector x(process.at_point(PointEncoding(space).encode(drawn(space, 1, 1)).row(0)).mean_slope.size());
    for (double& u : x) u = 0.05 + 0.9 * random.uniform();
    const Belief belief = process.at_point(x);
    const double best = belief.mean - 20 * i * belief.deviation;   // from as good as the mean to far in the tail
    Vector slope;
    const double improvement = log_expected_improvement(belief, best, slope);
    EXPECT_NEAR(improvement, log_expected_improvement(process.at(x.transpose()), best)[0], 1e-9 * (1 + std::abs(improvement)));
    for (Eigen::Index k = 0; k < x.size(); ++k) {
      const auto near = [&](double expected) { return 1e-7 * (1 + std::abs(expected)); };
      const double mean_slope = difference([&](const Vector& u) { return process.at_point(u).mean; }, x, k, 1e-3);
      EXPECT_NEAR(belief.mean_slope[k], mean_slope, near(mean_slope)) << k;
      const double deviation_slope = difference([&](const Vector& u) { return process.at_point(u).deviation; }, x, k, 1e-3);
      EXPECT_NEAR(belief.deviation_slope[k], deviation_slope, near(deviation_slope)) << k;
      const auto log_improvement_at = [&](const Vector& u) { return log_expected_improvement(process.at(u.transpose()), best)[0]; };
      const double improvement_slope = difference(log_improvement_at, x, k, 1e-4);
      EXPECT_NEAR(slope[k], improvement_slope, 1e-5 * (1 + std::abs(improvement_slope))) << k << ", " << i;
    }
  }
}

TEST(GaussianProcess, BelievedPointsKeepMeansAndShrinkDeviations) {
  const Space space = mixed_space();
  const PointEncoding encoding(space);
  const GaussianProcess process(of_mixed_space(7, -9), encoding.encode(drawn(space, 1, 20)), some_values(20, 3));
  const Matrix believed = encoding.encode(drawn(space, 5, 8)), asked = encoding.encode(drawn(space, 6, 200));
  const GaussianProcess after = process.with_believed(believed);
  EXPECT_LT((after.at(asked).mean - process.at(asked).mean).cwiseAbs().maxCoeff(), 1e-7);
  EXPECT_LE((after.at(asked).deviation - process.at(asked).deviation).maxCoeff(), 1e-9);
  EXPECT_LT(after.at(believed).deviation.maxCoeff(), 0.2 * process.at(believed).deviation.minCoeff());
}

TEST(PointEncoding, WhatIsNotActiveDoesNotChangeTheCovariance) {
  const Space space = mixed_space();
  const PointEncoding encoding(space);
  // Coordinates that differ where they are not active are the same point: kind a has neither of_b nor of_c.
  const auto a = [&](double of_b, double of_c, double rate) { return space.at({rate, 0.3, 0.1, of_b, of_c, 0.9}); };
  EXPECT_EQ(encoding.encode(std::vector<Point>{a(0.1, 0.9, 0.4)}), encoding.encode(std::vector<Point>{a(0.8, 0.2, 0.4)}));
  // Of two points without them neither length scale nor warp matters.
  const Matrix x = encoding.encode(std::vector{a(0.1, 0.9, 0.4), a(0.3, 0.3, 0.7)});
  ASSERT_TRUE(x.allFinite());
  Hyperparameters h = of_mixed_space(1, -4);
  const double before = squared_distances(scaled(h, x), scaled(h, x))(0, 1);
  EXPECT_GT(before, 0.01);
  h.theta[3] = h.theta[4] = -3;
  h.theta[h.warp_index(2)] = 1;
  EXPECT_NEAR(squared_distances(scaled(h, x), scaled(h, x))(0, 1), before, 1e-9);
}

TEST(PointEncoding, ChoicesAreOneApartAndHavingADimensionIsADifferenceOfItsOwn) {
  const Space space = mixed_space();
  const Matrix x = PointEncoding(space).encode(std::vector<Point>{
      space.at({0.5, 0.5, 0.9, 0, 0.1, 0.5}), space.at({0.5, 0.5, 0.9, 0, 0.4, 0.5}), space.at({0.5, 0.5, 0.9, 0, 0.9, 0.5}),
      space.at({0.5, 0.5, 0.1, 0, 0, 0.5}), space.at({0.5, 0.5, 0.5, 0.5, 0, 0.5}), space.at({0.5, 0.5, 0.5, 0, 0, 0.5})});
  const Matrix apart = squared_distances(x, x);
  for (const auto& [i, j, expected] : {std::tuple{0, 1, 1.0}, {0, 2, 1.0}, {1, 2, 1.0},   // another of_c
                                       {0, 3, 1 + 1.5}, {1, 3, 1 + 1.5},                   // another kind, and of_c or none
                                       {3, 4, 1 + 1.0}, {3, 5, 1 + 1.25},                  // another kind, and of_b or none
                                       {4, 5, 0.25}, {0, 4, 1 + 1.5 + 1}}) {
    EXPECT_NEAR(apart(i, j), expected, 1e-12) << i << " " << j;
  }
}

/// log of the integral of s phi(z - s) over s > 0, phi(z) taken out: it does not underflow.
Exact integrated_log_improvement(Exact z) {
  const Exact end = z < -4 ? 60 / -z : z + 14, step = end / 20000;
  Exact sum = 0;
  for (int i = 1; i < 20000; ++i) {
    const Exact s = i * step;
    sum += (i % 2 == 1 ? 4 : 2) * s * std::exp(z * s - s * s / 2);
  }
  return -z * z / 2 - std::log(2 * std::numbers::pi_v<Exact>) / 2 + std::log(sum * step / 3);
}

TEST(LogImprovement, IsTheIntegralHoweverSmallAndHasItsSlope) {
  const double everywhere[] = {-1e4, -1000, -200, -60, -38.6, -30, -25.01, -24.99, -20, -12, -6, -3, -1.01, -0.99, -0.2, 0, 0.3, 1, 3, 8};
  for (const double z : everywhere) {
    const LogImprovement found = log_improvement(z);
    const double expected = static_cast<double>(integrated_log_improvement(z));
    EXPECT_NEAR(found.value, expected, 1e-9 * (1 + 1e-3 * std::abs(expected))) << z;
    const Exact h = 1e-4L * (1 + std::abs(z) / 100);
    const Exact slope = (integrated_log_improvement(z + h) - integrated_log_improvement(z - h)) / (2 * h);
    EXPECT_NEAR(found.slope, static_cast<double>(slope), 1e-6 * (1 + found.slope)) << z;
  }
}

}  // namespace
}  // namespace tugline::sweep
