// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/doctor/speed_work.hpp"

#include <algorithm>
#include <utility>
#include <vector>

namespace tugline {
namespace {

constexpr int kSide = 64;
constexpr std::int64_t kMiB = std::int64_t{1} << 20;
constexpr std::int64_t kUnitFloats = kMiB / static_cast<std::int64_t>(sizeof(float));

/// c = a b
void multiply(const float* __restrict a, const float* __restrict b, float* __restrict c) {
  for (int i = 0; i < kSide; ++i) {
    float row[kSide] = {};
    for (int k = 0; k < kSide; ++k) {
      const float factor = a[i * kSide + k];
      for (int j = 0; j < kSide; ++j) row[j] += factor * b[k * kSide + j];
    }
    std::copy_n(row, kSide, c + i * kSide);
  }
}

class MatrixWork final : public SpeedWork {
 public:
  // The factor takes means of rows, so values stay as they are however often it is applied.
  MatrixWork() : values_(kSide * kSide, 1.0F), factor_(kSide * kSide, 1.0F / kSide), product_(kSide * kSide) {}

  void run(std::int64_t units) override {
    for (std::int64_t unit = 0; unit < units; ++unit) {
      multiply(values_.data(), factor_.data(), product_.data());
      std::swap(values_, product_);  // each product needs the one before: none can be left out
    }
  }
  double amount_per_unit() const override { return 2.0 * kSide * kSide * kSide; }

 private:
  std::vector<float> values_, factor_, product_;
};

class StreamWork final : public SpeedWork {
 public:
  explicit StreamWork(std::int64_t buffer_bytes)
      : num_units_(std::max<std::int64_t>(1, buffer_bytes / kMiB)),
        values_(static_cast<std::size_t>(num_units_ * kUnitFloats), 1.0F) {}

  void run(std::int64_t units) override {
    for (std::int64_t unit = 0; unit < units; ++unit) {
      float* piece = values_.data() + next_ * kUnitFloats;
      for (std::int64_t i = 0; i < kUnitFloats; ++i) piece[i] = piece[i] * 0.5F + 1.0F;  // goes to 2
      next_ = (next_ + 1) % num_units_;
    }
  }
  double amount_per_unit() const override { return 2.0 * static_cast<double>(kMiB); }

 private:
  std::int64_t num_units_, next_ = 0;
  std::vector<float> values_;
};

}  // namespace

std::unique_ptr<SpeedWork> matrix_work() { return std::make_unique<MatrixWork>(); }

std::unique_ptr<SpeedWork> stream_work(std::int64_t buffer_bytes) { return std::make_unique<StreamWork>(buffer_bytes); }

std::int64_t stream_buffer_bytes(std::int64_t cache_bytes, std::int64_t free_bytes, int local_ranks) {
  const std::int64_t wanted = std::max(2 * cache_bytes, 64 * kMiB);
  return std::clamp(free_bytes / (16 * std::max(1, local_ranks)), kMiB, wanted);
}

}  // namespace tugline
