// SPDX-License-Identifier: Apache-2.0
#include "tugline/tests/support/device_double.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/tests/support/device_double_state.hpp"

namespace tugline {

DeviceDouble::DeviceDouble(int devices) : devices_(devices) {}

DeviceDouble::~DeviceDouble() {
  {
    const Lock lock(mutex_);
    dead_ = true;
    changed_.notify_all();
  }
  for (auto& [_, stream] : streams_) stream->worker.join();
}

void DeviceDouble::misuse(const std::string& what) {
  misuses_.push_back(what);
  throw CommError("device double: " + what);
}

std::vector<std::string> DeviceDouble::misuses() {
  const Lock lock(mutex_);
  return misuses_;
}

int DeviceDouble::alive() {
  const Lock lock(mutex_);
  std::ptrdiff_t count = static_cast<std::ptrdiff_t>(memory_.size());
  count += std::count_if(streams_.begin(), streams_.end(), [](const auto& stream) { return !stream.second->destroyed; });
  count += std::count_if(events_.begin(), events_.end(), [](const auto& event) { return !event.second->destroyed; });
  count += std::count_if(comms_.begin(), comms_.end(), [](const auto& comm) { return !comm.second->gone; });
  return static_cast<int>(count) - static_cast<int>(default_streams_.size());
}

// Devices.

int DeviceDouble::device() const {
  const auto found = device_of_thread_.find(std::this_thread::get_id());
  return found == device_of_thread_.end() ? 0 : found->second;
}

int DeviceDouble::device_count() {
  if (devices_ == 0) throw CommError("no device: cudaGetDeviceCount: no CUDA-capable device is detected");
  return devices_;
}

DeviceInfo DeviceDouble::device_info(int device) {
  return {"Double", fmt::format("GPU-{:08x}", device), fmt::format("0000:{:02x}:00.0", device), 1LL << 30};
}

void DeviceDouble::set_device(int device) {
  const Lock lock(mutex_);
  if (device < 0 || device >= devices_) misuse(fmt::format("device {} of {}", device, devices_));
  device_of_thread_[std::this_thread::get_id()] = device;
}

// Streams.

DeviceDouble::StreamState& DeviceDouble::state_of(Stream stream) {
  if (stream == nullptr) {
    Stream& own = default_streams_[device()];
    if (own == nullptr) {
      auto made = std::make_unique<StreamState>();
      made->device = device();
      own = reinterpret_cast<Stream>(made.get());
      made->worker = std::thread([this, state = made.get()] { run(*state); });
      streams_[own] = std::move(made);
    }
    stream = own;
  }
  const auto found = streams_.find(stream);
  if (found == streams_.end()) misuse("a stream that was never made");
  if (found->second->destroyed) misuse("a destroyed stream in use");
  return *found->second;
}

Stream DeviceDouble::create_stream() {
  const Lock lock(mutex_);
  auto made = std::make_unique<StreamState>();
  made->device = device();
  const auto handle = reinterpret_cast<Stream>(made.get());
  made->worker = std::thread([this, state = made.get()] { run(*state); });
  streams_[handle] = std::move(made);
  return handle;
}

void DeviceDouble::destroy(Stream stream) noexcept {
  const Lock lock(mutex_);
  const auto found = streams_.find(stream);
  if (found == streams_.end() || std::exchange(found->second->destroyed, true)) misuses_.push_back("a stream destroyed twice");
  changed_.notify_all();
}

void DeviceDouble::enqueue(StreamState& stream, Task task) {
  stream.queue.push_back(std::move(task));
  changed_.notify_all();
}

/// The thread of a stream: tasks in order, until it is destroyed and has none left.
void DeviceDouble::run(StreamState& stream) {
  Lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return !stream.queue.empty() || stream.destroyed || dead_; });
    if (dead_ || stream.queue.empty()) return;
    const Task task = std::move(stream.queue.front());
    stream.queue.pop_front();
    stream.busy = true;
    task(stream, lock);
    stream.busy = false;
    changed_.notify_all();
  }
}

/// Not everything that `until` looks at tells this lock of its changes.
void DeviceDouble::block(StreamState& stream, Lock& lock, const std::function<bool()>& until) {
  stream.waits_for = until;
  changed_.notify_all();
  while (!dead_ && !until()) changed_.wait_for(lock, std::chrono::microseconds(200));
  stream.waits_for = nullptr;
}

void DeviceDouble::wait_until_quiet() {
  Lock lock(mutex_);
  const auto quiet = [](const auto& stream) {
    const StreamState& state = *stream.second;
    return state.busy ? state.waits_for && !state.waits_for() : state.queue.empty();
  };
  while (!std::all_of(streams_.begin(), streams_.end(), quiet)) changed_.wait_for(lock, std::chrono::microseconds(200));
}

void DeviceDouble::synchronize(Stream stream) {
  Lock lock(mutex_);
  const StreamState& state = state_of(stream);
  changed_.wait(lock, [&] { return dead_ || (state.queue.empty() && !state.busy); });
}

bool DeviceDouble::query(Stream stream) {
  const Lock lock(mutex_);
  const StreamState& state = state_of(stream);
  return state.queue.empty() && !state.busy;
}

void DeviceDouble::launch(Stream stream, std::function<void()> kernel) {
  const Lock lock(mutex_);
  enqueue(state_of(stream), [kernel = std::move(kernel)](StreamState&, Lock& held) {
    held.unlock();
    kernel();
    held.lock();
  });
}

