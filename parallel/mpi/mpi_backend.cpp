// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/mpi/mpi_backend.hpp"

#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/parallel/reduce.hpp"

namespace tugline::mpi {
namespace {

// MPI_THREAD_SERIALIZED: one lock around every MPI call of the process, not held while waiting for other ranks.
std::timed_mutex& mpi_mutex() {
  static std::timed_mutex mutex;
  return mutex;
}

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw CommError(fmt::format("{}: {}", call, std::string(text, static_cast<std::size_t>(length))));
}

class CommHandle {
 public:
  explicit CommHandle(MPI_Comm comm) : comm_(comm) {}
  CommHandle(CommHandle&& other) noexcept : comm_(std::exchange(other.comm_, MPI_COMM_NULL)) {}
  CommHandle& operator=(CommHandle&&) = delete;
  ~CommHandle() {
    if (comm_ == MPI_COMM_NULL) return;
    const std::lock_guard<std::timed_mutex> lock(mpi_mutex());
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (finalized == 0) MPI_Comm_free(&comm_);
  }
  MPI_Comm get() const { return comm_; }

 private:
  MPI_Comm comm_;
};

MPI_Datatype type_of(DType dtype) {
  switch (dtype) {
    case DType::float32: return MPI_FLOAT;
    case DType::float64: return MPI_DOUBLE;
    case DType::int64: return MPI_INT64_T;
    case DType::int32: return MPI_INT32_T;
    case DType::uint8:
    case DType::boolean: return MPI_UINT8_T;
    default: throw CommError(fmt::format("{} cannot be reduced over MPI", name_of(dtype)));
  }
}

MPI_Op op_of(ReduceOp op) { return op == ReduceOp::sum ? MPI_SUM : op == ReduceOp::max ? MPI_MAX : MPI_MIN; }

/// `bytes` as a count and a type: MPI's counts are int, so what is longer goes as one element of a type made for it.
class Bytes {
 public:
  explicit Bytes(std::int64_t bytes) {
    constexpr std::int64_t kBlock = 1 << 30;
    if (bytes <= std::numeric_limits<int>::max()) {
      count = static_cast<int>(bytes);
      return;
    }
    MPI_Datatype block = MPI_DATATYPE_NULL, blocks = MPI_DATATYPE_NULL;
    check(MPI_Type_contiguous(static_cast<int>(kBlock), MPI_BYTE, &block), "MPI_Type_contiguous");
    check(MPI_Type_contiguous(static_cast<int>(bytes / kBlock), block, &blocks), "MPI_Type_contiguous");
    const int lengths[] = {1, static_cast<int>(bytes % kBlock)};
    const MPI_Aint offsets[] = {0, static_cast<MPI_Aint>(bytes / kBlock * kBlock)};
    const MPI_Datatype types[] = {blocks, MPI_BYTE};
    check(MPI_Type_create_struct(2, lengths, offsets, types, &type), "MPI_Type_create_struct");
    check(MPI_Type_commit(&type), "MPI_Type_commit");
    MPI_Type_free(&block);
    MPI_Type_free(&blocks);
    count = 1;
  }
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;
  /// MPI keeps the type for as long as a call that was given it is under way.
  ~Bytes() {
    if (type != MPI_BYTE) MPI_Type_free(&type);
  }

  int count = 0;
  MPI_Datatype type = MPI_BYTE;
};

class MpiWork : public Work {
 public:
  explicit MpiWork(std::vector<MPI_Request> requests) : requests_(std::move(requests)) {}
  ~MpiWork() override {
    try {
      MpiWork::wait();
    } catch (const CommError&) {
    }
  }
  bool test() override {
    if (requests_.empty()) return true;
    const std::lock_guard<std::timed_mutex> lock(mpi_mutex());
    int done = 0;
    check(MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE), "MPI_Testall");
    if (done != 0) requests_.clear();
    return done != 0;
  }
  void wait() override {
    while (!test()) sched_yield();
  }

