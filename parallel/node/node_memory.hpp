// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "tugline/core/error.hpp"
#include "tugline/core/log.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/parallel/node/node_team.hpp"
#include "tugline/parallel/world.hpp"

namespace tugline {

/// Gradients of each rank where all ranks of the team can read them; everything else in this rank's own memory. Collective when an
/// arena calls it.
ArenaAllocator shared_gradients(std::shared_ptr<NodeTeam> team);
/// The same, and one copy of everything else (parameters, optimizer slots) for the whole team.
ArenaAllocator shared_everything(std::shared_ptr<NodeTeam> team);

/// Gradients as by shared_gradients(), the values of the arena in this rank's own memory, and one copy of everything else (what arena.like()
/// makes) for the whole team. A null team: everything in this rank's own.
ArenaAllocator shared_but_values(std::shared_ptr<NodeTeam> team);

/// The arena's values are one copy for the whole team, as by shared_everything(). `team` may be null.
bool has_common_values(const NodeTeam* team, const Arena& arena);

/// Collective. `build`, called with a team of all ranks where they can share memory and want to, otherwise (with one warning when they
/// cannot) with null. `build` may be called twice: what it makes must not leave traces when it throws NoSharedMemory.
template <typename Build>
auto with_node_team(World& world, bool wanted, Build build) {
  if (!wanted || world.size() == 1) return build(nullptr);
  try {
    return build(std::make_shared<NodeTeam>(world));
  } catch (const NoSharedMemory& reason) {
    if (world.rank() == 0) log::warn("ranks do not share memory, gradients go by message: {}", reason.what());
  }
  return build(nullptr);
}

}  // namespace tugline
