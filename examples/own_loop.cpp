// SPDX-License-Identifier: Apache-2.0
// A training loop of your own on several ranks:
//   mpirun -n 3 own_loop
// The lines marked (1), (2) and (3) are all that differs from the loop for one process.
#include <torch/torch.h>

#include <cstdio>

#include "tugline/parallel/data_parallel.hpp"
#include "tugline/parallel/world.hpp"

int main(int argc, char** argv) {
  tugline::World world{argc, argv};                                             // (1)
  torch::manual_seed(1);
  torch::nn::Sequential model(torch::nn::Linear(20, 64), torch::nn::ReLU(), torch::nn::Linear(64, 1));
  tugline::DataParallel team{world, *model};                                    // (2)
  torch::optim::SGD optimizer(model->parameters(), torch::optim::SGDOptions(0.02).momentum(0.9));

  // Every rank has data of its own, and not even the same amount.
  torch::manual_seed(100 + world.rank());
  const std::int64_t mine = 64 + 16 * world.rank();
  const at::Tensor truth = torch::linspace(-1, 1, 20).unsqueeze(1);
  double first = 0, last = 0;
  for (int step = 0; step < 300; ++step) {
    const at::Tensor x = torch::randn({mine, 20});
    const at::Tensor y = x.mm(truth);
    const at::Tensor loss_sum = torch::mse_loss(model->forward(x), y, at::Reduction::Sum);
    optimizer.zero_grad();
    team.backward(loss_sum, static_cast<double>(mine));                         // (3)
    optimizer.step();
    last = loss_sum.item<double>() / static_cast<double>(mine);
    if (step == 0) first = last;
  }
  if (world.rank() == 0) std::printf("%d ranks: loss %.4f -> %.4f\n", world.size(), first, last);
  return last < 0.1 * first ? 0 : 1;
}
