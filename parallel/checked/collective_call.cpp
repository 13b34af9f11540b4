// SPDX-License-Identifier: Apache-2.0
#include "tugline/parallel/checked/collective_call.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tugline/core/cpu.hpp"

namespace tugline {
namespace {

const char* name_of(ReduceOp op) { return op == ReduceOp::sum ? "sum" : op == ReduceOp::max ? "max" : "min"; }

}  // namespace

std::string describe(const CollectiveCall& call) {
  switch (call.what) {
    case Collective::all_reduce: return fmt::format("all_reduce of {} {} ({})", call.amount, name_of(call.dtype), name_of(call.op));
    case Collective::broadcast: return fmt::format("broadcast of {} bytes from rank {}", call.amount, call.root);
    case Collective::all_gather: return fmt::format("all_gather of {} bytes", call.amount);
    case Collective::barrier: return "barrier";
    case Collective::split: return "split";
    case Collective::duplicate: break;
  }
  return "duplicate";
}

std::string by_rank(std::span<const std::string> texts) {
  constexpr std::size_t kShown = 4;
  std::vector<std::pair<std::string, std::vector<int>>> groups;
  for (std::size_t r = 0; r < texts.size(); ++r) {
    auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& other) { return other.first == texts[r]; });
    if (group == groups.end()) group = groups.insert(group, {texts[r], {}});
    group->second.push_back(static_cast<int>(r));
  }
  std::vector<std::string> lines;
  for (const auto& [text, ranks] : groups) {
    if (lines.size() == kShown) {
      lines.push_back("others something else again");
      break;
    }
    const bool one = ranks.size() == 1;
    lines.push_back(fmt::format("rank{} {} {} {}", one ? "" : "s", core_list(ranks), one ? "calls" : "call", text));
  }
  return fmt::format("{}", fmt::join(lines, "; "));
}

}  // namespace tugline