 private:
  std::vector<MPI_Request> requests_;
};

/// MPI has no 16-bit floating point: the sum is made in float32 and rounded once.
class HalfReduction final : public Work {
 public:
  HalfReduction(void* data, std::int64_t count, DType dtype)
      : data_(static_cast<std::uint16_t*>(data)), dtype_(dtype), wide_(static_cast<std::size_t>(count)) {
    to_float32(data_, wide_.data(), count, dtype_);
  }
  ~HalfReduction() override {
    try {
      HalfReduction::wait();
    } catch (const CommError&) {
    }
  }
  float* wide() { return wide_.data(); }
  void start(std::unique_ptr<Work> work) { work_ = std::move(work); }
  bool test() override {
    if (work_ && work_->test()) finish();
    return work_ == nullptr;
  }
  void wait() override {
    if (!work_) return;
    work_->wait();
    finish();
  }

 private:
  void finish() {
    from_float32(wide_.data(), data_, static_cast<std::int64_t>(wide_.size()), dtype_);
    work_.reset();
  }
  std::uint16_t* data_;
  DType dtype_;
  std::vector<float> wide_;
  std::unique_ptr<Work> work_;
};

class MpiCommunicator final : public Communicator {
 public:
  explicit MpiCommunicator(CommHandle comm) : comm_(std::move(comm)) {
    MPI_Comm_rank(comm_.get(), &rank_);
    MPI_Comm_size(comm_.get(), &size_);
  }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string backend() const override { return "mpi"; }

  std::unique_ptr<Work> start_all_reduce(void* data, std::int64_t count, DType dtype, ReduceOp op) override {
    if (dtype == DType::bfloat16 || dtype == DType::float16) {
      auto work = std::make_unique<HalfReduction>(data, count, dtype);
      work->start(start_all_reduce(work->wide(), count, DType::float32, op));
      return work;
    }
    constexpr std::int64_t kMost = 1 << 30;   // elements of one call
    const std::lock_guard<std::timed_mutex> lock(mpi_mutex());
    std::vector<MPI_Request> requests;
    for (std::int64_t begin = 0; begin < count; begin += kMost) {
      void* part = static_cast<char*>(data) + begin * static_cast<std::int64_t>(size_of(dtype));
      check(MPI_Iallreduce(MPI_IN_PLACE, part, static_cast<int>(std::min(kMost, count - begin)), type_of(dtype), op_of(op),
                           comm_.get(), &requests.emplace_back(MPI_REQUEST_NULL)), "MPI_Iallreduce");
    }
    return std::make_unique<MpiWork>(std::move(requests));
  }
  std::unique_ptr<Work> start_broadcast(void* data, std::int64_t bytes, int root) override {
    return start("MPI_Ibcast", bytes, [&](const Bytes& all, MPI_Request* request) {
      return MPI_Ibcast(data, all.count, all.type, root, comm_.get(), request);
    });
  }
  std::unique_ptr<Work> start_all_gather(const void* mine, std::int64_t bytes, void* all) override {
    return start("MPI_Iallgather", bytes, [&](const Bytes& part, MPI_Request* request) {
      return MPI_Iallgather(mine, part.count, part.type, all, part.count, part.type, comm_.get(), request);
    });
  }
  void barrier() override {
    start("MPI_Ibarrier", 0, [&](const Bytes&, MPI_Request* request) { return MPI_Ibarrier(comm_.get(), request); })->wait();
  }
  std::unique_ptr<Work> start_send(const void* data, std::int64_t bytes, int to, int tag) override {
    return start("MPI_Isend", bytes, [&](const Bytes& all, MPI_Request* request) {
      return MPI_Isend(data, all.count, all.type, to, tag, comm_.get(), request);
    });
  }
  std::unique_ptr<Work> start_receive(void* data, std::int64_t bytes, int from, int tag) override {
    return start("MPI_Irecv", bytes, [&](const Bytes& all, MPI_Request* request) {
      return MPI_Irecv(data, all.count, all.type, from, tag, comm_.get(), request);
    });
  }
  std::optional<Incoming> probe(int from, int tag) override {
    const std::lock_guard<std::timed_mutex> lock(mpi_mutex());
    int there = 0;
    MPI_Count bytes = 0;
    MPI_Status status;
    check(MPI_Iprobe(from < 0 ? MPI_ANY_SOURCE : from, tag, comm_.get(), &there, &status), "MPI_Iprobe");
    if (there == 0) return std::nullopt;
    check(MPI_Get_elements_x(&status, MPI_BYTE, &bytes), "MPI_Get_elements_x");
    return Incoming{status.MPI_SOURCE, bytes};
  }
  std::unique_ptr<Communicator> split(int color, int key) override {
    barrier();   // MPI has no split that returns at once: with all ranks here, none waits inside it for long
    const std::lock_guard<std::timed_mutex> lock(mpi_mutex());
    MPI_Comm result = MPI_COMM_NULL;
    check(MPI_Comm_split(comm_.get(), color < 0 ? MPI_UNDEFINED : color, key, &result), "MPI_Comm_split");
    if (result == MPI_COMM_NULL) return nullptr;
    return std::make_unique<MpiCommunicator>(CommHandle(result));
  }
  std::unique_ptr<Communicator> duplicate() override {
    MPI_Comm result = MPI_COMM_NULL;
    start("MPI_Comm_idup", 0, [&](const Bytes&, MPI_Request* request) { return MPI_Comm_idup(comm_.get(), &result, request); })->wait();
    const std::lock_guard<std::timed_mutex> lock(mpi_mutex());
    return std::make_unique<MpiCommunicator>(CommHandle(result));
  }
  [[noreturn]] void abort(int exit_code) noexcept override {
    const std::unique_lock<std::timed_mutex> lock(mpi_mutex(), std::chrono::seconds(1));   // and whoever holds it for longer is what hangs
    MPI_Abort(comm_.get(), exit_code);
    std::_Exit(exit_code);
  }

