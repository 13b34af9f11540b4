// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/gradient_spike.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/core/optim/clip.hpp"
#include "tugline/parallel/world.hpp"
#include "tugline/trainers/learner.hpp"
#include "tugline/trainers/nonfinite.hpp"

namespace tugline {
namespace {

namespace json = boost::json;

/// Room for what rounding, to bfloat16 too, makes of a sum.
constexpr double kMoreThanParts = 1.05;

double norm_of(const std::vector<double>& parts) {
  return std::sqrt(std::inner_product(parts.begin(), parts.end(), parts.begin(), 0.0));
}

/// This rank's side, as JSON; numbers as text, which has infinity and is exact.
std::string describe(const GradientSpike& spike, const Arena& parameters, const SampleOrder& order, const Piece& piece) {
  const auto largest = std::max_element(spike.own.begin(), spike.own.end()) - spike.own.begin();
  const auto epoch = order.epoch(piece.epoch);
  json::array samples(epoch->begin() + piece.begin, epoch->begin() + piece.end);
  return json::serialize(json::object{{"part", fmt::format("{}", norm_of(spike.own) * spike.scale)},
                                      {"parameter", parameters.slots()[static_cast<std::size_t>(largest)].name},
                                      {"samples", std::move(samples)}});
}

}  // namespace

std::string SpikeCause::sentence() const {
  const std::string text = fmt::format("the gradient norm is {:.3g}, {:.3g} times the usual {:.3g}", found.norm, found.norm / found.usual, found.usual);
  if (rank < 0) return text + ", and no rank's own gradient is so large: it went wrong where they are added up";
  return fmt::format("{}: rank {} has {:.3g} of it, most in '{}'{}", text, rank, part, parameter, samples_text(samples));
}

json::object SpikeCause::fields() const {
  return {{"norm", found.norm}, {"usual", found.usual}, {"rank", rank}, {"part", part}, {"parameter", parameter},
          {"samples", json::array(samples.begin(), samples.end())}};
}

SpikeCause find_spike(const GradientSpike& spike, Learner& learner, const SampleOrder& order, const Piece& piece, World& world) {
  SpikeCause cause{.found = spike.found};
  double all = 0;
  const auto told = world.control().all_gather(describe(spike, learner.parameters(), order, piece));
  for (int rank = 0; rank < world.size(); ++rank) {
    const json::object fields = json::parse(told[static_cast<std::size_t>(rank)]).as_object();
    const double part = std::strtod(fields.at("part").as_string().c_str(), nullptr);
    all += part;
    if (part <= cause.part) continue;
    cause.rank = rank;
    cause.part = part;
    cause.parameter = std::string(fields.at("parameter").as_string());
    cause.samples.clear();
    for (const json::value& sample : fields.at("samples").as_array()) cause.samples.push_back(sample.as_int64());
  }
  if (spike.found.norm > kMoreThanParts * all) return {.found = spike.found};
  return cause;
}

double part_again(const SpikeCause& cause, const GradientSpike& spike, Learner& learner, Loader& loader, const Piece& piece, World& world) {
  Arena& parameters = learner.parameters();
  parameters.zero_gradients();
  if (piece.size() > 0) learner.compute_gradients(loader, piece);
  std::vector<Range> all;
  for (const auto& bucket : parameters.buckets()) all.push_back(bucket.range);
  const double mine = std::sqrt(squared_norm(parameters, all)) * spike.scale;
  std::vector<double> parts(static_cast<std::size_t>(world.size()));
  world.control().all_gather(&mine, sizeof mine, parts.data());
  return parts.at(static_cast<std::size_t>(cause.rank));
}

}  // namespace tugline
