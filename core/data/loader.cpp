// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/data/loader.hpp"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <utility>

#include "tugline/core/clock.hpp"
#include "tugline/core/data/prefetcher.hpp"

namespace tugline {
namespace {

at::Tensor empty_stack(std::int64_t batch, const std::vector<std::int64_t>& sample_shape, DType dtype, bool pinned) {
  std::vector<std::int64_t> shape{batch};
  shape.insert(shape.end(), sample_shape.begin(), sample_shape.end());
  return at::empty(shape, at::TensorOptions(dtype == DType::float32 ? at::kFloat : at::kLong).pinned_memory(pinned));
}

std::span<std::byte> bytes_of(at::Tensor& tensor) {
  return {static_cast<std::byte*>(tensor.mutable_data_ptr()), tensor.nbytes()};
}

}  // namespace

std::int64_t Batch::size() const { return input.size(0); }

struct Loader::Impl {
  SampleSpec spec;
  Prefetcher prefetcher;
  bool pinned;
  double wait_seconds = 0;
};

Loader::Loader(std::shared_ptr<const Dataset> dataset, std::shared_ptr<const SampleOrder> order,
               const AugmentConfig* augmentation, std::uint64_t seed, LoaderOptions options) {
  const SampleSpec spec = dataset->spec();
  const Augment augment(augmentation && options.augment ? *augmentation : AugmentConfig{}, spec);
  const Prefetcher::Options prefetch{options.threads, options.prefetch_samples};
  impl_.reset(new Impl{spec, {std::move(dataset), std::move(order), augment, seed, prefetch}, options.pinned});
}

Loader::~Loader() = default;

void Loader::expect(std::int64_t epoch, std::int64_t begin, std::int64_t end) {
  impl_->prefetcher.expect(epoch, begin, end);
}

Batch Loader::take(std::int64_t epoch, std::int64_t begin, std::int64_t end) {
  const SampleSpec& spec = impl_->spec;
  const std::int64_t count = std::max<std::int64_t>(0, end - begin);
  Batch batch{empty_stack(count, spec.input_shape, spec.input_dtype, impl_->pinned),
              empty_stack(count, spec.target_shape, spec.target_dtype, impl_->pinned)};
  const double before = Clock::steady().seconds();
  impl_->prefetcher.take(epoch, begin, end, bytes_of(batch.input), bytes_of(batch.target));
  impl_->wait_seconds += Clock::steady().seconds() - before;
  return batch;
}

double Loader::wait_seconds() const { return impl_->wait_seconds; }

}  // namespace tugline