 private:
  template <typename Call>
  std::unique_ptr<Work> start(const char* name, std::int64_t bytes, Call call) {
    const std::lock_guard<std::timed_mutex> lock(mpi_mutex());
    const Bytes counted(bytes);
    MPI_Request request = MPI_REQUEST_NULL;
    check(call(counted, &request), name);
    return std::make_unique<MpiWork>(std::vector<MPI_Request>{request});
  }

  CommHandle comm_;
  int rank_ = 0, size_ = 1;
};

}  // namespace

bool launched_by_mpi() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "PMIX_RANK"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  return false;
}

Session::Session(int& argc, char**& argv) {
  int initialized = 0, provided = 0;
  MPI_Initialized(&initialized);
  owner_ = initialized == 0;
  if (owner_) {
    check(MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
  } else {
    check(MPI_Query_thread(&provided), "MPI_Query_thread");
  }
  multiple_ = provided == MPI_THREAD_MULTIPLE;
  if (provided < MPI_THREAD_SERIALIZED) throw CommError("MPI was started without MPI_THREAD_SERIALIZED, which Tugline needs");
}

Session::~Session() {
  if (owner_) MPI_Finalize();
}

std::unique_ptr<Communicator> Session::world() {
  MPI_Comm copy = MPI_COMM_NULL;
  check(MPI_Comm_dup(MPI_COMM_WORLD, &copy), "MPI_Comm_dup");
  MPI_Comm_set_errhandler(copy, MPI_ERRORS_RETURN);
  return std::make_unique<MpiCommunicator>(CommHandle(copy));
}

std::string Session::description() const {
  char version[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  MPI_Get_library_version(version, &length);
  std::string text(version, static_cast<std::size_t>(length));
  return fmt::format("mpi ({}), thread level {}", text.substr(0, text.find_first_of(",\n")), multiple_ ? "multiple" : "serialized");
}

}  // namespace tugline::mpi
