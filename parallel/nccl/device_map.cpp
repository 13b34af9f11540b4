// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/nccl/device_map.hpp"

#include <map>

#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/parallel/world.hpp"

namespace tugline {
namespace {

constexpr int kFirstWithHostId = 22800;   // NCCL 2.28

RankDevice own_device(const World& world, DeviceApi& api, const DeviceMapOptions& options) {
  const int count = api.device_count();
  const int device = options.device >= 0 ? options.device : device_of(world.local_rank(), count);
  if (device >= count) {
    throw ConfigError(fmt::format("rank {} is to use device {}, but its host {} shows it {}: they count from 0, and CUDA_VISIBLE_DEVICES "
                                  "may hide some", world.rank(), device, world.hosts()[static_cast<std::size_t>(world.rank())], count));
  }
  if (options.share_devices) {
    if (api.nccl_version() < kFirstWithHostId) {
      throw ConfigError(fmt::format("ranks can share a device from NCCL 2.28 on only, and this is version {}: start as many ranks as there "
                                    "are devices", api.nccl_version()));
    }
    api.set_nccl_host(fmt::format("tugline-rank-{}", world.rank()));
  }
  api.set_device(device);
  const DeviceInfo info = api.device_info(device);
  return {world.hosts()[static_cast<std::size_t>(world.rank())], device, info.name, info.uuid};
}

}  // namespace

int device_of(int local_rank, int num_devices) { return local_rank % num_devices; }

std::optional<std::string> shared_device(const std::vector<RankDevice>& ranks) {
  std::map<std::string, std::size_t> first;   // by UUID
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    const auto [before, own] = first.emplace(ranks[r].uuid, r);
    if (own) continue;
    return fmt::format("ranks {} and {} would share {} ({}) of host {}, and NCCL needs a device for each rank: start as many ranks on a "
                       "host as it has devices, or give each rank its own by CUDA_VISIBLE_DEVICES (Slurm: --gpus-per-task=1)",
                       before->second, r, ranks[r].name, ranks[r].uuid, ranks[r].host);
  }
  return std::nullopt;
}

RankDevice choose_device(World& world, DeviceApi& api, const DeviceMapOptions& options) {
  RankDevice mine;
  agree(world.control(), [&] { mine = own_device(world, api, options); });
  const auto names = world.control().all_gather(mine.name);
  const auto uuids = world.control().all_gather(mine.uuid);
  std::vector<RankDevice> all;
  for (std::size_t r = 0; r < names.size(); ++r) all.push_back({world.hosts()[r], 0, names[r], uuids[r]});
  const auto shared = shared_device(all);
  if (shared && !options.share_devices) throw AgreedError(ExitCode::config, *shared);
  return mine;
}

}  // namespace tugline
