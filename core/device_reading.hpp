// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>

namespace tugline {

/// Numbers of a device on their way to the host: they are asked for behind what the device has been given so far, together, and the host waits
/// for them once. One thread.
class DeviceReading {
 public:
  /// `numbers` are tensors of one device, at least one, read as float64 in order.
  explicit DeviceReading(const std::vector<at::Tensor>& numbers);
  std::vector<double> wait() const;

 private:
  at::Tensor host_;   // pinned
  c10::Event copied_;
};

/// How long a device is at what it is given between start() and stop(), by events on the current stream: from when it comes to the one until it
/// has come to the other, whatever the host does meanwhile. One thread.
class DeviceTimer {
 public:
  explicit DeviceTimer(c10::Device device) : device_(device) {}
  void start();
  void stop();
  /// Waits until the device has come to the stop() of the last span but `before`, and no longer; nothing where there are not so many.
  void wait(std::size_t before = 0) const;
  /// Waits until the device has come to the first start().
  void wait_for_start() const;
  /// Of all spans, which have ended.
  double seconds() const;
  /// From the last stop() of `before` to the first start() here, both of which have been come to.
  double seconds_since(const DeviceTimer& before) const;

 private:
  c10::Event mark() const;
  c10::Device device_;
  std::vector<std::pair<c10::Event, c10::Event>> spans_;
};

}  // namespace tugline
