// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/verify/dropout.hpp"

#include <torch/nn/modules/dropout.h>

namespace tugline {
namespace {

template <typename Kind>
double* probability_if(torch::nn::Module& module) {
  auto* dropout = dynamic_cast<Kind*>(&module);
  return dropout == nullptr ? nullptr : &dropout->options.p();
}

double* dropout_probability(torch::nn::Module& module) {
  using namespace torch::nn;
  if (double* p = probability_if<DropoutImpl>(module)) return p;
  if (double* p = probability_if<Dropout2dImpl>(module)) return p;
  if (double* p = probability_if<Dropout3dImpl>(module)) return p;
  if (double* p = probability_if<AlphaDropoutImpl>(module)) return p;
  return probability_if<FeatureAlphaDropoutImpl>(module);
}

}  // namespace

bool has_dropout(torch::nn::Module& module) {
  bool found = false;
  module.apply([&](torch::nn::Module& part) {
    const double* p = dropout_probability(part);
    found = found || (p != nullptr && *p > 0);
  });
  return found;
}

void turn_off_dropout(torch::nn::Module& module) {
  module.apply([](torch::nn::Module& part) {
    if (double* p = dropout_probability(part)) *p = 0;
  });
}

}  // namespace tugline
