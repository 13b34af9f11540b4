// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/sweep/search/point_encoding.hpp"

#include <cmath>
#include <numbers>

namespace tugline::sweep {
PointEncoding::PointEncoding(const Space& space) : space_(&space) {
  for (const Dimension& dimension : space.dimensions()) {
    const bool numeric = dimension.kind != Dimension::Kind::choice;
    const auto columns = static_cast<std::size_t>(numeric ? 1 : dimension.levels());
    first_.push_back(static_cast<Eigen::Index>(layout_.scale.size()));
    layout_.scale.insert(layout_.scale.end(), columns + (dimension.parents.empty() ? 0 : 1), layout_.scales);
    layout_.warp.resize(layout_.scale.size(), -1);
    if (numeric) layout_.warp[static_cast<std::size_t>(first_.back())] = layout_.warps++;
    ++layout_.scales;
  }
}

void PointEncoding::encode_dimension(std::size_t d, double value, Eigen::Ref<Eigen::RowVectorXd> row) const {
  const Dimension& dimension = space_->dimensions()[d];
  const bool active = !std::isnan(value), numeric = dimension.kind != Dimension::Kind::choice;
  if (numeric) row[first_[d]] = active ? to_unit(dimension, value) : 0.5;
  if (!numeric && active) row[first_[d] + static_cast<Eigen::Index>(value)] = 1 / std::numbers::sqrt2;
  const Eigen::Index columns = numeric ? 1 : dimension.levels();
  if (active && !dimension.parents.empty()) row[first_[d] + columns] = 1;
}

Matrix PointEncoding::encode(std::span<const Point> points) const {
  Matrix x = Matrix::Zero(static_cast<Eigen::Index>(points.size()), static_cast<Eigen::Index>(layout_.scale.size()));
  Eigen::RowVectorXd row(x.cols());
  for (std::size_t i = 0; i < points.size(); ++i) {
    row.setZero();
    for (std::size_t d = 0; d < space_->size(); ++d) encode_dimension(d, points[i][d], row);
    x.row(static_cast<Eigen::Index>(i)) = row;
  }
  return x;
}

}  // namespace tugline::sweep
