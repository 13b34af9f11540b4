// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/node/shared_memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <new>
#include <optional>
#include <random>
#include <string>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "tugline/parallel/communicator.hpp"

namespace tugline {
namespace {

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

/// What a rank tells the others about its memory; plain data, sent as bytes.
struct Offer {
  std::int64_t failure = 0;   // errno
  std::int64_t bytes = 0;
  std::int64_t process = 0, descriptor = -1;
  std::uint64_t device = 0, inode = 0;   // so that a process of the same number in another container is not taken for it
  std::uint64_t token = 0;               // of the process
  std::uint64_t mapping = 0;             // address of the rank's shared_ptr<Mapping>, of use to threads of that process
};

/// Tells this process from any other, also from one with its number in another container.
std::uint64_t process_token() {
  static const std::uint64_t token = [] {
    std::random_device random;
    return static_cast<std::uint64_t>(random()) << 32 | random();
  }();
  return token;
}

[[noreturn]] void throw_errno() { throw std::system_error(errno, std::generic_category()); }

std::string text_of(std::int64_t failure) { return std::generic_category().message(static_cast<int>(failure)); }

}  // namespace

struct SharedMemory::Mapping {
  Mapping(int fd, std::size_t size) : bytes(size) {
    void* const address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (address == MAP_FAILED) throw_errno();
    data = static_cast<std::byte*>(address);
  }
  ~Mapping() { munmap(data, bytes); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  std::byte* data = nullptr;
  std::size_t bytes = 0;
};

namespace {

/// With all its pages: later there would be nobody to tell of a failure but a signal handler.
FileDescriptor anonymous_file(std::size_t bytes) {
  FileDescriptor file(memfd_create("tugline", MFD_CLOEXEC));
  if (file.get() < 0) throw_errno();
  constexpr std::size_t kPart = std::size_t{64} << 20;   // what a signal interrupts is given back and begun again
  int failure = 0;
  for (std::size_t begin = 0; begin < bytes && failure == 0; begin += kPart) {
    do failure = posix_fallocate(file.get(), static_cast<off_t>(begin), static_cast<off_t>(std::min(kPart, bytes - begin)));
    while (failure == EINTR);
  }
  if (failure != 0) throw std::system_error(failure, std::generic_category());
  return file;
}

/// The file of another process, by way of /proc.
FileDescriptor open_offer(const Offer& offer) {
  const std::string path = fmt::format("/proc/{}/fd/{}", offer.process, offer.descriptor);
  struct stat facts {};
  if (stat(path.c_str(), &facts) != 0) throw_errno();
  if (facts.st_dev != offer.device || facts.st_ino != offer.inode) throw std::system_error(ESRCH, std::generic_category());
  FileDescriptor file(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (file.get() < 0) throw_errno();
  return file;
}

void fill(Offer& offer, int fd, const void* mapping) {
  struct stat facts {};
  if (fstat(fd, &facts) != 0) throw_errno();
  offer.process = getpid();
  offer.descriptor = fd;
  offer.device = facts.st_dev;
  offer.inode = facts.st_ino;
  offer.token = process_token();
  offer.mapping = reinterpret_cast<std::uint64_t>(mapping);
}

/// Runs `body` on each rank (collective) and throws NoSharedMemory on all when it failed on one.
template <typename Body>
void all_or_none(Communicator& everyone, const char* what, Body body) {
  std::int64_t failure = 0;
  try {
    body();
  } catch (const std::system_error& error) {
    failure = error.code().value();
  } catch (const std::bad_alloc&) {
    failure = ENOMEM;
  }
  std::vector<std::int64_t> failures(static_cast<std::size_t>(everyone.size()));
  everyone.all_gather(&failure, sizeof failure, failures.data());
  const auto failed = std::find_if(failures.begin(), failures.end(), [](std::int64_t f) { return f != 0; });
  if (failed == failures.end()) return;
  throw NoSharedMemory(fmt::format("rank {} could not {}: {}", failed - failures.begin(), what, text_of(*failed)));
}

}  // namespace

SharedMemory::SharedMemory() = default;
SharedMemory::~SharedMemory() = default;

std::byte* SharedMemory::of(int rank) const {
  const auto& mapping = mappings_[static_cast<std::size_t>(rank)];
  return mapping ? mapping->data : nullptr;
}

std::shared_ptr<SharedMemory> SharedMemory::create(Communicator& host, Communicator& everyone, std::size_t bytes) {
  const auto me = static_cast<std::size_t>(host.rank());
  std::shared_ptr<SharedMemory> memory(new SharedMemory);
  memory->mappings_.resize(static_cast<std::size_t>(host.size()));
  std::optional<FileDescriptor> mine;
  Offer offer;
  all_or_none(everyone, fmt::format("reserve {} bytes of shared memory", bytes).c_str(), [&] {
    if (bytes == 0) return;
    mine.emplace(anonymous_file(bytes));
    offer.bytes = static_cast<std::int64_t>(bytes);
    memory->mappings_[me] = std::make_shared<Mapping>(mine->get(), bytes);
    fill(offer, mine->get(), &memory->mappings_[me]);
  });
  std::vector<Offer> offers(memory->mappings_.size());
  host.all_gather(&offer, sizeof offer, offers.data());
  // Also the barrier after which descriptors may be closed.
  all_or_none(everyone, "map the memory of another rank", [&] {
    for (std::size_t rank = 0; rank < offers.size(); ++rank) {
      const Offer& other = offers[rank];
      if (rank == me || other.bytes == 0) continue;
      memory->mappings_[rank] = other.token == process_token()
                                    ? *reinterpret_cast<const std::shared_ptr<Mapping>*>(other.mapping)
                                    : std::make_shared<Mapping>(open_offer(other).get(), static_cast<std::size_t>(other.bytes));
    }
  });
  return memory;
}

}  // namespace tugline
