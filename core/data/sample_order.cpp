// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/data/sample_order.hpp"

#include <array>
#include <mutex>
#include <numeric>
#include <utility>

#include "tugline/core/random.hpp"

namespace tugline {

using Order = std::shared_ptr<const std::vector<std::int64_t>>;

struct SampleOrder::Cache {
  std::mutex mutex;
  std::array<std::pair<std::int64_t, Order>, 2> recent;  // newest first
};

SampleOrder::SampleOrder(std::int64_t num_samples, std::uint64_t seed, bool shuffle)
    : num_samples_(num_samples), seed_(seed), shuffle_(shuffle), cache_(std::make_unique<Cache>()) {}

SampleOrder::~SampleOrder() = default;

Order SampleOrder::epoch(std::int64_t epoch) const {
  const std::int64_t key = shuffle_ ? epoch : 0;  // without shuffling all epochs are alike
  // Held while a permutation is made, so that threads which want the same epoch wait for it and do not make it twice.
  const std::lock_guard lock(cache_->mutex);
  auto& [newest, older] = cache_->recent;
  if (older.second && older.first == key) std::swap(newest, older);
  if (newest.second && newest.first == key) return newest.second;

  std::vector<std::int64_t> order;
  if (shuffle_) {
    Random random(seed_, Purpose::order, static_cast<std::uint64_t>(epoch));
    order = permutation(num_samples_, random);
  } else {
    order.resize(num_samples_);
    std::iota(order.begin(), order.end(), 0);
  }
  older = std::move(newest);
  newest = {key, std::make_shared<const std::vector<std::int64_t>>(std::move(order))};
  return newest.second;
}

}  // namespace tugline
