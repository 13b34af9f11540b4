// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "tugline/core/dtype.hpp"
#include "tugline/parallel/communicator.hpp"
#include "tugline/parallel/ring/progress_thread.hpp"
#include "tugline/parallel/segment_link.hpp"

namespace tugline {

/// `count` elements that become their sum over all ranks, in place.
struct RingData {
  void* data = nullptr;
  std::int64_t count = 0;
  DType dtype = DType::float32;
  /// Not null: float32 travels as bfloat16. What rounding takes from an element stays here, `count` floats, and is added the next time
  /// (error feedback: Seide et al. 2014, Karimireddy et al. 2019).
  float* residual = nullptr;
};

/// Memory of sums that are over, for the next: touching fresh pages would cost more than adding up what arrives in them. Any thread.
class ScratchPool {
 public:
  std::vector<std::byte> take(std::size_t bytes);
  void give_back(std::vector<std::byte> memory);

 private:
  std::mutex mutex_;
  std::vector<std::vector<std::byte>> free_;
};

/// One all-reduce of a ring: the data is cut into a chunk per rank; in size - 1 steps each chunk goes once around and collects its sum, in
/// size - 1 more every rank gets all sums, so that a rank sends 2 (size - 1) / size of the data (Patarasuk and Yuan 2009, "Bandwidth
/// optimal all-reduce algorithms"). Chunks travel in segments: one is on its way while another is added up. Every chunk is added up in
/// one order and rounded in one place: all ranks get the same bits.
class RingSum final : public Errand {
 public:
  /// `channel` has at least 2 ranks, and no other messages with `tag` under way.
  RingSum(Communicator& channel, int tag, const RingData& data, const SegmentOptions& options, std::shared_ptr<ScratchPool> pool);
  ~RingSum() override;

  bool advance() override;
  bool finished() const override { return received_ == receives_.size() && sent_ == sends_.size(); }

 private:
  struct Segment {
    std::int64_t begin = 0, count = 0;   // elements
    int step = 0;                        // of the ring's 2 (size - 1)
    std::size_t needs = 0;               // a send: so many segments received; a receive: so many sent, since it writes over what they read
  };
  void plan(int step, int chunk, std::vector<Segment>& segments) const;
  bool collecting(const Segment& segment) const { return segment.step < size_ - 1; }
  std::byte* place_of(const Segment& segment) const { return data_ + segment.begin * element_bytes_; }
  std::byte* slot(std::size_t number) { return scratch_.data() + number * slot_bytes_; }
  bool received_in_slot(const Segment& segment) const { return compressed() || collecting(segment); }
  bool compressed() const { return residual_ != nullptr; }

  void start_receive(std::size_t index);
  void accept(std::size_t index);
  void start_send(std::size_t index);
  const std::byte* compress(const Segment& segment, std::byte* into);

  Communicator& channel_;
  int tag_, rank_, size_;
  std::byte* data_;
  std::int64_t count_, element_bytes_, wire_bytes_, segment_count_;
  DType dtype_;
  float* residual_;
  std::size_t window_, slot_bytes_ = 0;
  std::shared_ptr<ScratchPool> pool_;
  std::vector<std::byte> scratch_;                  // from the first advance() on: window_ slots for what arrives, and for what leaves compressed
  std::vector<Segment> receives_, sends_;           // in the order in which they happen
  std::deque<std::unique_ptr<Work>> arriving_, leaving_;
  std::size_t received_ = 0, sent_ = 0;             // done; what is under way follows
};

}  // namespace tugline
