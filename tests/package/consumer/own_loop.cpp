// SPDX-License-Identifier: Apache-2.0
// A loop of one's own on a least-squares problem of which every rank has another part.
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>

#include <cstdio>

#include "core/error.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/log.hpp"
#include "tugline/parallel/data_parallel.hpp"
#include "tugline/parallel/world.hpp"

int main(int argc, char** argv) try {
  tugline::World world{argc, argv};
  torch::nn::Linear model(4, 1);
  tugline::DataParallel team{world, *model};
  torch::optim::SGD optimizer(model->parameters(), torch::optim::SGDOptions(0.1));

  const std::int64_t mine = 8 + 4 * world.rank();
  const at::Tensor input = torch::linspace(-1, 1 + world.rank(), mine * 4).sin().reshape({mine, 4});
  const at::Tensor target = input.sum(1, /*keepdim=*/true);
  double first = 0, last = 0;
  for (int step = 0; step < 50; ++step) {
    const at::Tensor loss_sum = (model->forward(input) - target).square().sum();
    optimizer.zero_grad();
    team.backward(loss_sum, static_cast<double>(mine));
    optimizer.step();
    last = loss_sum.item<double>();
    if (step == 0) first = last;
  }
  if (last > 0.1 * first) return consumer::Error{3}.code;
  if (world.rank() == 0)
    std::puts(fmt::format("{} rank{}: the loss fell", world.size(), world.size() > 1 ? "s" : "").c_str());
  return 0;
} catch (const tugline::Error& error) {
  tugline::log::error("{}", error.what());
  return static_cast<int>(error.exit_code());
}
