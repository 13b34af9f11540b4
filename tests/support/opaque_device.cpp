// SPDX-License-Identifier: Apache-2.0
#include "tugline/tests/support/opaque_device.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <new>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/HPUHooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>
#include <torch/torch.h>

#include "tugline/tests/support/device_double.hpp"
#include "tugline/trainers/device_access.hpp"

namespace {

constexpr c10::StreamId kStreams = 8;   // beside the first

/// Copies that have been asked for on another stream than the first, and not made.
struct LateCopies {
  std::mutex mutex;
  std::array<std::vector<std::function<void()>>, kStreams + 1> copies;   // per stream
  void make(c10::StreamId stream) {
    std::vector<std::function<void()>> all;
    {
      const std::scoped_lock lock(mutex);
      all.swap(copies.at(static_cast<std::size_t>(stream)));
    }
    for (const auto& copy : all) copy();
  }
  static LateCopies& get() {
    static auto* const late = new LateCopies;
    return *late;
  }
};

thread_local c10::StreamId t_stream = 0;
thread_local bool t_in_operator = false;   // an operator of the CPU copies for itself
std::atomic<std::int64_t> s_host_waits{0};

/// Memory of the host, with a name of its own.
struct PinnedAllocator final : c10::Allocator {
  c10::DataPtr allocate(std::size_t bytes) override {
    void* const data = bytes == 0 ? nullptr : std::malloc(bytes);
    const std::scoped_lock lock(mutex_);
    if (data != nullptr) pinned_.insert(data);
    return {data, data, &release, c10::DeviceType::CPU};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }
  bool holds(const void* data) {
    const std::scoped_lock lock(mutex_);
    return pinned_.contains(const_cast<void*>(data));
  }
  static PinnedAllocator& get() {
    static auto* const pinned = new PinnedAllocator;
    return *pinned;
  }

 private:
  static void release(void* data) {
    const std::scoped_lock lock(get().mutex_);
    get().pinned_.erase(data);
    std::free(data);
  }
  std::mutex mutex_;
  std::set<void*> pinned_;
};

}  // namespace

namespace c10::impl {
/// Streams of a pool are given out in turn; on the first everything has happened when a call returns. An event is when and where it was recorded.
struct OpaqueGuard final : NoOpDeviceGuardImpl<DeviceType::HPU> {
  static Device device() { return {DeviceType::HPU, 0}; }
  static Stream stream(StreamId id) { return Stream(Stream::UNSAFE, device(), id); }
  Device getDevice() const override { return device(); }
  Device exchangeDevice(Device) const override { return device(); }
  Stream getStream(Device) const noexcept override { return stream(t_stream); }
  Stream getDefaultStream(Device) const override { return stream(0); }
  Stream getStreamFromGlobalPool(Device, bool) const override {
    static std::atomic<StreamId> given{0};
    return stream(1 + given++ % kStreams);
  }
  Stream exchangeStream(Stream next) const noexcept override { return stream(std::exchange(t_stream, next.id())); }
  void synchronizeDevice(DeviceIndex) const override { ++s_host_waits; }
  struct Moment {
    std::chrono::steady_clock::time_point time;
    StreamId stream;
  };
  void record(void** event, const Stream& stream, DeviceIndex, EventFlag) const override {
    if (*event == nullptr) *event = new Moment;
    *static_cast<Moment*>(*event) = {std::chrono::steady_clock::now(), stream.id()};
  }
  void block(void* event, const Stream&) const override { LateCopies::get().make(static_cast<Moment*>(event)->stream); }
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void*) const override { ++s_host_waits; }
  double elapsedTime(void* from, void* to, DeviceIndex) const override {
    return std::chrono::duration<double, std::milli>(static_cast<Moment*>(to)->time - static_cast<Moment*>(from)->time).count();
  }
  void destroyEvent(void* event, DeviceIndex) const noexcept override { delete static_cast<Moment*>(event); }
};
C10_REGISTER_GUARD_IMPL(HPU, OpaqueGuard);
}

