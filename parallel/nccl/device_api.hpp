// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "tugline/core/dtype.hpp"
#include "tugline/parallel/communicator.hpp"

// The tags of the libraries' own handles, so that theirs and ours are one type without their headers.
struct CUstream_st;
struct CUevent_st;
struct ncclComm;

namespace tugline {

using Stream = CUstream_st*;   ///< null: the default stream of the thread's device
using Event = CUevent_st*;
using NcclComm = ncclComm*;
using NcclId = std::array<char, 128>;

struct DeviceInfo {
  std::string name;              ///< "NVIDIA H100 80GB HBM3"
  std::string uuid;              ///< "GPU-8f6a...": the same in every process, whatever CUDA_VISIBLE_DEVICES says
  std::string pci;               ///< "0000:1b:00.0"
  std::int64_t memory_bytes = 0;
};

/// How a communicator of NCCL is: `in_progress` while a call on it goes on in the background.
struct NcclStatus {
  enum class State : std::uint8_t { ok, in_progress, failed };
  State state = State::ok;
  std::string what;              ///< the library's sentence, when failed
};

/// All that Tugline asks of the CUDA runtime and of NCCL. Any thread may call it, one at a time per communicator; set_device() holds for
/// the calling thread. What fails throws CommError with the call's name and the library's own sentence; what is noexcept logs it. Memory,
/// streams and events belong to whoever made them (device_handles.hpp). What is queued on a stream returns at once.
class DeviceApi {
 public:
  virtual ~DeviceApi() = default;

  virtual int device_count() = 0;
  virtual DeviceInfo device_info(int device) = 0;
  virtual void set_device(int device) = 0;

  virtual Stream create_stream() = 0;
  virtual void destroy(Stream stream) noexcept = 0;   ///< what is queued on it still runs
  virtual void synchronize(Stream stream) = 0;        ///< blocks the host
  virtual bool query(Stream stream) = 0;              ///< true: nothing is queued

  virtual Event create_event(bool timed) = 0;               ///< timed: elapsed_ms() may be asked
  virtual void destroy(Event event) noexcept = 0;
  virtual void record(Event event, Stream stream) = 0;
  virtual bool query(Event event) = 0;                      ///< true: done, or never recorded
  virtual void stream_wait(Stream stream, Event event) = 0; ///< for its last record; nothing when never recorded
  virtual float elapsed_ms(Event begin, Event end) = 0;     ///< both done

  virtual void* allocate(std::int64_t bytes) = 0;           ///< memory of the thread's device
  virtual void free(void* data) noexcept = 0;
  virtual void* allocate_pinned(std::int64_t bytes) = 0;    ///< host memory that the device reads and writes by itself
  virtual void free_pinned(void* data) noexcept = 0;
  virtual bool on_device(const void* data) = 0;             ///< false: memory of the host, or null
  /// `host` is pinned: a copy of other memory would block.
  virtual void copy_to_device(void* device, const void* host, std::int64_t bytes, Stream stream) = 0;
  virtual void copy_to_host(void* host, const void* device, std::int64_t bytes, Stream stream) = 0;

  virtual int nccl_version() = 0;   ///< 22809: 2.28.9
  virtual NcclId nccl_id() = 0;
  /// Makes this process look like a host of its own, before the first communicator (NCCL_HOSTID, NCCL 2.28).
  virtual void set_nccl_host(const std::string& name) = 0;
  /// Communicators do not block: `comm` is written before nccl_status() says ok, by another thread perhaps, and must not move until then.
  virtual void nccl_init(NcclComm& comm, const NcclId& id, int rank, int size) = 0;
  virtual void nccl_split(NcclComm parent, int color, int key, NcclComm& comm) = 0;   ///< color < 0: no communicator. Ask `parent`
  virtual NcclStatus nccl_status(NcclComm comm) = 0;
  virtual void nccl_finalize(NcclComm comm) = 0;
  virtual void nccl_destroy(NcclComm comm) noexcept = 0;   ///< after nccl_finalize() has ended
  virtual void nccl_abort(NcclComm comm) noexcept = 0;     ///< ends its operations on the device, frees it

  // On memory of the device. Calls between group_start and group_end become one launch. Nothing is on the stream before
  // nccl_status() says ok.
  virtual void group_start() = 0;
  virtual void group_end() = 0;
  virtual void all_reduce(NcclComm comm, void* data, std::int64_t count, DType dtype, ReduceOp op, Stream stream) = 0;
  virtual void broadcast(NcclComm comm, void* data, std::int64_t bytes, int root, Stream stream) = 0;
  virtual void all_gather(NcclComm comm, const void* mine, std::int64_t bytes, void* all, Stream stream) = 0;
  virtual void send(NcclComm comm, const void* data, std::int64_t bytes, int to, Stream stream) = 0;
  virtual void receive(NcclComm comm, void* data, std::int64_t bytes, int from, Stream stream) = 0;
};

/// The CUDA runtime and NCCL. Throws CommError in one sentence: "no device: ..." on a machine without driver or device, and
/// in a build without CUDA.
std::shared_ptr<DeviceApi> make_cuda_device_api();

}  // namespace tugline
