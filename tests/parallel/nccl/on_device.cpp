// SPDX-License-Identifier: Apache-2.0
#include "tugline/tests/parallel/nccl/on_device.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <set>
#include <thread>
#include <vector>

#include "tugline/parallel/nccl/device_handles.hpp"
#include "tugline/parallel/threads/thread_team.hpp"

namespace tugline {

/// Memory of the device with the content of `data`.
class OnDevice::Buffer {
 public:
  Buffer(std::shared_ptr<DeviceApi> api, Stream stream, const void* data, std::int64_t bytes)
      : api_(std::move(api)), stream_(stream), bytes_(bytes), pinned_(make_pinned(api_, bytes)), memory_(make_memory(api_, bytes)) {
    std::memcpy(pinned_.get(), data, static_cast<std::size_t>(bytes));
    api_->copy_to_device(memory_.get(), pinned_.get(), bytes, stream_);
  }
  void* data() { return memory_.get(); }
  void download(void* to) {
    api_->copy_to_host(pinned_.get(), memory_.get(), bytes_, stream_);
    api_->synchronize(stream_);
    if (to != nullptr) std::memcpy(to, pinned_.get(), static_cast<std::size_t>(bytes_));
  }

 private:
  std::shared_ptr<DeviceApi> api_;
  Stream stream_;
  std::int64_t bytes_;
  PinnedMemory pinned_;
  DeviceMemory memory_;
};

class OnDevice::DownloadWork final : public Work {
 public:
  /// `to`: null when nothing comes back.
  DownloadWork(std::vector<Buffer> buffers, void* to) : buffers_(std::move(buffers)), to_(to) {}
  void set_out(std::unique_ptr<Work> work) { work_ = std::move(work); }
  std::vector<Buffer>& buffers() { return buffers_; }
  ~DownloadWork() override {
    work_.reset();   // puts the stream behind it
    if (!buffers_.empty()) finish();
  }
  bool test() override {
    if (buffers_.empty()) return true;
    if (!work_->test()) return false;
    wait();
    return true;
  }
  void wait() override {
    if (buffers_.empty()) return;
    work_->wait();
    finish();
  }

 private:
  void finish() {
    buffers_.back().download(to_);
    buffers_.clear();
  }
  std::vector<Buffer> buffers_;   // the last is what comes back
  void* to_;
  std::unique_ptr<Work> work_;
};

std::unique_ptr<Work> OnDevice::start_all_reduce(void* data, std::int64_t count, DType dtype, ReduceOp op) {
  if (count == 0) return inner().start_all_reduce(data, count, dtype, op);
  std::vector<Buffer> buffers;
  buffers.emplace_back(api_, current_stream_(), data, count * static_cast<std::int64_t>(size_of(dtype)));
  auto work = std::make_unique<DownloadWork>(std::move(buffers), data);
  work->set_out(inner().start_all_reduce(work->buffers()[0].data(), count, dtype, op));
  return work;
}

std::unique_ptr<Work> OnDevice::start_broadcast(void* data, std::int64_t bytes, int root) {
  if (bytes == 0) return inner().start_broadcast(data, bytes, root);
  std::vector<Buffer> buffers;
  buffers.emplace_back(api_, current_stream_(), data, bytes);
  auto work = std::make_unique<DownloadWork>(std::move(buffers), data);
  work->set_out(inner().start_broadcast(work->buffers()[0].data(), bytes, root));
  return work;
}

std::unique_ptr<Work> OnDevice::start_all_gather(const void* mine, std::int64_t bytes, void* all) {
  if (bytes == 0) return inner().start_all_gather(mine, bytes, all);
  std::vector<Buffer> buffers;
  buffers.emplace_back(api_, current_stream_(), mine, bytes);
  buffers.emplace_back(api_, current_stream_(), all, bytes * size());
  auto work = std::make_unique<DownloadWork>(std::move(buffers), all);
  work->set_out(inner().start_all_gather(work->buffers()[0].data(), bytes, work->buffers()[1].data()));
  return work;
}

std::unique_ptr<Work> OnDevice::start_send(const void* data, std::int64_t bytes, int to, int tag) {
  if (bytes == 0) return inner().start_send(data, bytes, to, tag);
  std::vector<Buffer> buffers;
  buffers.emplace_back(api_, current_stream_(), data, bytes);
  auto work = std::make_unique<DownloadWork>(std::move(buffers), nullptr);
  work->set_out(inner().start_send(work->buffers()[0].data(), bytes, to, tag));
  return work;
}

std::unique_ptr<Work> OnDevice::start_receive(void* data, std::int64_t bytes, int from, int tag) {
  if (bytes == 0) return inner().start_receive(data, bytes, from, tag);
  std::vector<Buffer> buffers;
  buffers.emplace_back(api_, current_stream_(), data, bytes);
  auto work = std::make_unique<DownloadWork>(std::move(buffers), data);
  work->set_out(inner().start_receive(work->buffers()[0].data(), bytes, from, tag));
  return work;
}

std::unique_ptr<Communicator> OnDevice::wrap(std::unique_ptr<Communicator> part) {
  return std::make_unique<OnDevice>(std::move(part), api_, current_stream_);
}

CurrentStream stream_of_each_thread(const std::shared_ptr<DeviceApi>& api, int device) {
  struct Streams {
    std::mutex mutex;
    std::map<std::thread::id, OwnedStream> by_thread;
  };
  return [api, device, streams = std::make_shared<Streams>()] {
    const std::lock_guard<std::mutex> lock(streams->mutex);
    OwnedStream& own = streams->by_thread[std::this_thread::get_id()];
    if (own.get() != nullptr) return own.get();
    api->set_device(device);
    own = make_stream(api);
    return own.get();
  };
}

std::vector<ConformanceCase> conformance_cases_of_nccl() {
  static const std::set<std::string> others{"point_to_point_keeps_order_and_tags_apart", "probe_tells_who_and_how_long",
                                            "halves_accumulate_in_float32"};
  std::vector<ConformanceCase> cases = conformance_cases();
  const auto erased = std::erase_if(cases, [&](const auto& one) { return others.contains(one.name); });
  EXPECT_EQ(erased, others.size());
  return cases;
}

void run_device_team(const std::shared_ptr<DeviceDouble>& api, int ranks, const std::function<void(DeviceRank&)>& body,
                     Leaves leaves) {
  run_thread_team(ranks, [&](std::unique_ptr<Communicator> control) {
    const int device = control->rank();
    api->set_device(device);
    NcclOptions options;
    options.device = device;
    options.look_seconds = 0.001;
    options.current_stream = stream_of_each_thread(api, device);
    DeviceRank rank{*control, api, options.current_stream(), options};
    body(rank);
  });
  EXPECT_EQ(api->misuses(), std::vector<std::string>{});
  if (leaves == Leaves::nothing) {
    EXPECT_EQ(api->alive(), 0);
  }
}

}  // namespace tugline
