// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace tugline {

/// Something that keeps a model from learning: OverfitVerdict's reason and explanation.
struct Finding {
  std::string reason;
  std::string explanation;
};

}  // namespace tugline
