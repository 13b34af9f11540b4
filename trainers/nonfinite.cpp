// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/nonfinite.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tugline/core/finite.hpp"
#include "tugline/parallel/late_report.hpp"
#include "tugline/parallel/sync/bucket_sum.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/learner.hpp"

namespace tugline {
namespace {

namespace json = boost::json;

/// What this rank finds, as JSON; "" when all is finite.
std::string look(Learner& learner, Loader& loader, const SampleOrder& order, const Piece& piece) {
  if (piece.size() == 0) return "";
  Arena& parameters = learner.parameters();
  parameters.zero_gradients();
  UnreadStep step{.report = learner.compute_gradients(loader, piece)};
  read_late(std::span(&step, 1));
  const StepReport& report = step.report;
  std::string parameter;
  for (const auto& slot : parameters.slots()) {
    if (slot.bucket < 0 || all_finite(parameters, slot.range)) continue;
    parameter = slot.name;
    break;
  }
  if (parameter.empty() && std::isfinite(report.loss_sum)) return "";
  const auto epoch = order.epoch(piece.epoch);
  json::array samples(epoch->begin() + piece.begin, epoch->begin() + piece.end);
  return json::serialize(json::object{{"loss", fmt::format("{}", report.loss_sum)}, {"parameter", parameter}, {"samples", std::move(samples)}});
}

}  // namespace

std::string NonfiniteCause::sentence() const {
  if (rank < 0) return "computed again it was finite: a fault that passes, of the hardware perhaps";
  std::string text = fmt::format("rank {} has a loss of {}", rank, loss);
  if (!parameter.empty()) text += fmt::format(" and a gradient that is not finite first in '{}'", parameter);
  return text + samples_text(samples);
}

std::string samples_text(const std::vector<std::int64_t>& samples) {
  constexpr std::size_t kShown = 8;
  const std::vector<std::int64_t> shown(samples.begin(), samples.begin() + static_cast<std::ptrdiff_t>(std::min(samples.size(), kShown)));
  return fmt::format(" (its samples: {}{})", fmt::join(shown, ", "), samples.size() > kShown ? ", ..." : "");
}

namespace {

NonfiniteCause parse(const std::string& text, int rank) {
  NonfiniteCause cause;
  if (text.empty()) return cause;
  const json::object fields = json::parse(text).as_object();
  cause.rank = rank;
  cause.loss = std::strtod(fields.at("loss").as_string().c_str(), nullptr);
  cause.parameter = std::string(fields.at("parameter").as_string());
  for (const json::value& sample : fields.at("samples").as_array()) cause.samples.push_back(sample.as_int64());
  return cause;
}

}  // namespace

NonfiniteCause find_nonfinite_here(Learner& learner, Loader& loader, const SampleOrder& order, const Piece& piece, int rank) {
  return parse(look(learner, loader, order, piece), rank);
}

NonfiniteCause find_nonfinite(Learner& learner, Loader& loader, const SampleOrder& order, const Piece& piece, World& world) {
  NonfiniteCause cause;
  const auto found = world.control().all_gather(look(learner, loader, order, piece));
  for (int rank = 0; rank < world.size() && cause.rank < 0; ++rank) cause = parse(found[static_cast<std::size_t>(rank)], rank);
  return cause;
}

}  // namespace tugline
