// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/models/autocast.hpp"

#include <ATen/autocast_mode.h>

namespace tugline {

namespace autocast = at::autocast;

std::optional<c10::ScalarType> reduced_type(const std::string& precision) {
  if (precision == "bf16") return c10::kBFloat16;
  if (precision == "fp16") return c10::kHalf;
  return std::nullopt;
}

Autocast::Autocast(c10::DeviceType device, std::optional<c10::ScalarType> type) : device_(device), active_(type.has_value()) {
  if (!active_) return;
  enabled_before_ = autocast::is_autocast_enabled(device);
  type_before_ = autocast::get_autocast_dtype(device);
  autocast::set_autocast_enabled(device, true);
  autocast::set_autocast_dtype(device, *type);
  autocast::increment_nesting();
}

Autocast::~Autocast() {
  if (!active_) return;
  if (autocast::decrement_nesting() == 0) autocast::clear_cache();   // the 16-bit copies of weights, which are about to change
  autocast::set_autocast_enabled(device_, enabled_before_);
  autocast::set_autocast_dtype(device_, type_before_);
}

}  // namespace tugline
