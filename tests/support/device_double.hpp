// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "tugline/parallel/nccl/device_api.hpp"
#include "tugline/parallel/threads/thread_group.hpp"

namespace tugline {

/// A test double of CUDA and NCCL, for ranks that are threads of one process. Memory of the device is memory of the host, a stream is a
/// thread with a queue, and NCCL's operations run over the threads backend on the streams' threads. It is as strict as the libraries or
/// stricter: what is a mistake there throws CommError here, and is kept in misuses(). What it does as they do:
/// - An operation comes to its stream only when nccl_status() has been asked twice: communicators do not block.
/// - A send ends when it has been received. Ranks of a host on one device are refused. An operation that fails ends when it is aborted.
/// - Finalizing ends when all ranks finalize. An abort is an error on the other ranks.
class DeviceDouble : public DeviceApi {
 public:
  explicit DeviceDouble(int devices);
  ~DeviceDouble() override;   ///< joins all streams, whatever they wait for

  // For tests. A gate holds up the streams that wait at it.
  void launch(Stream stream, std::function<void()> kernel);
  void wait_at(Stream stream, int gate);
  void open(int gate);
  /// Until no stream can go on by itself.
  void wait_until_quiet();
  enum class Fault { refuse_init, fail_init, hang, remote_error };
  void plant(int rank, Fault fault);   ///< in the next init or operation of that rank
  std::vector<std::string> misuses();
  int alive();                         ///< streams, events, pieces of memory and communicators that were not given back
  int launches();                      ///< of NCCL, by all ranks; a group is one

  int device_count() override;
  DeviceInfo device_info(int device) override;
  void set_device(int device) override;
  Stream create_stream() override;
  void destroy(Stream stream) noexcept override;
  void synchronize(Stream stream) override;
  bool query(Stream stream) override;
  Event create_event(bool timed) override;
  void destroy(Event event) noexcept override;
  void record(Event event, Stream stream) override;
  bool query(Event event) override;
  void stream_wait(Stream stream, Event event) override;
  float elapsed_ms(Event begin, Event end) override;
  void* allocate(std::int64_t bytes) override;
  void free(void* data) noexcept override;
  void* allocate_pinned(std::int64_t bytes) override;
  void free_pinned(void* data) noexcept override;
  bool on_device(const void* data) override;
  void copy_to_device(void* device, const void* host, std::int64_t bytes, Stream stream) override;
  void copy_to_host(void* host, const void* device, std::int64_t bytes, Stream stream) override;

  int nccl_version() override { return 22809; }
  NcclId nccl_id() override;
  void set_nccl_host(const std::string& name) override;
  void nccl_init(NcclComm& comm, const NcclId& id, int rank, int size) override;
  void nccl_split(NcclComm parent, int color, int key, NcclComm& comm) override;
  NcclStatus nccl_status(NcclComm comm) override;
  void nccl_finalize(NcclComm comm) override;
  void nccl_destroy(NcclComm comm) noexcept override;
  void nccl_abort(NcclComm comm) noexcept override;
  void group_start() override;
  void group_end() override;
  void all_reduce(NcclComm comm, void* data, std::int64_t count, DType dtype, ReduceOp op, Stream stream) override;
  void broadcast(NcclComm comm, void* data, std::int64_t bytes, int root, Stream stream) override;
  void all_gather(NcclComm comm, const void* mine, std::int64_t bytes, void* all, Stream stream) override;
  void send(NcclComm comm, const void* data, std::int64_t bytes, int to, Stream stream) override;
  void receive(NcclComm comm, void* data, std::int64_t bytes, int from, Stream stream) override;

 private:
  using Lock = std::unique_lock<std::mutex>;
  using StartCall = std::function<std::unique_ptr<Work>(Communicator&)>;
  struct StreamState;
  struct EventState;
  struct Memory;
  struct Clique;
  struct CommState;
  struct Launch;
  using Task = std::function<void(StreamState&, Lock&)>;

  [[noreturn]] void misuse(const std::string& what);
  int device() const;   // of this thread; these, under the lock
  StreamState& state_of(Stream stream);
  EventState& state_of(Event event);
  CommState& state_of(NcclComm comm);
  void enqueue(StreamState& stream, Task task);
  void run(StreamState& stream);
  void block(StreamState& stream, Lock& lock, const std::function<bool()>& until);
  void require_memory(const void* data, std::int64_t bytes, bool pinned, const std::string& call);
  const Memory* memory_of(const void* data) const;
  void* add_memory(std::int64_t bytes, bool pinned);
  void remove_memory(void* data, bool pinned) noexcept;
  void copy(void* to, const void* from, std::int64_t bytes, Stream stream);
  void add_call(NcclComm comm, Stream stream, StartCall start);
  void enqueue_launch(CommState& comm);
  void run_launch(CommState& comm, const Launch& launch, StreamState& stream, Lock& lock);
  void finish_split(Clique& parent);
  std::shared_ptr<CommState> add_member(Clique& clique, int rank, int device, const std::string& host);
  bool faulty(CommState& comm, Fault fault);

  const int devices_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool dead_ = false;
  std::vector<std::string> misuses_;
  std::map<std::thread::id, int> device_of_thread_;
  std::map<std::thread::id, std::string> host_of_thread_;
  std::map<int, Stream> default_streams_;
  // By handle; what is destroyed stays, so that no handle is used twice.
  std::map<Stream, std::unique_ptr<StreamState>> streams_;
  std::map<Event, std::shared_ptr<EventState>> events_;
  std::map<NcclComm, std::shared_ptr<CommState>> comms_;
  std::map<const char*, Memory> memory_;   // by its end
  std::map<NcclId, std::shared_ptr<Clique>> cliques_;
  std::map<std::thread::id, std::vector<std::pair<std::shared_ptr<CommState>, Launch>>> groups_;   // open, by thread
  std::map<std::thread::id, int> group_depth_;
  std::set<int> open_gates_;
  std::multimap<int, Fault> faults_;
  int next_id_ = 0, launches_ = 0;
};

}  // namespace tugline
