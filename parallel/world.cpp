// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/world.hpp"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "tugline/core/cpu.hpp"
#include "tugline/core/error.hpp"
#include "tugline/parallel/checked/checked_communicator.hpp"
#include "tugline/parallel/mpi/mpi_backend.hpp"
#include "tugline/parallel/threads/thread_team.hpp"

namespace tugline {
namespace {

std::string host_name() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  return name;
}

}  // namespace

struct World::Impl {
  std::unique_ptr<mpi::Session> session;   // outlives the communicators
  std::unique_ptr<Communicator> communicator;
  std::unique_ptr<Communicator> control;
  std::vector<std::string> hosts;
  int local_rank = 0, local_size = 1;
  int num_hosts = 1, host_index = 0, fewest_on_a_host = 1;
  bool debug = false;

  void settle() {
    control = communicator->duplicate();
    hosts = control->all_gather(host_name());
    const auto& mine = hosts[static_cast<std::size_t>(communicator->rank())];
    local_size = static_cast<int>(std::count(hosts.begin(), hosts.end(), mine));
    local_rank = static_cast<int>(std::count(hosts.begin(), hosts.begin() + communicator->rank(), mine));
    std::vector<std::string> names;
    for (const auto& host : hosts) {
      if (std::find(names.begin(), names.end(), host) == names.end()) names.push_back(host);
    }
    num_hosts = static_cast<int>(names.size());
    host_index = static_cast<int>(std::find(names.begin(), names.end(), mine) - names.begin());
    fewest_on_a_host = communicator->size();
    for (const auto& name : names) {
      fewest_on_a_host = std::min(fewest_on_a_host, static_cast<int>(std::count(hosts.begin(), hosts.end(), name)));
    }
  }
};

World::World(int& argc, char**& argv, const std::string& backend) : impl_(std::make_unique<Impl>()) {
  if (backend != "auto" && backend != "mpi" && backend != "threads") {
    throw ConfigError("backend '" + backend + "' is none of auto, mpi, threads");
  }
  if (backend == "mpi" || (backend == "auto" && mpi::launched_by_mpi())) {
    impl_->session = std::make_unique<mpi::Session>(argc, argv);
    impl_->communicator = impl_->session->world();
  } else {
    impl_->communicator = solo_communicator();
  }
  impl_->settle();
}

World::World(std::unique_ptr<Communicator> communicator) : impl_(std::make_unique<Impl>()) {
  impl_->communicator = std::move(communicator);
  impl_->settle();
}

World::~World() {
  impl_->control.reset();
  impl_->communicator.reset();
}

int World::rank() const { return impl_->communicator->rank(); }
int World::size() const { return impl_->communicator->size(); }
int World::local_rank() const { return impl_->local_rank; }
int World::local_size() const { return impl_->local_size; }
const std::vector<std::string>& World::hosts() const { return impl_->hosts; }
int World::num_hosts() const { return impl_->num_hosts; }
int World::host_index() const { return impl_->host_index; }
int World::fewest_on_a_host() const { return impl_->fewest_on_a_host; }
Communicator& World::communicator() { return *impl_->communicator; }
Communicator& World::control() { return *impl_->control; }

void World::debug_collectives() {
  if (std::exchange(impl_->debug, true)) return;
  impl_->communicator = checked(std::move(impl_->communicator));
  impl_->control = checked(std::move(impl_->control));
}

std::string World::description() const {
  return fmt::format("{} rank{} on {} host{}, {}", size(), size() == 1 ? "" : "s", num_hosts(), num_hosts() == 1 ? "" : "s",
                     impl_->session ? impl_->session->description() : impl_->communicator->backend());
}

int default_threads(World& world) {
  const CpuBudget mine = cpu_budget();
  const auto cores_of_all = world.control().all_gather(core_list(mine.cores));
  std::vector<std::vector<int>> local_cores;
  for (std::size_t rank = 0; rank < cores_of_all.size(); ++rank) {
    if (world.hosts()[rank] == world.hosts()[static_cast<std::size_t>(world.rank())]) local_cores.push_back(parse_core_list(cores_of_all[rank]));
  }
  return default_threads_per_rank(mine, local_cores);
}

void agree(Communicator& control, const std::function<void()>& body) {
  std::int64_t code = 0;
  std::string text;
  try {
    body();
  } catch (const Error& error) {
    code = static_cast<std::int64_t>(error.exit_code());
    text = error.what();
  } catch (const std::exception& error) {
    code = static_cast<std::int64_t>(ExitCode::internal);
    text = error.what();
  }
  std::vector<std::int64_t> codes(static_cast<std::size_t>(control.size()));
  control.all_gather(&code, sizeof code, codes.data());
  const auto failed = std::find_if(codes.begin(), codes.end(), [](std::int64_t c) { return c != 0; });
  if (failed == codes.end()) return;
  throw AgreedError(static_cast<ExitCode>(*failed), control.broadcast(text, static_cast<int>(failed - codes.begin())));
}

void require_equal(Communicator& control, const std::vector<std::pair<std::string, std::string>>& facts) {
  // All at once; one by one only to find out which differs.
  std::string joined;
  for (const auto& [name, value] : facts) joined += value + '\n';
  const auto all = control.all_gather(joined);
  if (std::all_of(all.begin(), all.end(), [&](const auto& other) { return other == all.front(); })) return;
  for (const auto& [name, value] : facts) {
    const auto values = control.all_gather(value);
    const auto other = std::find_if(values.begin(), values.end(), [&](const auto& v) { return v != values[0]; });
    if (other == values.end()) continue;
    throw AgreedError(ExitCode::disagree, fmt::format("ranks disagree on {}: rank 0 has '{}', rank {} has '{}'", name, values[0],
                                                      other - values.begin(), *other));
  }
}

}  // namespace tugline