namespace at {
/// One device, ready. LibTorch looks for this name.
struct HPUHooks final : HPUHooksInterface {
  explicit HPUHooks(HPUHooksArgs) {}
  void init() const override {}
  bool hasHPU() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  bool isPinnedPtr(const void* data) const override { return PinnedAllocator::get().holds(data); }
  Allocator* getPinnedMemoryAllocator() const override { return &PinnedAllocator::get(); }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(DeviceIndex) const override {}
  DeviceIndex exchangeDevice(DeviceIndex) const override { return 0; }
  DeviceIndex maybeExchangeDevice(DeviceIndex) const override { return 0; }
};
REGISTER_HPU_HOOKS(HPUHooks);
}

namespace tugline {
namespace {

const c10::Device kDevice(c10::DeviceType::HPU, 0);

/// All of the device's memory, by address.
class OpaqueMemory {
 public:
  static OpaqueMemory& get() {
    static auto* const memory = new OpaqueMemory;   // tensors may outlive every static object
    return *memory;
  }
  void* allocate(std::size_t bytes) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t size = (bytes + page - 1) / page * page;
    void* const address = ::mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) throw std::bad_alloc();
    const std::scoped_lock lock(mutex_);
    sizes_[address] = size;
    return address;
  }
  void free(void* address) {
    const std::scoped_lock lock(mutex_);
    const auto found = sizes_.find(address);
    if (found == sizes_.end()) return;
    ::munmap(address, found->second);
    sizes_.erase(found);
  }
  bool holds(const void* address) {
    const std::scoped_lock lock(mutex_);
    return around(address) != sizes_.end();
  }
  /// Runs `copy` while these two can be read and written by the host; one may be the host's own.
  template <typename Copy>
  void open_for(const void* one, const void* other, const Copy& copy) {
    const std::scoped_lock lock(mutex_);
    for (const void* const address : {one, other}) protect(address, PROT_READ | PROT_WRITE);
    copy();
    for (const void* const address : {one, other}) protect(address, PROT_NONE);
  }

 private:
  std::map<void*, std::size_t>::iterator around(const void* address) {
    const auto after = sizes_.upper_bound(const_cast<void*>(address));
    if (after == sizes_.begin()) return sizes_.end();
    const auto found = std::prev(after);
    return address < static_cast<char*>(found->first) + found->second ? found : sizes_.end();
  }
  void protect(const void* address, int rights) {
    const auto found = around(address);
    if (found != sizes_.end()) ::mprotect(found->first, found->second, rights);
  }
  std::recursive_mutex mutex_;
  std::map<void*, std::size_t> sizes_;
};

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(std::size_t bytes) override {
    void* const data = bytes == 0 ? nullptr : OpaqueMemory::get().allocate(bytes);
    return {data, data, &release, kDevice};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void*, const void*, std::size_t) const override { TORCH_CHECK(false, "the device copies by _copy_from alone"); }
  static void release(void* data) { OpaqueMemory::get().free(data); }
};
Allocator allocator;
REGISTER_ALLOCATOR(c10::DeviceType::HPU, &allocator);

constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::HPU);

at::Tensor empty(c10::SymIntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>, std::optional<at::Device>,
                 std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), &allocator, kKeys, c10::dtype_or_default(type), format);
}
at::Tensor empty_strided(c10::SymIntArrayRef size, c10::SymIntArrayRef stride, std::optional<at::ScalarType> type, std::optional<at::Layout>,
                         std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), &allocator, kKeys, c10::dtype_or_default(type));
}
at::Tensor as_strided(const at::Tensor& self, c10::SymIntArrayRef size, c10::SymIntArrayRef stride, std::optional<c10::SymInt> offset) {
  return at::native::as_strided_tensorimpl(self, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride),
                                           offset ? std::optional(offset->expect_int()) : std::nullopt);
}
at::Tensor view(const at::Tensor& self, c10::SymIntArrayRef size) { return at::native::view(self, C10_AS_INTARRAYREF_SLOW(size)); }
at::Tensor reshape_alias(const at::Tensor& self, c10::SymIntArrayRef size, c10::SymIntArrayRef stride) {
  return at::native::_reshape_alias(self, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
}

/// The same memory as a tensor of the host's.
at::Tensor on_host(const at::Tensor& tensor) {
  if (tensor.device().is_cpu()) return tensor;
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(), tensor.options().device(at::kCPU));
}

