// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "tugline/core/state/arena.hpp"

namespace torch::nn {
class Module;
}

namespace tugline {

/// "output.weight", "block0.qkv.bias", ...: what the module holds, in order of registration. A tensor that is registered
/// more than once is listed once, under its first name.
std::vector<NamedTensor> named_parameters_of(const torch::nn::Module& module);
std::vector<NamedTensor> named_buffers_of(const torch::nn::Module& module);

}  // namespace tugline
