// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/data/prefetcher.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "tugline/core/error.hpp"
#include "tugline/core/random.hpp"

namespace tugline {
namespace {

// One lock per so many samples; small enough that a piece is spread over all threads.
constexpr std::int64_t kBlockSamples = 16;

}  // namespace

struct Prefetcher::Block {
  enum class State { queued, loading, done };

  std::int64_t epoch, begin, end;
  State state = State::queued;
  bool good = false;  // false when done: could not be read, so that take() reads, and throws, itself
  std::vector<std::byte> inputs, targets;
};

Prefetcher::Prefetcher(std::shared_ptr<const Dataset> dataset, std::shared_ptr<const SampleOrder> order, Augment augment,
                       std::uint64_t seed, Options options)
    : dataset_(std::move(dataset)),
      order_(std::move(order)),
      augment_(augment),
      seed_(seed),
      options_(options),
      input_bytes_(dataset_->spec().input_bytes()),
      target_bytes_(dataset_->spec().target_bytes()) {
  if (dataset_->cheap() && !augment_.active()) return;  // handing over would cost more than reading
  for (int i = 0; i < options.threads; ++i) threads_.emplace_back([this](const std::stop_token& stop) { work(stop); });
}

std::int64_t Prefetcher::pending_samples() const {
  const std::lock_guard lock(mutex_);
  return pending_samples_;
}

void Prefetcher::expect(std::int64_t epoch, std::int64_t begin, std::int64_t end) {
  if (threads_.empty()) return;
  const std::lock_guard lock(mutex_);
  end = std::min(end, order_->size());
  for (std::int64_t position = begin; position < end;) {
    const auto next = blocks_.upper_bound({epoch, position});
    if (next != blocks_.begin()) {
      const Block& before = *std::prev(next)->second;
      if (before.epoch == epoch && position < before.end) {
        position = before.end;
        continue;
      }
    }
    std::int64_t block_end = std::min({end, position + kBlockSamples, position + options_.max_samples - pending_samples_});
    if (next != blocks_.end() && next->first.first == epoch) block_end = std::min(block_end, next->first.second);
    if (block_end <= position) break;  // full
    auto block = std::make_shared<Block>(Block{epoch, position, block_end});
    blocks_.emplace(Key{epoch, position}, block);
    queue_.push_back(std::move(block));
    pending_samples_ += block_end - position;
    position = block_end;
  }
  work_added_.notify_all();
}

void Prefetcher::work(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (true) {
    work_added_.wait(lock, stop, [this] { return !queue_.empty(); });
    if (stop.stop_requested()) return;
    const std::shared_ptr<Block> block = std::move(queue_.front());
    queue_.pop_front();
    if (block->state != Block::State::queued) continue;  // take() was faster
    block->state = Block::State::loading;
    lock.unlock();
    fill(*block);
    lock.lock();
    block->state = Block::State::done;
    block_done_.notify_all();
  }
}

void Prefetcher::fill(Block& block) const noexcept {
  try {
    block.inputs.resize((block.end - block.begin) * input_bytes_);
    block.targets.resize((block.end - block.begin) * target_bytes_);
    load(block.epoch, block.begin, block.end, block.inputs, block.targets);
    block.good = true;
  } catch (...) {
    // Nobody may need the bad sample. Whoever does reads it in take() and gets the error there.
  }
}

void Prefetcher::load(std::int64_t epoch, std::int64_t begin, std::int64_t end, std::span<std::byte> inputs,
                      std::span<std::byte> targets) const {
  const auto order = order_->epoch(epoch);
  std::vector<float> scratch;
  for (std::int64_t position = begin; position < end;) {
    // Neighbours in the data set (evaluation, unshuffled data) are read in one go.
    const std::int64_t index = (*order)[position];
    std::int64_t count = 1;
    while (position + count < end && (*order)[position + count] == index + count) ++count;
    const std::int64_t offset = position - begin;
    dataset_->read_range(index, count, inputs.subspan(offset * input_bytes_, count * input_bytes_),
                         targets.subspan(offset * target_bytes_, count * target_bytes_));
    for (std::int64_t i = 0; augment_.active() && i < count; ++i) {
      Random random(seed_, Purpose::augment, epoch, index + i);
      augment_.apply(inputs.subspan((offset + i) * input_bytes_, input_bytes_), random, scratch);
    }
    position += count;
  }
}

std::shared_ptr<Prefetcher::Block> Prefetcher::ready_block(std::int64_t epoch, std::int64_t position,
                                                           std::int64_t& covered_to) {
  std::unique_lock lock(mutex_);
  const auto next = blocks_.upper_bound({epoch, position});
  if (next != blocks_.end() && next->first.first == epoch) covered_to = std::min(covered_to, next->first.second);
  if (next == blocks_.begin()) return nullptr;
  std::shared_ptr<Block> block = std::prev(next)->second;
  if (block->epoch != epoch || position >= block->end) return nullptr;
  covered_to = std::min(covered_to, block->end);
  if (block->state == Block::State::queued) {
    // Nobody has begun it: reading it here is faster than waiting.
    block->state = Block::State::loading;
    lock.unlock();
    fill(*block);
    lock.lock();
    block->state = Block::State::done;
  }
  block_done_.wait(lock, [&] { return block->state == Block::State::done; });
  return block;
}

void Prefetcher::take(std::int64_t epoch, std::int64_t begin, std::int64_t end, std::span<std::byte> inputs,
                      std::span<std::byte> targets) {
  if (begin < 0 || begin > end || end > order_->size()) {
    throw Error("a loader was asked for positions outside its sample order");
  }
  for (std::int64_t position = begin; position < end;) {
    std::int64_t covered_to = end;
    const auto block = threads_.empty() ? nullptr : ready_block(epoch, position, covered_to);
    const std::size_t offset = position - begin, count = covered_to - position;
    const auto input = inputs.subspan(offset * input_bytes_, count * input_bytes_);
    const auto target = targets.subspan(offset * target_bytes_, count * target_bytes_);
    if (block && block->good) {
      const std::size_t from = position - block->begin;
      std::memcpy(input.data(), block->inputs.data() + from * input_bytes_, input.size());
      std::memcpy(target.data(), block->targets.data() + from * target_bytes_, target.size());
    } else {
      load(epoch, position, covered_to, input, target);
    }
    position = covered_to;
  }
  if (!threads_.empty()) drop_before(epoch, end);
}

void Prefetcher::drop_before(std::int64_t epoch, std::int64_t end) {
  const std::lock_guard lock(mutex_);
  for (auto it = blocks_.begin(); it != blocks_.end();) {
    Block& block = *it->second;
    if (block.epoch > epoch || (block.epoch == epoch && block.end > end)) break;
    if (block.state == Block::State::queued) block.state = Block::State::done;  // its place in the queue is void
    pending_samples_ -= block.end - block.begin;
    it = blocks_.erase(it);
  }
}

}  // namespace tugline