at::Tensor copy_now(const at::Tensor& from, const at::Tensor& to) {
  const at::NoGradGuard no_grad;
  OpaqueMemory::get().open_for(from.const_data_ptr(), to.const_data_ptr(), [&] { on_host(to).copy_(on_host(from)); });
  return to;
}

/// What a stream has been given while a graph was recorded, to be done again. It is done then too, for the shapes of what it makes; then all that has been
/// written is as before.
struct Recording {
  void require_stream() const { TORCH_CHECK(t_stream == stream, "work of another stream is recorded"); }
  void note_written(const at::Tensor& tensor) {
    const at::Tensor before = at::empty_like(on_host(tensor));
    copy_now(tensor, before);
    written.emplace_back(tensor, before);
  }
  void take_back() {
    for (auto each = written.rbegin(); each != written.rend(); ++each) copy_now(each->second, each->first);
    written.clear();
  }
  c10::StreamId stream = 0;
  std::vector<std::function<void()>> work;
  std::vector<std::pair<at::Tensor, at::Tensor>> written;   // and on the host, what was there
};
std::atomic<Recording*> s_recording{nullptr};   // backward is on a thread of its own

struct InOperator {
  bool outer = std::exchange(t_in_operator, true);
  ~InOperator() { t_in_operator = outer; }
};

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  if (Recording* const recording = t_in_operator ? nullptr : s_recording.load()) {
    recording->require_stream();
    TORCH_CHECK(from.device() == to.device(), "a copy from or to the host is recorded");
    recording->note_written(to);
    recording->work.push_back([from, to] { copy_now(from, to); });
  }
  if (non_blocking && t_stream != 0 && from.is_pinned()) {
    LateCopies& late = LateCopies::get();
    const std::scoped_lock lock(late.mutex);
    late.copies.at(static_cast<std::size_t>(t_stream)).push_back([from, to] { copy_now(from, to); });
    return to;
  }
  if (from.device() != to.device() && !non_blocking && !t_in_operator) ++s_host_waits;
  return copy_now(from, to);
}
at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  TORCH_CHECK(from.sizes() == to.sizes(), "the device resizes nothing");
  return copy_from(from, to, false);
}

/// The streams of a double that copy from and to the device. On the null stream LibTorch computes, and has done so when a call returns:
/// what it waits for must have happened too.
class OpaqueApi final : public DeviceDouble {
 public:
  OpaqueApi() : DeviceDouble(1) {}
  ~OpaqueApi() override {
    EXPECT_EQ(misuses(), std::vector<std::string>{});
    EXPECT_EQ(alive(), 0);
  }
  DeviceInfo device_info(int device) override {
    DeviceInfo info = DeviceDouble::device_info(device);
    info.uuid = "GPU-" + std::to_string(::getpid());   // each process has its own
    return info;
  }
  bool on_device(const void* data) override { return OpaqueMemory::get().holds(data); }
  void copy_to_device(void* device, const void* host, std::int64_t bytes, Stream stream) override { copy(device, host, bytes, stream); }
  void copy_to_host(void* host, const void* device, std::int64_t bytes, Stream stream) override { copy(host, device, bytes, stream); }
  void stream_wait(Stream stream, Event event) override {
    DeviceDouble::stream_wait(stream, event);
    if (stream == nullptr) synchronize(stream);
  }

