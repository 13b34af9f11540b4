// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/batch_copy.hpp"

#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace tugline {

BatchCopy::BatchCopy(c10::Device device) : device_(device) {
  if (!device.is_cpu()) stream_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
}

Batch BatchCopy::operator()(const Batch& batch) const {
  if (!stream_) return batch;
  const c10::impl::VirtualGuardImpl devices(device_.type());
  const c10::Stream computing = devices.getStream(device_);
  Batch there;
  {
    const c10::StreamGuard copying(*stream_);
    there = {batch.input.to(device_, /*non_blocking=*/true), batch.target.to(device_, /*non_blocking=*/true)};
  }
  c10::Event copied(device_.type());
  copied.record(*stream_);
  copied.block(computing);
  // It was allocated for the one stream, and is freed when the other is done with it.
  for (const at::Tensor& tensor : {there.input, there.target}) devices.recordDataPtrOnStream(tensor.storage().data_ptr(), computing);
  return there;
}

}  // namespace tugline
