// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/sync/exchange.hpp"

#include <cstdlib>
#include <new>

#include "tugline/core/error.hpp"
#include "tugline/parallel/ring/ring_communicator.hpp"

namespace tugline {
namespace {

/// Zeros that cost nothing until they are touched: a rank may round a part of the arena only.
std::shared_ptr<float> zeros(std::int64_t count) {
  void* const memory = std::calloc(static_cast<std::size_t>(count), sizeof(float));
  if (memory == nullptr) throw std::bad_alloc();
  return {static_cast<float*>(memory), std::free};
}

}  // namespace

Exchange::Exchange(Communicator& communicator, const Arena& arena, const ExchangeOptions& options)
    : communicator_(communicator), arena_(arena) {
  if (communicator.size() == 1) return;
  if (options.ring || options.bfloat16) ring_ = std::make_unique<RingCommunicator>(communicator.duplicate());
  for (const auto& flat : arena.flats()) {
    const bool rounded = options.bfloat16 && flat.gradients.defined() && flat.gradients.scalar_type() == at::kFloat;
    residuals_.push_back(rounded ? zeros(flat.gradients.numel()) : nullptr);
  }
}
Exchange::~Exchange() = default;

std::unique_ptr<Work> Exchange::start(const Range& range) {
  const at::Tensor gradients = arena_.gradients(range);
  const auto& residual = residuals_[static_cast<std::size_t>(range.buffer)];
  if (residual) return ring_->start_rounded_sum(gradients.data_ptr<float>(), range.size(), residual.get() + range.begin);
  Communicator& communicator = ring_ ? static_cast<Communicator&>(*ring_) : communicator_;
  return communicator.start_all_reduce(gradients.data_ptr(), range.size(), dtype_of(gradients), ReduceOp::sum);
}

std::int64_t Exchange::bytes(const Range& range) const {
  const std::int64_t size = communicator_.size();
  if (size == 1) return 0;
  const auto buffer = static_cast<std::size_t>(range.buffer);
  const std::int64_t element = residuals_[buffer] ? 2 : static_cast<std::int64_t>(arena_.flats()[buffer].gradients.element_size());
  return 2 * (size - 1) * range.size() * element / size;
}

DType dtype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat: return DType::float32;
    case at::kDouble: return DType::float64;
    case at::kBFloat16: return DType::bfloat16;
    case at::kHalf: return DType::float16;
    case at::kLong: return DType::int64;
    case at::kInt: return DType::int32;
    default: throw Error("tensors of type " + std::string(c10::toString(tensor.scalar_type())) + " cannot be summed over ranks");
  }
}

}  // namespace tugline
