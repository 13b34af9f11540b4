// SPDX-License-Identifier: Apache-2.0
// What Tugline asks of a LibTorch: a parameter can be bound as a view of a foreign buffer (the arena), backward fills a bound
// gradient in place, and std::string crosses the library's boundary (same C++ ABI). Narrow headers: torch/torch.h takes a minute.
#include <ATen/Context.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include <cstdio>
#include <string>

int main() {
  float values[6] = {}, gradients[6] = {};
  at::Tensor parameter = at::ones({2, 3});
  parameter.set_data(at::from_blob(values, parameter.sizes(), parameter.strides(), parameter.options()));
  parameter.fill_(2);
  parameter.requires_grad_(true);
  parameter.mutable_grad() = at::from_blob(gradients, parameter.sizes(), parameter.strides(), at::TensorOptions(at::kFloat));
  parameter.sum().backward();
  if (values[5] != 2 || gradients[5] != 1) {
    std::puts("a parameter cannot be a view of a foreign buffer");
    return 1;
  }
  const std::string facts = at::show_config();
  return facts.empty();
}
