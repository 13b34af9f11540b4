// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/nccl/staged_communicator.hpp"

#include <algorithm>
#include <array>
#include <mutex>
#include <utility>
#include <vector>

#include "tugline/core/error.hpp"
#include "tugline/parallel/nccl/device_handles.hpp"

namespace tugline {

/// What all transfers of a communicator share. They take turns, so that all ranks make the other communicator's calls in one order.
class StagedCommunicator::Road {
 public:
  struct Buffer {
    PinnedMemory memory;
    OwnedEvent filled, emptied;     // from the device, to the device
    std::unique_ptr<Work> exchange;
    char* data() const { return static_cast<char*>(memory.get()); }
  };

  Road(std::shared_ptr<DeviceApi> api_of_device, const StagedOptions& staged_options)
      : api(std::move(api_of_device)), options(staged_options), in(make_stream(api)), out(make_stream(api)) {}
  ~Road() {
    try {
      api->synchronize(out.get());   // it may still read what is freed next
    } catch (const CommError&) {
    }
  }
  Stream current_stream() const { return options.current_stream ? options.current_stream() : nullptr; }
  OwnedEvent record_on(Stream stream) const {
    OwnedEvent event = make_event(api);
    api->record(event.get(), stream);
    return event;
  }
  void allocate() {
    if (buffers[0].memory.get() != nullptr) return;
    for (Buffer& buffer : buffers) {
      buffer = {make_pinned(api, options.segment_bytes), make_event(api), make_event(api), nullptr};
    }
  }
  /// Keeps `memory` until `event`. Any thread.
  void keep(PinnedMemory memory, OwnedEvent event) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::erase_if(kept_, [&](const auto& old) { return api->query(old.second.get()); });
    kept_.emplace_back(std::move(memory), std::move(event));
  }

  const std::shared_ptr<DeviceApi> api;
  const StagedOptions options;
  OwnedStream in, out;              // copies from the device, to the device
  std::array<Buffer, 2> buffers;
  std::uint64_t next_ticket = 0;    // of the thread that starts transfers
  std::uint64_t turn = 0;           // these two: of whoever advances them
  std::string failure;

 private:
  std::mutex mutex_;
  std::vector<std::pair<PinnedMemory, OwnedEvent>> kept_;
};

/// One collective, `total` units long, of which a buffer holds `segment`.
class StagedCommunicator::Transfer : public Errand {
 public:
  Transfer(std::int64_t total, std::int64_t segment) : total_(total), segment_(segment), segments_((total + segment - 1) / segment) {}
  void set_out(std::shared_ptr<Road> road) {
    road_ = std::move(road);
    ticket_ = road_->next_ticket++;
    ready_ = road_->record_on(road_->current_stream());
    done_ = make_event(road_->api);
  }
  Event done() const { return done_.get(); }

  bool advance() override {
    if (!road_->failure.empty()) throw CommError(road_->failure);
    if (road_->turn != ticket_) return false;
    try {
      road_->api->set_device(road_->options.device);
      const bool moved = fill() | exchange() | empty();
      if (emptied_ == segments_) finish();
      return moved;
    } catch (const std::exception& error) {
      road_->failure = error.what();
      throw;
    }
  }
  bool finished() const override { return over_; }

 protected:
  struct Segment {
    std::int64_t begin, count;
    char* buffer;
  };
  virtual void copy_in(DeviceApi& api, const Segment& segment, Stream stream) = 0;
  virtual std::unique_ptr<Work> start(const Segment& segment) = 0;
  virtual void copy_out(DeviceApi& api, const Segment& segment, Stream stream) = 0;

 private:
  Road::Buffer& buffer(std::int64_t index) { return road_->buffers[static_cast<std::size_t>(index % 2)]; }
  Segment segment(std::int64_t index) {
    return {index * segment_, std::min(segment_, total_ - index * segment_), buffer(index).data()};
  }
  bool fill() {
    const std::int64_t before = filled_;
    DeviceApi& api = *road_->api;
    if (before == 0) {
      for (Stream stream : {road_->in.get(), road_->out.get()}) api.stream_wait(stream, ready_.get());
    }
    for (; filled_ < segments_ && filled_ < emptied_ + 2; ++filled_) {
      api.stream_wait(road_->in.get(), buffer(filled_).emptied.get());
      copy_in(api, segment(filled_), road_->in.get());
      api.record(buffer(filled_).filled.get(), road_->in.get());
    }
    return filled_ > before;
  }
  bool exchange() {
    // A buffer that is not filled by the device may still be on its way to it.
    if (exchanged_ == filled_ || !road_->api->query(buffer(exchanged_).filled.get())) return false;
    buffer(exchanged_).exchange = start(segment(exchanged_));
    ++exchanged_;
    return true;
  }
  bool empty() {
    if (emptied_ == exchanged_ || !buffer(emptied_).exchange->test()) return false;
    buffer(emptied_).exchange.reset();
    copy_out(*road_->api, segment(emptied_), road_->out.get());
    road_->api->record(buffer(emptied_).emptied.get(), road_->out.get());
    ++emptied_;
    return true;
  }
  void finish() {
    road_->api->record(done_.get(), road_->out.get());
    ++road_->turn;
    over_ = true;
  }

