// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "tugline/parallel/nccl/device_api.hpp"

namespace tugline {

/// One stream, event or piece of memory; move-only, null after a move. Keeps the API alive.
template <typename Handle, void (*kRelease)(DeviceApi&, Handle) noexcept>
class DeviceHandle {
 public:
  DeviceHandle() = default;
  DeviceHandle(std::shared_ptr<DeviceApi> api, Handle handle) : api_(std::move(api)), handle_(handle) {}
  DeviceHandle(DeviceHandle&& other) noexcept : api_(std::move(other.api_)), handle_(std::exchange(other.handle_, nullptr)) {}
  DeviceHandle& operator=(DeviceHandle&& other) noexcept {
    std::swap(api_, other.api_);
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~DeviceHandle() {
    if (handle_ != nullptr) kRelease(*api_, handle_);
  }
  Handle get() const { return handle_; }

 private:
  std::shared_ptr<DeviceApi> api_;
  Handle handle_ = nullptr;
};

inline void release_stream(DeviceApi& api, Stream stream) noexcept { api.destroy(stream); }
inline void release_event(DeviceApi& api, Event event) noexcept { api.destroy(event); }
inline void release_memory(DeviceApi& api, void* data) noexcept { api.free(data); }
inline void release_pinned(DeviceApi& api, void* data) noexcept { api.free_pinned(data); }

using OwnedStream = DeviceHandle<Stream, release_stream>;
using OwnedEvent = DeviceHandle<Event, release_event>;
using DeviceMemory = DeviceHandle<void*, release_memory>;
using PinnedMemory = DeviceHandle<void*, release_pinned>;

inline OwnedStream make_stream(const std::shared_ptr<DeviceApi>& api) { return {api, api->create_stream()}; }
inline OwnedEvent make_event(const std::shared_ptr<DeviceApi>& api) { return {api, api->create_event(false)}; }
inline DeviceMemory make_memory(const std::shared_ptr<DeviceApi>& api, std::int64_t bytes) { return {api, api->allocate(bytes)}; }
inline PinnedMemory make_pinned(const std::shared_ptr<DeviceApi>& api, std::int64_t bytes) { return {api, api->allocate_pinned(bytes)}; }

}  // namespace tugline
