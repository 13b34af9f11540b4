// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/node/node_memory.hpp"

#include <utility>

namespace tugline {

ArenaAllocator shared_gradients(std::shared_ptr<NodeTeam> team) {
  return [team = std::move(team)](std::size_t bytes, const std::string& what) {
    return what == "gradients" ? team->allocate(bytes) : host_memory(bytes);
  };
}

ArenaAllocator shared_everything(std::shared_ptr<NodeTeam> team) {
  return [team = std::move(team)](std::size_t bytes, const std::string& what) {
    return what == "gradients" ? team->allocate(bytes) : team->allocate_common(bytes);
  };
}

ArenaAllocator shared_but_values(std::shared_ptr<NodeTeam> team) {
  return [team = std::move(team)](std::size_t bytes, const std::string& what) {
    if (!team || what == "parameters") return host_memory(bytes);
    return what == "gradients" ? team->allocate(bytes) : team->allocate_common(bytes);
  };
}

bool has_common_values(const NodeTeam* team, const Arena& arena) {
  return team != nullptr && !arena.flats().empty() && team->is_common(arena.flats().front().values.data_ptr());
}

}  // namespace tugline