void DeviceDouble::wait_at(Stream stream, int gate) {
  const Lock lock(mutex_);
  enqueue(state_of(stream), [this, gate](StreamState& state, Lock& held) {
    block(state, held, [&] { return open_gates_.contains(gate); });
  });
}

void DeviceDouble::open(int gate) {
  const Lock lock(mutex_);
  open_gates_.insert(gate);
  changed_.notify_all();
}

// Events.

DeviceDouble::EventState& DeviceDouble::state_of(Event event) {
  const auto found = events_.find(event);
  if (found == events_.end()) misuse("an event that was never made");
  if (found->second->destroyed) misuse("a destroyed event in use");
  return *found->second;
}

Event DeviceDouble::create_event(bool timed) {
  const Lock lock(mutex_);
  auto made = std::make_shared<EventState>();
  made->timed = timed;
  const auto handle = reinterpret_cast<Event>(made.get());
  events_[handle] = std::move(made);
  return handle;
}

void DeviceDouble::destroy(Event event) noexcept {
  const Lock lock(mutex_);
  const auto found = events_.find(event);
  if (found == events_.end() || std::exchange(found->second->destroyed, true)) misuses_.push_back("an event destroyed twice");
}

void DeviceDouble::record(Event event, Stream stream) {
  const Lock lock(mutex_);
  EventState& state = state_of(event);
  StreamState& on = state_of(stream);
  if (on.unborn_launches > 0) misuse("an event recorded before the call of NCCL ahead of it is on the stream");
  const std::uint64_t number = ++state.recorded;
  enqueue(on, [&state, number](StreamState&, Lock&) {
    state.done = std::max(state.done, number);
    state.at = std::chrono::steady_clock::now();
  });
}

bool DeviceDouble::query(Event event) {
  const Lock lock(mutex_);
  const EventState& state = state_of(event);
  return state.done == state.recorded;
}

void DeviceDouble::stream_wait(Stream stream, Event event) {
  const Lock lock(mutex_);
  const EventState& state = state_of(event);
  enqueue(state_of(stream), [this, &state, number = state.recorded](StreamState& on, Lock& held) {
    block(on, held, [&] { return state.done >= number; });
  });
}

float DeviceDouble::elapsed_ms(Event begin, Event end) {
  const Lock lock(mutex_);
  for (const Event event : {begin, end}) {
    const EventState& state = state_of(event);
    if (!state.timed || state.recorded == 0 || state.done != state.recorded) misuse("the time of an event that has none");
  }
  return std::chrono::duration<float, std::milli>(state_of(end).at - state_of(begin).at).count();
}

// Memory.

const DeviceDouble::Memory* DeviceDouble::memory_of(const void* data) const {
  const auto* at = static_cast<const char*>(data);
  const auto found = memory_.upper_bound(at);
  return found != memory_.end() && found->second.bytes.get() <= at ? &found->second : nullptr;
}

void DeviceDouble::require_memory(const void* data, std::int64_t bytes, bool pinned, const std::string& call) {
  const Memory* memory = memory_of(data);
  const char* kind = pinned ? "pinned memory" : "memory of the device";
  if (memory == nullptr || memory->pinned != pinned) misuse(fmt::format("{} was given what is not {}", call, kind));
  if (static_cast<const char*>(data) + bytes > memory->bytes.get() + memory->size) misuse(fmt::format("{} goes beyond its {}", call, kind));
}

void* DeviceDouble::add_memory(std::int64_t bytes, bool pinned) {
  const Lock lock(mutex_);
  if (bytes <= 0) misuse("an allocation of nothing");
  Memory memory{std::make_unique<char[]>(static_cast<std::size_t>(bytes)), bytes, pinned};
  char* const begin = memory.bytes.get();
  memory_.emplace(begin + bytes, std::move(memory));
  return begin;
}

void DeviceDouble::remove_memory(void* data, bool pinned) noexcept {
  const Lock lock(mutex_);
  const Memory* memory = memory_of(data);
  if (memory == nullptr || memory->pinned != pinned || memory->bytes.get() != data) {
    misuses_.push_back("memory freed that was not allocated so");
    return;
  }
  memory_.erase(memory->bytes.get() + memory->size);
}

void* DeviceDouble::allocate(std::int64_t bytes) { return add_memory(bytes, false); }
void DeviceDouble::free(void* data) noexcept { remove_memory(data, false); }
void* DeviceDouble::allocate_pinned(std::int64_t bytes) { return add_memory(bytes, true); }
void DeviceDouble::free_pinned(void* data) noexcept { remove_memory(data, true); }

bool DeviceDouble::on_device(const void* data) {
  const Lock lock(mutex_);
  const Memory* memory = memory_of(data);
  return memory != nullptr && !memory->pinned;
}

void DeviceDouble::copy(void* to, const void* from, std::int64_t bytes, Stream stream) {
  enqueue(state_of(stream), [=](StreamState&, Lock& held) {
    held.unlock();
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
    held.lock();
  });
}

void DeviceDouble::copy_to_device(void* device, const void* host, std::int64_t bytes, Stream stream) {
  const Lock lock(mutex_);
  require_memory(device, bytes, false, "a copy to the device");
  require_memory(host, bytes, true, "a copy to the device");
  copy(device, host, bytes, stream);
}

void DeviceDouble::copy_to_host(void* host, const void* device, std::int64_t bytes, Stream stream) {
  const Lock lock(mutex_);
  require_memory(host, bytes, true, "a copy from the device");
  require_memory(device, bytes, false, "a copy from the device");
  copy(host, device, bytes, stream);
}

}  // namespace tugline