  std::int64_t total_, segment_, segments_;
  std::int64_t filled_ = 0, exchanged_ = 0, emptied_ = 0;   // segments
  std::shared_ptr<Road> road_;
  std::uint64_t ticket_ = 0;
  OwnedEvent ready_, done_;
  bool over_ = false;
};

class StagedCommunicator::StagedWork final : public Work {
 public:
  StagedWork(std::shared_ptr<Road> road, std::shared_ptr<Transfer> transfer, std::unique_ptr<Work> way)
      : road_(std::move(road)), transfer_(std::move(transfer)), way_(std::move(way)) {}
  ~StagedWork() override {
    try {
      StagedWork::wait();
    } catch (const CommError&) {
    }
  }
  bool test() override { return way_->test() && road_->api->query(transfer_->done()); }
  void wait() override {
    way_->wait();
    road_->api->stream_wait(road_->current_stream(), transfer_->done());
  }

 private:
  std::shared_ptr<Road> road_;
  std::shared_ptr<Transfer> transfer_;
  std::unique_ptr<Work> way_;
};

/// A message on its way to the device.
class StagedCommunicator::Receipt final : public Work {
 public:
  Receipt(std::shared_ptr<Road> road, void* data, std::int64_t bytes)
      : road_(std::move(road)), data_(data), bytes_(bytes), ready_(road_->record_on(road_->current_stream())),
        done_(make_event(road_->api)), memory_(make_pinned(road_->api, bytes)) {}
  void* memory() { return memory_.get(); }
  void set_out(std::unique_ptr<Work> message) { message_ = std::move(message); }
  ~Receipt() override {
    try {
      Receipt::wait();
      road_->keep(std::move(memory_), std::move(done_));
    } catch (const CommError&) {
    }
  }
  bool test() override {
    if (message_ && !message_->test()) return false;
    copy_once();
    return road_->api->query(done_.get());
  }
  void wait() override {
    if (message_) message_->wait();
    copy_once();
    road_->api->stream_wait(road_->current_stream(), done_.get());
  }

 private:
  void copy_once() {
    if (!message_) return;
    message_.reset();
    const Stream out = road_->out.get();
    road_->api->stream_wait(out, ready_.get());
    road_->api->copy_to_device(data_, memory_.get(), bytes_, out);
    road_->api->record(done_.get(), out);
  }

  std::shared_ptr<Road> road_;
  void* data_;
  std::int64_t bytes_;
  OwnedEvent ready_, done_;
  PinnedMemory memory_;
  std::unique_ptr<Work> message_;   // goes first: it writes to the memory
};

namespace {

class Sent final : public Work {
 public:
  Sent(PinnedMemory memory, std::unique_ptr<Work> message) : memory_(std::move(memory)), message_(std::move(message)) {}
  bool test() override { return message_->test(); }
  void wait() override { message_->wait(); }

 private:
  PinnedMemory memory_;
  std::unique_ptr<Work> message_;   // goes first: it reads the memory
};

}  // namespace

StagedCommunicator::StagedCommunicator(std::unique_ptr<Communicator> inner, std::shared_ptr<DeviceApi> api, StagedOptions options)
    : ForwardingCommunicator(std::move(inner)), api_(std::move(api)), options_(std::move(options)), channel_(this->inner().duplicate()) {
  api_->set_device(options_.device);
  options_.segment_bytes = std::max<std::int64_t>(options_.segment_bytes, 16 * (size() + 1));   // something of each rank
  road_ = std::make_shared<Road>(api_, options_);
}

StagedCommunicator::~StagedCommunicator() = default;

std::unique_ptr<Work> StagedCommunicator::start(std::unique_ptr<Transfer> transfer) {
  api_->set_device(options_.device);
  road_->allocate();
  std::shared_ptr<Transfer> shared = std::move(transfer);
  shared->set_out(road_);
  auto way = progress_.start(shared);
  return std::make_unique<StagedWork>(road_, std::move(shared), std::move(way));
}

