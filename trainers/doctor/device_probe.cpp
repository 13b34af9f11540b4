// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/doctor/device_probe.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <ostream>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/core/metrics/json_text.hpp"
#include "tugline/parallel/nccl/device_handles.hpp"
#include "tugline/parallel/nccl/device_map.hpp"
#include "tugline/parallel/nccl/nccl_communicator.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/doctor/doctor.hpp"

namespace tugline {
namespace {

namespace json = boost::json;

constexpr int kWarmUp = 2;
constexpr int kSums = 8;           // in a row: starting one takes long on the host
constexpr double kTooSlow = 0.5;   // of the fastest

/// Seconds of the median round, by events around what `start` puts on `stream`, which was idle: what the host needs to start it counts.
double median_seconds(const std::shared_ptr<DeviceApi>& api, Stream stream, int rounds, const std::function<void()>& start) {
  const OwnedEvent begin(api, api->create_event(true)), end(api, api->create_event(true));
  std::vector<double> seconds;
  for (int round = -kWarmUp; round < rounds; ++round) {
    api->record(begin.get(), stream);
    start();
    api->record(end.get(), stream);
    api->synchronize(stream);
    if (round >= 0) seconds.push_back(api->elapsed_ms(begin.get(), end.get()) / 1e3);
  }
  std::nth_element(seconds.begin(), seconds.begin() + rounds / 2, seconds.end());
  return std::max(seconds[static_cast<std::size_t>(rounds / 2)], 1e-9);
}

struct Way {
  double DeviceRates::*rate;
  const char* words;
};
constexpr Way kWays[] = {{&DeviceRates::to_device, "to its device"}, {&DeviceRates::to_host, "from its device"}};

}  // namespace

std::vector<DeviceRates> probe_devices(World& world, const std::shared_ptr<DeviceApi>& api, const DeviceProbePlan& plan) {
  const RankDevice chosen = choose_device(world, *api);
  const OwnedStream stream = make_stream(api);
  PinnedMemory pinned;
  DeviceMemory memory;
  agree(world.control(), [&] {
    pinned = make_pinned(api, plan.bytes);
    memory = make_memory(api, plan.bytes);
    std::memset(pinned.get(), 0, static_cast<std::size_t>(plan.bytes));
  });
  std::unique_ptr<Communicator> nccl;
  if (world.size() > 1) nccl = make_nccl_communicator(world.control(), api, {.device = chosen.device, .current_stream = [&stream] { return stream.get(); }});

  const auto bytes = static_cast<double>(plan.bytes);
  double rates[3] = {};
  agree(world.control(), [&] {   // and the barrier that makes all copy at once
    rates[0] = bytes / median_seconds(api, stream.get(), plan.rounds, [&] { api->copy_to_device(memory.get(), pinned.get(), plan.bytes, stream.get()); });
  });
  agree(world.control(), [&] {
    rates[1] = bytes / median_seconds(api, stream.get(), plan.rounds, [&] { api->copy_to_host(pinned.get(), memory.get(), plan.bytes, stream.get()); });
  });
  agree(world.control(), [&] {
    if (!nccl) return;
    const double on_wire = 2 * bytes * (world.size() - 1) / world.size();
    rates[2] = kSums * on_wire / median_seconds(api, stream.get(), plan.rounds, [&] {
      for (int i = 0; i < kSums; ++i) nccl->start_all_reduce(memory.get(), plan.bytes / 4, DType::float32, ReduceOp::sum)->wait();
    });
  });

  std::vector<double> all(static_cast<std::size_t>(world.size()) * 3);
  world.control().all_gather(rates, sizeof rates, all.data());
  const auto names = world.control().all_gather(chosen.name);
  std::vector<DeviceRates> ranks;
  for (std::size_t r = 0; r < names.size(); ++r) {
    ranks.push_back({static_cast<int>(r), world.hosts().at(r), names[r], all[3 * r], all[3 * r + 1], all[3 * r + 2]});
  }
  return ranks;
}

DeviceVerdict judge_devices(std::vector<DeviceRates> ranks) {
  DeviceVerdict verdict{.ranks = std::move(ranks)};
  const auto by = [](double DeviceRates::*rate) { return [rate](const DeviceRates& a, const DeviceRates& b) { return a.*rate < b.*rate; }; };
  for (const auto& [rate, words] : kWays) {
    const auto [slowest, fastest] = std::minmax_element(verdict.ranks.begin(), verdict.ranks.end(), by(rate));
    if ((*slowest).*rate >= kTooSlow * (*fastest).*rate) continue;
    verdict.good = false;
    verdict.advice.push_back(fmt::format("rank {} on {} copies {} at {:.1f} GB/s and rank {} at {:.1f}: nvidia-smi topo -m shows which cores are near "
                                         "which GPU, and nvidia-smi -q how wide its PCIe link is",
                                         slowest->rank, slowest->host, words, 1e-9 * (*slowest).*rate, fastest->rank, 1e-9 * (*fastest).*rate));
  }
  const double sum = std::min_element(verdict.ranks.begin(), verdict.ranks.end(), by(&DeviceRates::all_reduce))->all_reduce;
  verdict.sentence = verdict.ranks.size() == 1 ? "one rank: nobody to sum with"
                                               : fmt::format("NCCL sums over {} ranks at a bus bandwidth of {:.1f} GB/s", verdict.ranks.size(), 1e-9 * sum);
  return verdict;
}

std::string device_text(const DeviceVerdict& verdict) {
  std::size_t host = 4, device = 6;
  for (const DeviceRates& rank : verdict.ranks) {
    host = std::max(host, rank.host.size());
    device = std::max(device, rank.device.size());
  }
  std::string text = fmt::format("rank  {:<{}}  {:<{}}  to device GB/s  to host GB/s\n", "host", host, "device", device);
  for (const DeviceRates& rank : verdict.ranks) {
    text += fmt::format("{:>4}  {:<{}}  {:<{}}  {:>14.1f}  {:>12.1f}\n", rank.rank, rank.host, host, rank.device, device, 1e-9 * rank.to_device,
                        1e-9 * rank.to_host);
  }
  text += verdict.sentence + "\n";
  for (const std::string& advice : verdict.advice) text += "  -> " + advice + "\n";
  return text;
}

std::string device_json(const DeviceVerdict& verdict) {
  json::array ranks;
  for (const DeviceRates& rank : verdict.ranks) {
    ranks.push_back({{"rank", rank.rank},
                     {"host", rank.host},
                     {"device", rank.device},
                     {"to_device_gb_per_s", 1e-9 * rank.to_device},
                     {"to_host_gb_per_s", 1e-9 * rank.to_host},
                     {"all_reduce_gb_per_s", 1e-9 * rank.all_reduce}});
  }
  return json_pretty(json::object{{"status", verdict.good ? "ok" : "fail"},
                                  {"verdict", verdict.sentence},
                                  {"advice", json::value_from(verdict.advice)},
                                  {"ranks", std::move(ranks)}});
}

int run_device_doctor(World& world, const std::shared_ptr<DeviceApi>& api, std::ostream& out, ReportFormat format, const DeviceProbePlan& plan) {
  const DeviceVerdict verdict = judge_devices(probe_devices(world, api, plan));
  if (world.rank() == 0) out << (format == ReportFormat::json ? device_json(verdict) : device_text(verdict)) << std::flush;
  return static_cast<int>(verdict.good ? ExitCode::done : ExitCode::check_said_no);
}

}  // namespace tugline
