// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/optim/spike_detector.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <exception>
#include <stdexcept>
#include <utility>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/core/error.hpp"

namespace tugline {
namespace {

namespace json = boost::json;

/// What nine of ten do not exceed.
double usual_of(const std::deque<double>& norms) {
  std::vector<double> sorted(norms.begin(), norms.end());
  const auto nth = sorted.begin() + static_cast<std::ptrdiff_t>(9 * sorted.size() / 10);
  std::nth_element(sorted.begin(), nth, sorted.end());
  return *nth;
}

/// Boost.JSON 1.81 reads one double in ten a bit off: they go as text.
json::array encode(const std::deque<double>& norms) {
  json::array texts;
  for (const double norm : norms) texts.emplace_back(fmt::format("{}", norm));
  return texts;
}

std::deque<double> decode(const json::value& texts, std::size_t most) {
  std::deque<double> norms;
  for (const json::value& text : texts.as_array()) {
    const json::string& digits = text.as_string();
    double norm = 0;
    const auto [end, error] = std::from_chars(digits.begin(), digits.end(), norm);
    if (error != std::errc() || end != digits.end() || !std::isfinite(norm) || norm < 0) throw std::invalid_argument("a norm of " + std::string(digits));
    norms.push_back(norm);
  }
  if (norms.size() > most) throw std::out_of_range(fmt::format("{} norms", norms.size()));
  return norms;
}

}  // namespace

void SpikeDetector::take(double norm) {
  spikes_.clear();
  norms_.push_back(norm);
  if (norms_.size() > kWindow) norms_.pop_front();
}

std::optional<Spike> SpikeDetector::judge(double norm) {
  const double usual = norms_.size() < kWarmUp ? 0 : usual_of(norms_);
  const bool in_line = usual <= 0 || norm <= factor_ * usual;   // nothing is out of line with zeros
  const bool new_level = !in_line && spikes_.size() == kNewLevel && norm <= factor_ * usual_of(spikes_);
  if (new_level) norms_ = std::exchange(spikes_, {});
  if (in_line || new_level) {
    take(norm);
    return std::nullopt;
  }
  spikes_.push_back(norm);
  if (spikes_.size() > kNewLevel) spikes_.pop_front();
  return Spike{norm, usual};
}

std::string SpikeDetector::save() const { return json::serialize(json::object{{"norms", encode(norms_)}, {"spikes", encode(spikes_)}}); }

void SpikeDetector::load(const std::string& text) {
  if (text.empty()) return;
  try {
    const json::value value = json::parse(text);
    auto norms = decode(value.at("norms"), kWindow), spikes = decode(value.at("spikes"), kNewLevel);
    norms_ = std::move(norms);
    spikes_ = std::move(spikes);
  } catch (const std::exception& error) {
    throw CheckpointError(fmt::format("/meta/gradient_norms of the checkpoint cannot be read: {}", error.what()));
  }
}

}  // namespace tugline