std::unique_ptr<Work> StagedCommunicator::start_all_reduce(void* data, std::int64_t count, DType dtype, ReduceOp op) {
  if (!on_device(data, count)) return inner().start_all_reduce(data, count, dtype, op);
  class Reduction final : public Transfer {
   public:
    Reduction(Communicator& channel, char* data, std::int64_t count, DType dtype, ReduceOp op, std::int64_t segment_bytes)
        : Transfer(count, segment_bytes / static_cast<std::int64_t>(size_of(dtype))),
          channel_(channel), data_(data), width_(static_cast<std::int64_t>(size_of(dtype))), dtype_(dtype), op_(op) {}

   private:
    void copy_in(DeviceApi& api, const Segment& part, Stream stream) override {
      api.copy_to_host(part.buffer, data_ + part.begin * width_, part.count * width_, stream);
    }
    std::unique_ptr<Work> start(const Segment& part) override { return channel_.start_all_reduce(part.buffer, part.count, dtype_, op_); }
    void copy_out(DeviceApi& api, const Segment& part, Stream stream) override {
      api.copy_to_device(data_ + part.begin * width_, part.buffer, part.count * width_, stream);
    }
    Communicator& channel_;
    char* data_;
    std::int64_t width_;
    DType dtype_;
    ReduceOp op_;
  };
  return start(std::make_unique<Reduction>(*channel_, static_cast<char*>(data), count, dtype, op, options_.segment_bytes));
}

std::unique_ptr<Work> StagedCommunicator::start_broadcast(void* data, std::int64_t bytes, int root) {
  if (!on_device(data, bytes)) return inner().start_broadcast(data, bytes, root);
  class Broadcast final : public Transfer {
   public:
    Broadcast(Communicator& channel, char* data, std::int64_t bytes, int root, std::int64_t segment_bytes)
        : Transfer(bytes, segment_bytes), channel_(channel), data_(data), root_(root) {}

   private:
    void copy_in(DeviceApi& api, const Segment& part, Stream stream) override {
      if (channel_.rank() == root_) api.copy_to_host(part.buffer, data_ + part.begin, part.count, stream);
    }
    std::unique_ptr<Work> start(const Segment& part) override { return channel_.start_broadcast(part.buffer, part.count, root_); }
    void copy_out(DeviceApi& api, const Segment& part, Stream stream) override {
      if (channel_.rank() != root_) api.copy_to_device(data_ + part.begin, part.buffer, part.count, stream);
    }
    Communicator& channel_;
    char* data_;
    int root_;
  };
  return start(std::make_unique<Broadcast>(*channel_, static_cast<char*>(data), bytes, root, options_.segment_bytes));
}

std::unique_ptr<Work> StagedCommunicator::start_all_gather(const void* mine, std::int64_t bytes, void* all) {
  if (!on_device(all, bytes)) return inner().start_all_gather(mine, bytes, all);
  class Gathering final : public Transfer {
   public:
    Gathering(Communicator& channel, const char* mine, std::int64_t bytes, char* all, std::int64_t segment_bytes)
        : Transfer(bytes, segment_bytes / (channel.size() + 1)), channel_(channel), mine_(mine), bytes_(bytes), all_(all) {}

   private:
    void copy_in(DeviceApi& api, const Segment& part, Stream stream) override {
      api.copy_to_host(part.buffer, mine_ + part.begin, part.count, stream);
    }
    std::unique_ptr<Work> start(const Segment& part) override {
      return channel_.start_all_gather(part.buffer, part.count, part.buffer + part.count);
    }
    void copy_out(DeviceApi& api, const Segment& part, Stream stream) override {
      for (int r = 0; r < channel_.size(); ++r) {
        api.copy_to_device(all_ + r * bytes_ + part.begin, part.buffer + (r + 1) * part.count, part.count, stream);
      }
    }
    Communicator& channel_;
    const char* mine_;
    std::int64_t bytes_;
    char* all_;
  };
  return start(std::make_unique<Gathering>(*channel_, static_cast<const char*>(mine), bytes, static_cast<char*>(all),
                                           options_.segment_bytes));
}

std::unique_ptr<Work> StagedCommunicator::start_send(const void* data, std::int64_t bytes, int to, int tag) {
  if (!on_device(data, bytes)) return inner().start_send(data, bytes, to, tag);
  api_->set_device(options_.device);
  PinnedMemory memory = make_pinned(api_, bytes);
  const OwnedStream way = make_stream(api_);
  const OwnedEvent ready = road_->record_on(road_->current_stream());
  api_->stream_wait(way.get(), ready.get());
  api_->copy_to_host(memory.get(), data, bytes, way.get());
  api_->synchronize(way.get());
  auto message = inner().start_send(memory.get(), bytes, to, tag);
  return std::make_unique<Sent>(std::move(memory), std::move(message));
}

std::unique_ptr<Work> StagedCommunicator::start_receive(void* data, std::int64_t bytes, int from, int tag) {
  if (!on_device(data, bytes)) return inner().start_receive(data, bytes, from, tag);
  api_->set_device(options_.device);
  auto receipt = std::make_unique<Receipt>(road_, data, bytes);
  receipt->set_out(inner().start_receive(receipt->memory(), bytes, from, tag));
  return receipt;
}

std::unique_ptr<Communicator> StagedCommunicator::wrap(std::unique_ptr<Communicator> part) {
  return std::make_unique<StagedCommunicator>(std::move(part), api_, options_);
}

}  // namespace tugline
