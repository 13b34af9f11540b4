// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include <c10/core/DeviceType.h>
#include <c10/core/ScalarType.h>

namespace tugline {

/// The 16-bit type that train.precision names (bf16, fp16); nullopt: full precision.
std::optional<c10::ScalarType> reduced_type(const std::string& precision);

/// Mixed precision (Micikevicius et al. 2018, "Mixed Precision Training"): while it lives, products of matrices and convolutions on
/// `device` take 16-bit inputs, and what needs the range of float32 gets it, by LibTorch's lists (at::autocast). Parameters and their gradients stay
/// float32. nullopt: nothing changes. One thread; may be nested.
class Autocast {
 public:
  Autocast(c10::DeviceType device, std::optional<c10::ScalarType> type);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  c10::DeviceType device_;
  bool active_, enabled_before_ = false;
  c10::ScalarType type_before_{};
};

}  // namespace tugline
