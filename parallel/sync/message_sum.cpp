// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/zeros.h>

#include "tugline/core/finite.hpp"
#include "tugline/parallel/communicator.hpp"
#include "tugline/parallel/sync/bucket_sum.hpp"

namespace tugline {
namespace {

/// Sums of float64 do not overflow where float32 elements do not.
at::Tensor magnitude(const at::Tensor& values) { return at::linalg_vector_norm(values, 1, {}, false, at::kDouble); }

class MessageSum final : public BucketSum {
 public:
  MessageSum(Communicator& communicator, Arena& arena, const ExchangeOptions& options)
      : arena_(arena), rank_(communicator.rank()), size_(communicator.size()), exchange_(communicator, arena, options) {}

  void begin() override {
    under_way_.clear();
    exchange_.begin();
  }
  void start(int bucket) override {
    if (size_ > 1) under_way_.push_back(exchange_.start(held(bucket)));
  }
  /// MPI moves data only inside its calls: give it a chance each time backward hands us the thread.
  void progress() override {
    for (auto& work : under_way_) work->test();
  }
  void finish() override {
    for (auto& work : under_way_) work->wait();
    under_way_.clear();
  }
  Range held(int bucket) const override { return arena_.buckets()[static_cast<std::size_t>(bucket)].range; }
  Range watched(int bucket) const override { return slice_of(held(bucket), rank_, size_); }
  bool finite() const override {
    for (int bucket = 0; bucket < static_cast<int>(arena_.buckets().size()); ++bucket) {
      if (!all_finite(arena_, watched(bucket))) return false;
    }
    return true;
  }
  void forget() override { exchange_.forget(); }
  std::vector<Residual> residuals() const override {
    std::vector<Residual> all;
    for (int bucket = 0; bucket < static_cast<int>(arena_.buckets().size()); ++bucket) {
      if (const auto residual = exchange_.residual(held(bucket))) all.push_back(*residual);
    }
    return all;
  }
  std::int64_t bytes() const override {
    std::int64_t bytes = 0;
    for (const auto& bucket : arena_.buckets()) bytes += exchange_.bytes(bucket.range);
    return bytes;
  }

 private:
  Arena& arena_;
  int rank_, size_;
  Exchange exchange_;
  std::vector<std::unique_ptr<Work>> under_way_;
};

}  // namespace

Range slice_of(const Range& range, int rank, int size) {
  constexpr std::int64_t kUnit = 32;   // elements: 64 bytes of the smallest dtype
  const std::int64_t units = (range.size() + kUnit - 1) / kUnit;
  const auto cut = [&](std::int64_t index) { return std::min(range.end, range.begin + kUnit * (units * index / size)); };
  return {range.buffer, cut(rank), cut(rank + 1)};
}

at::Tensor magnitude_there(const Arena& arena) {
  at::Tensor sum = at::zeros({}, at::TensorOptions(at::kDouble).device(arena.device()));
  for (const Arena::Flat& flat : arena.flats()) {
    if (flat.gradients.defined()) sum = sum + magnitude(flat.gradients);
  }
  return sum;
}

bool all_finite(const Arena& arena, const Range& range) {
  const at::Tensor gradients = arena.gradients(range);
  if (!gradients.device().is_cpu()) return std::isfinite(magnitude(gradients).item<double>());
  return all_finite(gradients.const_data_ptr(), gradients.numel(), dtype_of(gradients));
}

std::unique_ptr<BucketSum> make_message_sum(Communicator& communicator, Arena& arena, const ExchangeOptions& options) {
  return std::make_unique<MessageSum>(communicator, arena, options);
}

}  // namespace tugline
