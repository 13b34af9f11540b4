// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/nccl/nccl_communicator.hpp"

#include <utility>

#include <fmt/format.h>

#include "tugline/parallel/nccl/nccl_link.hpp"
#include "tugline/parallel/world.hpp"

namespace tugline {

NcclCommunicator::NcclCommunicator(std::shared_ptr<nccl::Link> link, std::unique_ptr<Communicator> host, std::shared_ptr<DeviceApi> api)
    : ForwardingCommunicator(std::move(host)), api_(std::move(api)), link_(std::move(link)) {}

/// Works may keep the link for longer.
NcclCommunicator::~NcclCommunicator() { link_->close(); }

/// After a failure not even the host's part goes on: the ranks would no longer be at one place.
bool NcclCommunicator::on_device(const void* data, std::int64_t bytes, const std::string& name) {
  link_->require_alive(name);
  return bytes > 0 && api_->on_device(data);
}

std::unique_ptr<Work> NcclCommunicator::start_all_reduce(void* data, std::int64_t count, DType dtype, ReduceOp op) {
  const auto name = fmt::format("all_reduce of {} {}", count, name_of(dtype));
  if (!on_device(data, count, name)) return ForwardingCommunicator::start_all_reduce(data, count, dtype, op);
  return link_->start(name, [=](DeviceApi& api, NcclComm comm, Stream stream) { api.all_reduce(comm, data, count, dtype, op, stream); });
}

std::unique_ptr<Work> NcclCommunicator::start_broadcast(void* data, std::int64_t bytes, int root) {
  const auto name = fmt::format("broadcast of {} bytes from rank {}", bytes, root);
  if (!on_device(data, bytes, name)) return ForwardingCommunicator::start_broadcast(data, bytes, root);
  return link_->start(name, [=](DeviceApi& api, NcclComm comm, Stream stream) { api.broadcast(comm, data, bytes, root, stream); });
}

std::unique_ptr<Work> NcclCommunicator::start_all_gather(const void* mine, std::int64_t bytes, void* all) {
  const auto name = fmt::format("all_gather of {} bytes", bytes);
  const bool device = on_device(all, bytes, name);
  if (device != on_device(mine, bytes, name)) {
    throw CommError(fmt::format("rank {}, {}: one buffer is on the device, the other on the host; put both in one place", rank(), name));
  }
  if (!device) return ForwardingCommunicator::start_all_gather(mine, bytes, all);
  return link_->start(name, [=](DeviceApi& api, NcclComm comm, Stream stream) { api.all_gather(comm, mine, bytes, all, stream); });
}

void NcclCommunicator::barrier() {
  link_->require_alive("barrier");
  ForwardingCommunicator::barrier();
}

std::unique_ptr<Work> NcclCommunicator::start_send(const void* data, std::int64_t bytes, int to, int tag) {
  const auto name = fmt::format("send of {} bytes to rank {}", bytes, to);
  if (!on_device(data, bytes, name)) return ForwardingCommunicator::start_send(data, bytes, to, tag);
  return link_->start_later(name, [=](DeviceApi& api, NcclComm comm, Stream stream) { api.send(comm, data, bytes, to, stream); });
}

std::unique_ptr<Work> NcclCommunicator::start_receive(void* data, std::int64_t bytes, int from, int tag) {
  const auto name = fmt::format("receive of {} bytes from rank {}", bytes, from);
  if (!on_device(data, bytes, name)) return ForwardingCommunicator::start_receive(data, bytes, from, tag);
  return link_->start_later(name, [=](DeviceApi& api, NcclComm comm, Stream stream) { api.receive(comm, data, bytes, from, stream); });
}

std::optional<Communicator::Incoming> NcclCommunicator::probe(int from, int tag) {
  link_->require_alive("probe");
  return ForwardingCommunicator::probe(from, tag);
}

std::unique_ptr<Communicator> NcclCommunicator::split(int color, int key) {
  link_->require_alive("split");
  auto host = inner().split(color, key);
  auto link = link_->split(host ? color : -1, host ? host->rank() : 0, host ? host->size() : 0);
  if (!host) return nullptr;
  return std::make_unique<NcclCommunicator>(std::move(link), std::move(host), api_);
}

std::unique_ptr<Communicator> NcclCommunicator::duplicate() { return split(0, rank()); }

void NcclCommunicator::cancel(const std::string& why) noexcept { link_->cancel(why); }

std::unique_ptr<NcclCommunicator> make_nccl_communicator(Communicator& control, std::shared_ptr<DeviceApi> api,
                                                         const NcclOptions& options) {
  auto host = control.duplicate();
  NcclId id{};
  agree(*host, [&] {
    if (host->rank() == 0) id = api->nccl_id();
  });
  host->broadcast(id.data(), static_cast<std::int64_t>(id.size()), 0);
  std::shared_ptr<nccl::Link> link;
  try {
    agree(*host, [&] {
      link = std::make_shared<nccl::Link>(api, options, host->rank(), host->size());
      link->init(id);
    });
  } catch (...) {
    if (link) link->cancel("another rank could not join");   // there is nobody to finish with
    throw;
  }
  return std::make_unique<NcclCommunicator>(std::move(link), std::move(host), std::move(api));
}

}  // namespace tugline
