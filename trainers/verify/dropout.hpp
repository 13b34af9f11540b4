// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace torch::nn {
class Module;
}

namespace tugline {

/// True when `module` holds one of torch::nn's dropout modules with a probability above 0.
bool has_dropout(torch::nn::Module& module);
/// Sets the probability of every torch::nn dropout module inside to 0.
void turn_off_dropout(torch::nn::Module& module);

}  // namespace tugline
