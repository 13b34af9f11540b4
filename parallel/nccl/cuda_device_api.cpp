// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>
#include <nccl.h>

#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/core/log.hpp"
#include "tugline/parallel/nccl/device_api.hpp"

namespace tugline {
namespace {

static_assert(NCCL_VERSION_CODE >= NCCL_VERSION(2, 18, 0), "Tugline needs NCCL 2.18 or newer: ncclCommSplit");
static_assert(sizeof(NcclId) == sizeof(ncclUniqueId));

void check(cudaError_t code, const char* call) {
  if (code != cudaSuccess) throw CommError(fmt::format("{}: {}", call, cudaGetErrorString(code)));
}

/// A call that goes on in the background has not failed: nccl_status() tells how it ended.
void check(ncclResult_t code, const char* call) {
  if (code == ncclSuccess || code == ncclInProgress) return;
  const char* more = ncclGetLastError(nullptr);
  throw CommError(fmt::format("{}: {}{}{}", call, ncclGetErrorString(code), more != nullptr && *more != '\0' ? ": " : "",
                              more != nullptr ? more : ""));
}

/// For what must not throw.
template <typename Code>
void check_and_log(Code code, const char* call) noexcept {
  try {
    check(code, call);
  } catch (const std::exception& error) {
    log::warn("{}", error.what());
  }
}

ncclDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::float32: return ncclFloat32;
    case DType::float64: return ncclFloat64;
    case DType::bfloat16: return ncclBfloat16;
    case DType::float16: return ncclFloat16;
    case DType::int64: return ncclInt64;
    case DType::int32: return ncclInt32;
    case DType::uint8:
    case DType::boolean: return ncclUint8;
  }
  throw CommError(fmt::format("{} cannot be reduced over NCCL", name_of(dtype)));
}

ncclRedOp_t op_of(ReduceOp op) { return op == ReduceOp::sum ? ncclSum : op == ReduceOp::max ? ncclMax : ncclMin; }

std::string uuid_text(const cudaUUID_t& uuid) {
  std::string text = "GPU";
  for (std::size_t i = 0; i < sizeof uuid.bytes; ++i) {
    const bool dash = i == 0 || i == 4 || i == 6 || i == 8 || i == 10;
    text += fmt::format("{}{:02x}", dash ? "-" : "", static_cast<unsigned char>(uuid.bytes[i]));
  }
  return text;
}

class CudaDeviceApi final : public DeviceApi {
 public:
  int device_count() override {
    int count = 0;
    const cudaError_t code = cudaGetDeviceCount(&count);
    if (code != cudaSuccess) throw CommError(fmt::format("no device: cudaGetDeviceCount: {}", cudaGetErrorString(code)));
    if (count == 0) throw CommError("no device: CUDA_VISIBLE_DEVICES hides all there are");
    return count;
  }
  DeviceInfo device_info(int device) override {
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
    char pci[32] = {};
    check(cudaDeviceGetPCIBusId(pci, sizeof pci, device), "cudaDeviceGetPCIBusId");
    return {properties.name, uuid_text(properties.uuid), pci, static_cast<std::int64_t>(properties.totalGlobalMem)};
  }
  void set_device(int device) override { check(cudaSetDevice(device), "cudaSetDevice"); }

  Stream create_stream() override {
    // Not ordered against the default stream by itself: events order it.
    Stream stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    return stream;
  }
  void destroy(Stream stream) noexcept override { check_and_log(cudaStreamDestroy(stream), "cudaStreamDestroy"); }
  void synchronize(Stream stream) override { check(cudaStreamSynchronize(stream), "cudaStreamSynchronize"); }
  bool query(Stream stream) override { return done(cudaStreamQuery(stream), "cudaStreamQuery"); }

