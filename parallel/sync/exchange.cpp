// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/sync/exchange.hpp"

#include <algorithm>
#include <cstdlib>
#include <new>

#include <ATen/core/Tensor.h>

#include "tugline/core/error.hpp"
#include "tugline/parallel/reduce.hpp"
#include "tugline/parallel/ring/ring_communicator.hpp"

namespace tugline {
namespace {

/// Zeros that cost nothing until they are touched: a rank may round a part of the arena only.
std::shared_ptr<float> zeros(std::int64_t count) {
  void* const memory = std::calloc(static_cast<std::size_t>(count), sizeof(float));
  if (memory == nullptr) throw std::bad_alloc();
  return {static_cast<float*>(memory), std::free};
}

void copy_range(const Range& range, const std::vector<std::shared_ptr<float>>& from, const std::vector<std::shared_ptr<float>>& to) {
  const auto buffer = static_cast<std::size_t>(range.buffer);
  std::copy_n(from[buffer].get() + range.begin, range.size(), to[buffer].get() + range.begin);
}

/// All ranks' data, then the sum.
class GatheredSum final : public Work {
 public:
  GatheredSum(Communicator& communicator, void* data, std::int64_t count, DType dtype)
      : data_(data), count_(count), dtype_(dtype), bytes_(static_cast<std::size_t>(count) * size_of(dtype)),
        all_(bytes_ * static_cast<std::size_t>(communicator.size())),
        gather_(communicator.start_all_gather(data, static_cast<std::int64_t>(bytes_), all_.data())) {}
  bool test() override {
    if (gather_ && gather_->test()) add_up();
    return gather_ == nullptr;
  }
  void wait() override {
    if (!gather_) return;
    gather_->wait();
    add_up();
  }

 private:
  void add_up() {
    std::vector<const void*> in;
    for (std::size_t begin = 0; begin < all_.size(); begin += bytes_) in.push_back(all_.data() + begin);
    if (!in.empty()) sum_pairwise(in, std::span<void* const>(&data_, 1), count_, dtype_);
    gather_.reset();
    std::vector<std::byte>().swap(all_);
  }
  void* data_;
  std::int64_t count_;
  DType dtype_;
  std::size_t bytes_;
  std::vector<std::byte> all_;
  std::unique_ptr<Work> gather_;
};

}  // namespace

Exchange::Exchange(Communicator& communicator, const Arena& arena, const ExchangeOptions& options)
    : communicator_(communicator), arena_(arena), pairwise_(options.pairwise) {
  if (communicator.size() == 1) return;
  const bool on_host = arena.device().is_cpu();
  if (!on_host && !communicator.takes_device_memory()) {
    throw Error("gradients on " + arena.device().str() + " need a communicator that takes memory of devices, and " + communicator.backend() +
                " does not");
  }
  if (!on_host && (pairwise_ || options.bfloat16)) throw Error("gradients on a device are summed as they are: neither rounded nor pairwise");
  if (pairwise_ && options.bfloat16) throw Error("sums that are added up pairwise are not rounded on their way");
  if (on_host && !pairwise_ && (options.ring || options.bfloat16)) ring_ = std::make_unique<RingCommunicator>(communicator.duplicate());
  for (const auto& flat : arena.flats()) {
    const bool rounded = options.bfloat16 && flat.gradients.defined() && flat.gradients.scalar_type() == at::kFloat;
    for (auto* const buffers : {&residuals_, &before_}) buffers->push_back(rounded ? zeros(flat.gradients.numel()) : nullptr);
  }
}
Exchange::~Exchange() = default;

std::unique_ptr<Work> Exchange::start(const Range& range) {
  const at::Tensor gradients = arena_.gradients(range);
  if (pairwise_) return std::make_unique<GatheredSum>(communicator_, gradients.data_ptr(), range.size(), dtype_of(gradients));
  if (const auto& residual = residuals_[static_cast<std::size_t>(range.buffer)]) {
    copy_range(range, residuals_, before_);
    started_.push_back(range);
    return ring_->start_rounded_sum(gradients.data_ptr<float>(), range.size(), residual.get() + range.begin);
  }
  Communicator& communicator = ring_ ? static_cast<Communicator&>(*ring_) : communicator_;
  return communicator.start_all_reduce(gradients.data_ptr(), range.size(), dtype_of(gradients), ReduceOp::sum);
}

void Exchange::forget() {
  for (const Range& range : started_) copy_range(range, before_, residuals_);
}

std::optional<Residual> Exchange::residual(const Range& range) const {
  const auto buffer = static_cast<std::size_t>(range.buffer);
  if (buffer >= residuals_.size() || !residuals_[buffer] || range.size() == 0) return std::nullopt;
  return Residual{range.buffer, range.begin, {residuals_[buffer].get() + range.begin, static_cast<std::size_t>(range.size())}};
}

std::int64_t Exchange::bytes(const Range& range) const {
  const std::int64_t size = communicator_.size();
  if (size == 1) return 0;
  const auto buffer = static_cast<std::size_t>(range.buffer);
  const std::int64_t element = residuals_[buffer] ? 2 : static_cast<std::int64_t>(arena_.flats()[buffer].gradients.element_size());
  return pairwise_ ? (size - 1) * range.size() * element : 2 * (size - 1) * range.size() * element / size;
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
