// SPDX-License-Identifier: Apache-2.0
// What a checkpoint costs: bench_checkpoint [--quick] FOLDER
// The stall of the training thread against a memcpy of the same bytes and against torch::save of the same tensors; the time until it is
// durable against dd conv=fsync of the same bytes. All in turn, on one folder. What was written is verified in the same run.
#include <torch/torch.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>

#include <fmt/format.h>

#include "tugline/core/clock.hpp"
#include "tugline/core/config/run_config.hpp"
#include "tugline/core/io/checkpoint.hpp"
#include "tugline/core/optim/optimizer.hpp"
#include "tugline/core/state/train_state.hpp"
#include "tugline/tests/bench/row.hpp"

namespace {

using namespace tugline;
namespace fs = std::filesystem;

double seconds_of(const std::function<void()>& body) {
  const double start = Clock::steady().seconds();
  body();
  return Clock::steady().seconds() - start;
}

/// 96 MiB: 8 Mi parameters in 32 layers, and two moments each.
struct State {
  std::vector<NamedTensor> named;
  Arena parameters, buffers;
  std::unique_ptr<Optimizer> optimizer;
  TrainState state;
  static std::vector<NamedTensor> layers() {
    std::vector<NamedTensor> result;
    for (int i = 0; i < 32; ++i) result.push_back({fmt::format("layers.{}.weight", i), torch::randn({512, 512}).requires_grad_(true)});
    return result;
  }
  static OptimConfig adamw() {
    OptimConfig config;
    config.name = "adamw";
    return config;
  }
  State() : named(layers()), parameters(named, {}), buffers({}, {}), optimizer(make_optimizer(adamw(), parameters)),
            state{parameters, buffers, optimizer->slots()} {}
  std::vector<at::Tensor> flats() {
    std::vector<at::Tensor> all{parameters.flats()[0].values};
    for (const auto& slot : optimizer->slots()) all.insert(all.end(), slot.buffers.begin(), slot.buffers.end());
    return all;
  }
};

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const bool quick = !arguments.empty() && arguments.front() == "--quick";
  const fs::path folder = arguments.empty() ? "." : arguments.back();
  at::set_num_threads(1);
  State training;
  Snapshot snapshot;
  std::vector<at::Tensor> copies;
  for (const at::Tensor& flat : training.flats()) copies.push_back(at::empty_like(flat));
  std::vector<double> to_memcpy, to_torch, to_dd;
  const fs::path file = folder / "bench.h5", other = folder / "bench.pt", plain = folder / "bench.dd";
  for (int i = -1; i < (quick ? 5 : 30); ++i) {   // the first does not count
    for (const at::Tensor& flat : training.flats()) flat.add_(1);   // a step has been over the state
    const double copied = seconds_of([&] {
      std::size_t k = 0;
      for (const at::Tensor& flat : training.flats()) std::memcpy(copies[k++].data_ptr(), flat.data_ptr(), flat.nbytes());
    });
    for (const at::Tensor& flat : training.flats()) flat.add_(1);
    const double stall = seconds_of([&] { snapshot.take(training.state, "seed: 0\n"); });
    const double durable = seconds_of([&] { write_checkpoint(file, snapshot.content()); });
    const double torch_save = seconds_of([&] { torch::save(training.flats(), other.string()); });
    const std::string dd = fmt::format("dd if='{}' of='{}' bs=1M conv=fsync 2>/dev/null", file.string(), plain.string());
    int rc = 0;
    const double raw = seconds_of([&] { rc = std::system(dd.c_str()); });
    if (rc != 0) return std::cerr << "bench_checkpoint: dd failed\n", 1;
    verify_checkpoint(file);
    if (i < 0) continue;
    to_memcpy.push_back(stall / copied);
    to_torch.push_back(stall / torch_save);
    to_dd.push_back(durable / raw);
  }
  for (const fs::path& written : {file, other, plain}) fs::remove(written);
  print_row("checkpoint", "stall of training, 96 MiB", to_memcpy, "memcpy of the same bytes", 1.15);
  print_row("checkpoint", "stall of training, 96 MiB", to_torch, "torch::save of the same tensors", 0.15);
  print_row("checkpoint", "until durable, 96 MiB", to_dd, "dd conv=fsync of the same bytes", 1.15);
}