  Event create_event(bool timed) override {
    Event event = nullptr;
    check(cudaEventCreateWithFlags(&event, timed ? cudaEventDefault : cudaEventDisableTiming), "cudaEventCreateWithFlags");
    return event;
  }
  void destroy(Event event) noexcept override { check_and_log(cudaEventDestroy(event), "cudaEventDestroy"); }
  void record(Event event, Stream stream) override { check(cudaEventRecord(event, stream), "cudaEventRecord"); }
  bool query(Event event) override { return done(cudaEventQuery(event), "cudaEventQuery"); }
  void stream_wait(Stream stream, Event event) override { check(cudaStreamWaitEvent(stream, event, 0), "cudaStreamWaitEvent"); }
  float elapsed_ms(Event begin, Event end) override {
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "cudaEventElapsedTime");
    return ms;
  }

  void* allocate(std::int64_t bytes) override {
    void* data = nullptr;
    check(cudaMalloc(&data, static_cast<std::size_t>(bytes)), "cudaMalloc");
    return data;
  }
  void free(void* data) noexcept override { check_and_log(cudaFree(data), "cudaFree"); }
  void* allocate_pinned(std::int64_t bytes) override {
    void* data = nullptr;
    check(cudaMallocHost(&data, static_cast<std::size_t>(bytes)), "cudaMallocHost");
    return data;
  }
  void free_pinned(void* data) noexcept override { check_and_log(cudaFreeHost(data), "cudaFreeHost"); }
  bool on_device(const void* data) override {
    if (data == nullptr) return false;
    cudaPointerAttributes attributes;
    check(cudaPointerGetAttributes(&attributes, data), "cudaPointerGetAttributes");
    return attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
  }
  void copy_to_device(void* device, const void* host, std::int64_t bytes, Stream stream) override {
    check(cudaMemcpyAsync(device, host, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice, stream), "cudaMemcpyAsync");
  }
  void copy_to_host(void* host, const void* device, std::int64_t bytes, Stream stream) override {
    check(cudaMemcpyAsync(host, device, static_cast<std::size_t>(bytes), cudaMemcpyDeviceToHost, stream), "cudaMemcpyAsync");
  }

  int nccl_version() override {
    int version = 0;
    check(ncclGetVersion(&version), "ncclGetVersion");
    return version;
  }
  NcclId nccl_id() override {
    ncclUniqueId id;
    check(ncclGetUniqueId(&id), "ncclGetUniqueId");
    NcclId result;
    std::memcpy(result.data(), &id, sizeof id);
    return result;
  }
  void set_nccl_host(const std::string& name) override { setenv("NCCL_HOSTID", name.c_str(), 1); }
  void nccl_init(NcclComm& comm, const NcclId& id, int rank, int size) override {
    ncclUniqueId unique;
    std::memcpy(&unique, id.data(), sizeof unique);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    check(ncclCommInitRankConfig(&comm, size, unique, rank, &config), "ncclCommInitRankConfig");
  }
  void nccl_split(NcclComm parent, int color, int key, NcclComm& comm) override {
    // No configuration: as the parent, so it does not block either.
    check(ncclCommSplit(parent, color < 0 ? NCCL_SPLIT_NOCOLOR : color, key, &comm, nullptr), "ncclCommSplit");
  }
  NcclStatus nccl_status(NcclComm comm) override {
    ncclResult_t state = ncclSuccess;
    check(ncclCommGetAsyncError(comm, &state), "ncclCommGetAsyncError");
    if (state == ncclSuccess) return {};
    if (state == ncclInProgress) return {NcclStatus::State::in_progress, {}};
    return {NcclStatus::State::failed, fmt::format("{} ({})", ncclGetErrorString(state), ncclGetLastError(comm))};
  }
  void nccl_finalize(NcclComm comm) override { check(ncclCommFinalize(comm), "ncclCommFinalize"); }
  void nccl_destroy(NcclComm comm) noexcept override { check_and_log(ncclCommDestroy(comm), "ncclCommDestroy"); }
  void nccl_abort(NcclComm comm) noexcept override { check_and_log(ncclCommAbort(comm), "ncclCommAbort"); }

  void group_start() override { check(ncclGroupStart(), "ncclGroupStart"); }
  void group_end() override { check(ncclGroupEnd(), "ncclGroupEnd"); }
  void all_reduce(NcclComm comm, void* data, std::int64_t count, DType dtype, ReduceOp op, Stream stream) override {
    check(ncclAllReduce(data, data, static_cast<std::size_t>(count), type_of(dtype), op_of(op), comm, stream), "ncclAllReduce");
  }
  void broadcast(NcclComm comm, void* data, std::int64_t bytes, int root, Stream stream) override {
    check(ncclBroadcast(data, data, static_cast<std::size_t>(bytes), ncclUint8, root, comm, stream), "ncclBroadcast");
  }
  void all_gather(NcclComm comm, const void* mine, std::int64_t bytes, void* all, Stream stream) override {
    check(ncclAllGather(mine, all, static_cast<std::size_t>(bytes), ncclUint8, comm, stream), "ncclAllGather");
  }
  void send(NcclComm comm, const void* data, std::int64_t bytes, int to, Stream stream) override {
    check(ncclSend(data, static_cast<std::size_t>(bytes), ncclUint8, to, comm, stream), "ncclSend");
  }
  void receive(NcclComm comm, void* data, std::int64_t bytes, int from, Stream stream) override {
    check(ncclRecv(data, static_cast<std::size_t>(bytes), ncclUint8, from, comm, stream), "ncclRecv");
  }

 private:
  static bool done(cudaError_t code, const char* call) {
    if (code == cudaErrorNotReady) return false;
    check(code, call);
    return true;
  }
};

}  // namespace

std::shared_ptr<DeviceApi> make_cuda_device_api() {
  auto api = std::make_shared<CudaDeviceApi>();
  api->device_count();
  const int version = api->nccl_version();
  if (version < NCCL_VERSION_CODE) {
    throw CommError(fmt::format("the NCCL that was loaded is version {}, but this program was built for {}: put a newer libnccl.so.2 on "
                                "LD_LIBRARY_PATH, or build with the older header", version, NCCL_VERSION_CODE));
  }
  return api;
}

}  // namespace tugline