 private:
  void copy(void* to, const void* from, std::int64_t bytes, Stream stream) {
    launch(stream, [=] { OpaqueMemory::get().open_for(to, from, [&] { std::memcpy(to, from, static_cast<std::size_t>(bytes)); }); });
  }
};

std::vector<at::Tensor> tensors_of(const c10::IValue& value) {
  if (value.isTensor()) return {value.toTensor()};
  return value.isTensorList() ? value.toTensorVector() : std::vector<at::Tensor>();
}

/// Does it now too.
void record(Recording& recording, const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  recording.require_stream();
  TORCH_CHECK(schema.name() != "aten::_local_scalar_dense", "the host waits for a number while work is recorded");
  const torch::jit::Stack arguments(stack->end() - static_cast<std::ptrdiff_t>(schema.arguments().size()), stack->end());
  bool writes = false;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const auto* const alias = schema.arguments()[i].alias_info();
    if (alias == nullptr || !alias->isWrite()) continue;
    writes = true;
    for (const at::Tensor& tensor : tensors_of(arguments[i])) recording.note_written(tensor);
  }
  at::native::cpu_fallback(op, stack);
  torch::jit::Stack results;
  if (!writes) results.assign(stack->end() - static_cast<std::ptrdiff_t>(schema.returns().size()), stack->end());
  recording.work.push_back([op, arguments, results] {
    torch::jit::Stack again = arguments;
    at::native::cpu_fallback(op, &again);
    for (std::size_t i = 0; i < results.size(); ++i) {
      const auto from = tensors_of(again[i]), to = tensors_of(results[i]);
      for (std::size_t t = 0; t < to.size(); ++t) {
        if (to[t].defined()) copy_now(from[t], to[t]);
      }
    }
  });
}

void on_the_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  if (op.schema().name() == "aten::_local_scalar_dense") ++s_host_waits;   // item()
  Recording* const recording = t_in_operator ? nullptr : s_recording.load();
  const InOperator in_operator;
  recording != nullptr ? record(*recording, op, stack) : at::native::cpu_fallback(op, stack);
}

/// Work of the device as it has been given to LibTorch, operator by operator.
class OpaqueGraph final : public DeviceGraph {
 public:
  void record(const std::function<void()>& work) override {
    TORCH_CHECK(t_stream != 0, "work of the default stream cannot be recorded");
    const at::Generator generator = at::detail::getDefaultCPUGenerator();
    const at::Tensor drawn = generator.get_state();
    recording_.stream = t_stream;
    s_recording = &recording_;
    try {
      work();
    } catch (...) {
      s_recording = nullptr;
      throw;
    }
    s_recording = nullptr;
    recording_.take_back();
    at::Generator(generator).set_state(drawn);
  }
  void replay() override {
    TORCH_CHECK(t_stream == recording_.stream, "a graph is repeated on another stream than the one that it was recorded on");
    const c10::impl::ExcludeDispatchKeyGuard below_autograd(c10::autograd_dispatch_keyset | c10::DispatchKeySet(c10::DispatchKey::ADInplaceOrView));
    const InOperator in_operator;
    for (const auto& each : recording_.work) each();
  }

 private:
  Recording recording_;
};

const bool kProvided = [] {
  provide_device_kind(kDevice.type(), {[] { return DeviceAccess{std::make_shared<OpaqueApi>(), nullptr}; },
                                       []() -> std::unique_ptr<DeviceGraph> { return std::make_unique<OpaqueGraph>(); }});
  return true;
}();

TORCH_LIBRARY_IMPL(_, HPU, library) { library.fallback(torch::CppFunction::makeFromBoxedFunction<&on_the_cpu>()); }
TORCH_LIBRARY_IMPL(aten, HPU, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("as_strided", &as_strided);
  library.impl("view", &view);
  library.impl("_reshape_alias", &reshape_alias);
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
}

}  // namespace

std::int64_t opaque_host_waits() { return s_host_waits; }

}  // namespace tugline
