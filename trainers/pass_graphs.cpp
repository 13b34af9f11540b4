// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/pass_graphs.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/div.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include "tugline/core/error.hpp"
#include "tugline/core/state/arena.hpp"

namespace tugline {
namespace {

constexpr int kWarmUps = 2;              // LibTorch makes workspaces and chooses algorithms on the way
constexpr std::size_t kMostShapes = 8;   // each keeps its activations

bool alike(const at::Tensor& one, const at::Tensor& other) { return one.sizes() == other.sizes() && one.scalar_type() == other.scalar_type(); }
bool same_shape(const Batch& one, const Batch& other) { return alike(one.input, other.input) && alike(one.target, other.target); }

/// What `later` is given from now on comes behind what `earlier` holds.
void order(const c10::Stream& earlier, const c10::Stream& later) {
  c10::Event reached(earlier.device_type());
  reached.record(earlier);
  reached.block(later);
}

}  // namespace

PassGraphs::PassGraphs(c10::Device device, std::function<PassSums(const Batch&)> forward)
    : device_(device), forward_(std::move(forward)), make_graph_(kind_of(device).make_graph) {
  const c10::impl::VirtualGuardImpl devices(device.type());
  if (devices.getStream(device).id() != devices.getDefaultStream(device).id()) return;   // another one's, which lives
  stream_ = std::make_unique<c10::StreamGuard>(devices.getStreamFromGlobalPool(device));
  order(stream_->original_stream(), stream_->current_stream());
}

PassGraphs::~PassGraphs() {
  if (stream_) order(stream_->current_stream(), stream_->original_stream());
}

PassGraphs::Recorded& PassGraphs::of_shape(const Batch& batch) {
  for (auto pass = passes_.begin(); pass != passes_.end(); ++pass) {
    if (!same_shape(pass->batch, batch)) continue;
    passes_.splice(passes_.begin(), passes_, pass);
    return passes_.front();
  }
  if (passes_.size() == kMostShapes) passes_.pop_back();
  Recorded& pass = passes_.emplace_front();
  pass.batch = {at::empty_like(batch.input, at::MemoryFormat::Contiguous), at::empty_like(batch.target, at::MemoryFormat::Contiguous)};
  return pass;
}

bool PassGraphs::waits_for_device(const Batch& batch) const {
  const auto pass = std::find_if(passes_.begin(), passes_.end(), [&](const Recorded& known) { return same_shape(known.batch, batch); });
  if (pass == passes_.end()) return passes_.size() == kMostShapes && passes_.back().graph;
  return pass->met == kWarmUps && !pass->graph;
}

std::optional<PassSums> PassGraphs::run(const Batch& batch, double divisor, const Arena& parameters) {
  Recorded& pass = of_shape(batch);
  if (pass.met < kWarmUps) {
    ++pass.met;
    return std::nullopt;
  }
  if (!pass.graph) record(pass, parameters);
  {
    const at::NoGradGuard no_grad;
    pass.batch.input.copy_(batch.input);
    pass.batch.target.copy_(batch.target);
    pass.divisor.fill_(divisor);
  }
  pass.graph->replay();
  torch::autograd::backward(pass.reached, pass.gradients);   // of leaves: nothing but what follows when a gradient has arrived
  ++repeated_;
  return pass.sums;
}

void PassGraphs::record(Recorded& pass, const Arena& parameters) {
  std::vector<at::Tensor> trained, gradients;
  for (const Arena::Slot& slot : parameters.slots()) {
    if (slot.bucket < 0) continue;
    if (!torch::autograd::impl::hooks(slot.parameter).empty()) {   // would be recorded, and called again when the gradient arrives
      throw ConfigError(fmt::format("train.cuda_graphs: parameter '{}' has a hook on its gradient, which would act twice; set it to false", slot.name));
    }
    trained.push_back(slot.parameter);
  }
  c10::impl::VirtualGuardImpl(device_.type()).synchronizeDevice(device_.index());   // what is wrong before is none of the recording's
  try {
    pass.divisor = at::empty({}, pass.batch.input.options().dtype(at::kDouble));
    pass.graph = make_graph_();
    pass.graph->record([&] {
      pass.sums = forward_(pass.batch);
      const at::Tensor mean = at::div(pass.sums.loss, pass.divisor.to(pass.sums.loss.scalar_type()));
      gradients = torch::autograd::grad({mean}, trained, {}, std::nullopt, false, /*allow_unused=*/true);
      pass.sums.loss = pass.sums.loss.detach();
    });
  } catch (const c10::OutOfMemoryError&) {
    throw ConfigError("train.cuda_graphs: the device has no memory left to record a shape of batch, which keeps its activations; set it to false");
  } catch (const c10::Error& error) {
    const std::string why = error.what_without_backtrace();
    throw ConfigError(fmt::format("train.cuda_graphs: forward and backward of this model cannot be recorded ({}); set it to false",
                                  why.substr(0, why.find('\n'))));
  }
  for (std::size_t i = 0; i < trained.size(); ++i) {
    if (!gradients[i].defined()) continue;
    pass.reached.push_back(trained[i]);
    pass.gradients.push_back(gradients[i]);
  }
}

}  // namespace tugline
