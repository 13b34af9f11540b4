// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/ring/ring_sum.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "tugline/parallel/reduce.hpp"

namespace tugline {

std::vector<std::byte> ScratchPool::take(std::size_t bytes) {
  std::vector<std::byte> memory;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!free_.empty()) {
      memory = std::move(free_.back());
      free_.pop_back();
    }
  }
  if (memory.size() < bytes) memory.resize(bytes);
  return memory;
}

void ScratchPool::give_back(std::vector<std::byte> memory) {
  const std::lock_guard<std::mutex> lock(mutex_);
  free_.push_back(std::move(memory));
}

RingSum::RingSum(Communicator& channel, int tag, const RingData& data, const SegmentOptions& options, std::shared_ptr<ScratchPool> pool)
    : channel_(channel), tag_(tag), rank_(channel.rank()), size_(channel.size()), data_(static_cast<std::byte*>(data.data)),
      count_(data.count), element_bytes_(static_cast<std::int64_t>(size_of(data.dtype))),
      wire_bytes_(data.residual != nullptr ? 2 : element_bytes_),
      segment_count_(std::max<std::int64_t>(1, options.segment_bytes / wire_bytes_)), dtype_(data.dtype), residual_(data.residual),
      window_(static_cast<std::size_t>(std::max(1, options.in_flight))), pool_(std::move(pool)) {
  for (int step = 0; step < 2 * (size_ - 1); ++step) {
    plan(step, rank_ - step, sends_);
    plan(step, rank_ - step - 1, receives_);
  }
  // What is sent in one step was received in the step before, segment by segment.
  const auto own = static_cast<std::size_t>(std::count_if(sends_.begin(), sends_.end(), [](const Segment& s) { return s.step == 0; }));
  for (std::size_t i = own; i < sends_.size(); ++i) sends_[i].needs = i - own + 1;
  // What the second half receives lands where the first half sent from, in the same order.
  std::size_t first_sums = 0;
  while (first_sums < receives_.size() && collecting(receives_[first_sums])) ++first_sums;
  for (std::size_t i = first_sums; i < receives_.size(); ++i) receives_[i].needs = i - first_sums + 1;

  std::int64_t longest = 0;
  for (const Segment& segment : receives_) longest = std::max(longest, segment.count);
  for (const Segment& segment : sends_) longest = std::max(longest, segment.count);
  slot_bytes_ = static_cast<std::size_t>((longest * wire_bytes_ + 63) / 64 * 64);
  window_ = std::min(window_, std::max<std::size_t>(1, receives_.size()));
}

RingSum::~RingSum() {
  arriving_.clear();   // waits, after an error
  leaving_.clear();
  pool_->give_back(std::move(scratch_));
}

void RingSum::plan(int step, int chunk, std::vector<Segment>& segments) const {
  constexpr std::int64_t kUnit = 32;   // elements: chunks begin at cache lines where the data does
  const std::int64_t units = (count_ + kUnit - 1) / kUnit;
  const std::int64_t index = ((chunk % size_) + size_) % size_;
  const auto cut = [&](std::int64_t i) { return std::min(count_, kUnit * (units * i / size_)); };
  for (std::int64_t begin = cut(index); begin < cut(index + 1); begin += segment_count_) {
    segments.push_back({begin, std::min(segment_count_, cut(index + 1) - begin), step, 0});
  }
}

bool RingSum::advance() {
  if (scratch_.empty() && !receives_.empty()) scratch_ = pool_->take(slot_bytes_ * window_ * (compressed() ? 2 : 1));
  const std::size_t before = received_ + sent_ + arriving_.size() + leaving_.size();
  while (!leaving_.empty() && leaving_.front()->test()) {
    leaving_.pop_front();
    ++sent_;
  }
  while (!arriving_.empty() && arriving_.front()->test()) {
    arriving_.pop_front();
    accept(received_++);
  }
  for (std::size_t next = sent_ + leaving_.size(); next < sends_.size() && leaving_.size() < window_; ++next) {
    if (received_ < sends_[next].needs) break;
    start_send(next);
  }
  for (std::size_t next = received_ + arriving_.size(); next < receives_.size() && arriving_.size() < window_; ++next) {
    if (sent_ < receives_[next].needs) break;
    start_receive(next);
  }
  return received_ + sent_ + arriving_.size() + leaving_.size() != before;
}

void RingSum::start_receive(std::size_t index) {
  const Segment& segment = receives_[index];
  std::byte* const into = received_in_slot(segment) ? slot(index % window_) : place_of(segment);
  arriving_.push_back(channel_.start_receive(into, segment.count * wire_bytes_, (rank_ + size_ - 1) % size_, tag_));
}

void RingSum::accept(std::size_t index) {
  const Segment& segment = receives_[index];
  if (!received_in_slot(segment)) return;
  const std::byte* const arrived = slot(index % window_);
  if (!compressed()) {
    const std::array<const void*, 2> in{arrived, place_of(segment)};
    reduce(in, place_of(segment), segment.count, dtype_, ReduceOp::sum);
    return;
  }
  const auto* const wire = reinterpret_cast<const std::uint16_t*>(arrived);
  auto* const values = reinterpret_cast<float*>(place_of(segment));
  if (collecting(segment)) {
    add_bfloat16(wire, values, segment.count);
  } else {
    to_float32(wire, values, segment.count, DType::bfloat16);
  }
}

void RingSum::start_send(std::size_t index) {
  const Segment& segment = sends_[index];
  const std::byte* const from = compressed() ? compress(segment, slot(window_ + index % window_)) : place_of(segment);
  leaving_.push_back(channel_.start_send(from, segment.count * wire_bytes_, (rank_ + 1) % size_, tag_));
}

/// Each rank rounds each element once: parts of sums on their way, and at step size - 1 the whole sum, which it then holds as all others
/// will. What it passes on after that is rounded already.
const std::byte* RingSum::compress(const Segment& segment, std::byte* into) {
  auto* const values = reinterpret_cast<float*>(place_of(segment));
  auto* const wire = reinterpret_cast<std::uint16_t*>(into);
  if (segment.step > size_ - 1) {
    from_float32(values, wire, segment.count, DType::bfloat16);
  } else {
    round_to_bfloat16(values, residual_ + segment.begin, wire, segment.count);
    if (segment.step == size_ - 1) to_float32(wire, values, segment.count, DType::bfloat16);
  }
  return into;
}

}  // namespace tugline
