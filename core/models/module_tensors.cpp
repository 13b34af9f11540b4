// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/models/module_tensors.hpp"

#include <unordered_set>

#include <torch/nn/module.h>

namespace tugline {
namespace {

std::vector<NamedTensor> without_repeats(const torch::OrderedDict<std::string, at::Tensor>& named) {
  std::vector<NamedTensor> result;
  std::unordered_set<const c10::TensorImpl*> seen;
  for (const auto& item : named) {
    if (seen.insert(item.value().unsafeGetTensorImpl()).second) result.push_back({item.key(), item.value()});
  }
  return result;
}

}  // namespace

std::vector<NamedTensor> named_parameters_of(const torch::nn::Module& module) {
  return without_repeats(module.named_parameters());
}

std::vector<NamedTensor> named_buffers_of(const torch::nn::Module& module) {
  return without_repeats(module.named_buffers());
}

}  // namespace tugline
