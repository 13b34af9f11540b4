// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/loss_scale.hpp"

#include <algorithm>
#include <exception>
#include <stdexcept>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/core/error.hpp"

namespace tugline {

namespace json = boost::json;

bool LossScale::shrink() {
  finite_steps_ = 0;
  if (scale_ <= 1) return false;
  scale_ /= 2;
  return true;
}

void LossScale::note_finite() {
  if (!on_ || ++finite_steps_ < kStepsToGrow) return;
  finite_steps_ = 0;
  scale_ = std::min(2 * scale_, kLargest);
}

std::string LossScale::save() const {
  if (!on_) return "";
  return json::serialize(json::object{{"scale", static_cast<std::int64_t>(scale_)}, {"finite_steps", finite_steps_}});
}

void LossScale::load(const std::string& text) {
  if (!on_ || text.empty()) return;
  try {
    const json::value value = json::parse(text);
    const double scale = value.at("scale").to_number<double>();
    if (scale < 1 || scale > kLargest) throw std::out_of_range(fmt::format("a scale of {}", scale));
    finite_steps_ = value.at("finite_steps").to_number<std::int64_t>();
    scale_ = scale;
  } catch (const std::exception& error) {
    throw CheckpointError(fmt::format("/meta/loss_scale of the checkpoint cannot be read: {}", error.what()));
  }
}

}  // namespace tugline
