// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/mpi/mpi_backend.hpp"

#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <utility>

#include <fmt/format.h>

#include "tugline/core/error.hpp"

namespace tugline::mpi {
namespace {

// MPI_THREAD_SERIALIZED: one lock around every MPI call of the process, never held while waiting.
std::mutex& mpi_mutex() {
  static std::mutex mutex;
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
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (comm_ != MPI_COMM_NULL && finalized == 0) MPI_Comm_free(&comm_);
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

int count_of(std::int64_t count) {
  if (count > std::numeric_limits<int>::max()) throw CommError(fmt::format("a message of {} elements is too long", count));
  return static_cast<int>(count);
}

class MpiWork final : public Work {
 public:
  explicit MpiWork(MPI_Request request) : request_(request) {}
  ~MpiWork() override {
    try {
      wait();
    } catch (const CommError&) {
    }
  }
  bool test() override {
    if (request_ == MPI_REQUEST_NULL) return true;
    std::lock_guard<std::mutex> lock(mpi_mutex());
    int done = 0;
    check(MPI_Test(&request_, &done, MPI_STATUS_IGNORE), "MPI_Test");
    return done != 0;
  }
  void wait() override {
    while (!test()) sched_yield();
  }

 private:
  MPI_Request request_;
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
    return start("MPI_Iallreduce", [&](MPI_Request* request) {
      return MPI_Iallreduce(MPI_IN_PLACE, data, count_of(count), type_of(dtype), op_of(op), comm_.get(), request);
    });
  }
  std::unique_ptr<Work> start_broadcast(void* data, std::int64_t bytes, int root) override {
    return start("MPI_Ibcast", [&](MPI_Request* request) {
      return MPI_Ibcast(data, count_of(bytes), MPI_BYTE, root, comm_.get(), request);
    });
  }
  std::unique_ptr<Work> start_all_gather(const void* mine, std::int64_t bytes, void* all) override {
    return start("MPI_Iallgather", [&](MPI_Request* request) {
      return MPI_Iallgather(mine, count_of(bytes), MPI_BYTE, all, count_of(bytes), MPI_BYTE, comm_.get(), request);
    });
  }
  void barrier() override {
    start("MPI_Ibarrier", [&](MPI_Request* request) { return MPI_Ibarrier(comm_.get(), request); })->wait();
  }
  std::unique_ptr<Work> start_send(const void* data, std::int64_t bytes, int to, int tag) override {
    return start("MPI_Isend", [&](MPI_Request* request) {
      return MPI_Isend(data, count_of(bytes), MPI_BYTE, to, tag, comm_.get(), request);
    });
  }
  std::unique_ptr<Work> start_receive(void* data, std::int64_t bytes, int from, int tag) override {
    return start("MPI_Irecv", [&](MPI_Request* request) {
      return MPI_Irecv(data, count_of(bytes), MPI_BYTE, from, tag, comm_.get(), request);
    });
  }
  std::optional<Incoming> probe(int from, int tag) override {
    std::lock_guard<std::mutex> lock(mpi_mutex());
    int there = 0, bytes = 0;
    MPI_Status status;
    check(MPI_Iprobe(from < 0 ? MPI_ANY_SOURCE : from, tag, comm_.get(), &there, &status), "MPI_Iprobe");
    if (there == 0) return std::nullopt;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    return Incoming{status.MPI_SOURCE, bytes};
  }
  std::unique_ptr<Communicator> split(int color, int key) override {
    std::lock_guard<std::mutex> lock(mpi_mutex());
    MPI_Comm result = MPI_COMM_NULL;
    check(MPI_Comm_split(comm_.get(), color < 0 ? MPI_UNDEFINED : color, key, &result), "MPI_Comm_split");
    if (result == MPI_COMM_NULL) return nullptr;
    return std::make_unique<MpiCommunicator>(CommHandle(result));
  }
  std::unique_ptr<Communicator> duplicate() override {
    std::lock_guard<std::mutex> lock(mpi_mutex());
    MPI_Comm result = MPI_COMM_NULL;
    check(MPI_Comm_dup(comm_.get(), &result), "MPI_Comm_dup");
    return std::make_unique<MpiCommunicator>(CommHandle(result));
  }
  [[noreturn]] void abort(int exit_code) noexcept override {
    MPI_Abort(comm_.get(), exit_code);
    std::_Exit(exit_code);
  }
  MPI_Comm get() const { return comm_.get(); }

 private:
  template <typename Call>
  std::unique_ptr<Work> start(const char* name, Call call) {
    std::lock_guard<std::mutex> lock(mpi_mutex());
    MPI_Request request = MPI_REQUEST_NULL;
    check(call(&request), name);
    return std::make_unique<MpiWork>(request);
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
  int provided = 0;
  check(MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
  if (provided < MPI_THREAD_SERIALIZED) throw CommError("this MPI library gives no MPI_THREAD_SERIALIZED");
}

Session::~Session() { MPI_Finalize(); }

std::unique_ptr<Communicator> Session::world() {
  MPI_Comm copy = MPI_COMM_NULL;
  check(MPI_Comm_dup(MPI_COMM_WORLD, &copy), "MPI_Comm_dup");
  MPI_Comm_set_errhandler(copy, MPI_ERRORS_RETURN);
  return std::make_unique<MpiCommunicator>(CommHandle(copy));
}

std::unique_ptr<Communicator> Session::host(Communicator& world) {
  auto* mpi_world = dynamic_cast<MpiCommunicator*>(&world);
  if (mpi_world == nullptr) throw CommError("host() needs a communicator of this session");
  MPI_Comm result = MPI_COMM_NULL;
  check(MPI_Comm_split_type(mpi_world->get(), MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &result), "MPI_Comm_split_type");
  return std::make_unique<MpiCommunicator>(CommHandle(result));
}

std::string Session::description() const {
  char version[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  MPI_Get_library_version(version, &length);
  std::string text(version, static_cast<std::size_t>(length));
  return "mpi (" + text.substr(0, text.find_first_of(",\n")) + ")";
}

}  // namespace tugline::mpi
