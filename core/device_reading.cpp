// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/device_reading.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace tugline {
namespace {

c10::Stream current_stream(c10::Device device) { return c10::impl::VirtualGuardImpl(device.type()).getStream(device); }

}  // namespace

DeviceReading::DeviceReading(const std::vector<at::Tensor>& numbers) : copied_(numbers.front().device().type()) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> flat;
  for (const at::Tensor& each : numbers) flat.push_back(each.detach().to(at::kDouble).flatten());
  const at::Tensor there = at::cat(flat);
  host_ = at::empty(there.sizes(), at::TensorOptions(at::kDouble).pinned_memory(true));
  host_.copy_(there, /*non_blocking=*/true);
  copied_.record(current_stream(there.device()));
}

std::vector<double> DeviceReading::wait() const {
  copied_.synchronize();
  const double* const first = host_.const_data_ptr<double>();
  return {first, first + host_.numel()};
}

c10::Event DeviceTimer::mark() const {
  c10::Event event(device_.type(), c10::EventFlag::BACKEND_DEFAULT);   // LibTorch's default keeps no time
  event.record(current_stream(device_));
  return event;
}

void DeviceTimer::start() {
  c10::Event now = mark();
  spans_.emplace_back(std::move(now), c10::Event(device_.type(), c10::EventFlag::BACKEND_DEFAULT));
}

void DeviceTimer::stop() { spans_.back().second = mark(); }

void DeviceTimer::wait(std::size_t before) const {
  if (before < spans_.size()) spans_[spans_.size() - 1 - before].second.synchronize();
}

void DeviceTimer::wait_for_start() const { spans_.front().first.synchronize(); }

double DeviceTimer::seconds_since(const DeviceTimer& before) const { return before.spans_.back().second.elapsedTime(spans_.front().first) / 1e3; }

double DeviceTimer::seconds() const {
  double milliseconds = 0;
  for (const auto& [start, stop] : spans_) milliseconds += start.elapsedTime(stop);
  return milliseconds / 1e3;
}

}  // namespace tugline
