// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/models/registry.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <mutex>
#include <numeric>

#include <ATen/CPUGeneratorImpl.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/models/builders.hpp"

namespace tugline {
namespace {

/// Seeds ATen's default generator, which module constructors draw from, and gives it its old state back. ATen has one such
/// generator per process; the lock keeps ranks that are threads from drawing from each other's stream. Recursive: a
/// builder may build another model.
class SeededGenerator {
 public:
  explicit SeededGenerator(std::uint64_t seed) : lock_(mutex_), generator_(at::detail::getDefaultCPUGenerator()) {
    old_state_ = generator_.get_state().clone();
    generator_.set_current_seed(seed);
  }
  ~SeededGenerator() { generator_.set_state(old_state_); }
  SeededGenerator(const SeededGenerator&) = delete;
  SeededGenerator& operator=(const SeededGenerator&) = delete;

 private:
  static inline std::recursive_mutex mutex_;
  std::scoped_lock<std::recursive_mutex> lock_;
  at::Generator generator_;
  at::Tensor old_state_;
};

/// Levenshtein distance.
std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({substituted, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

}  // namespace

ModelRegistry::ModelRegistry() {
  add("linear", "one affine map of the flattened sample: logistic or linear regression", build_linear);
  add("mlp", "fully connected layers (hidden, activation, dropout)", build_mlp);
  add("convnet", "3x3 convolutions in stages (channels, norm, activation, dropout)", build_convnet);
  add("transformer", "decoder-only language model over characters or bytes (layers, heads, width, tied, dropout)",
      build_transformer);
}

void ModelRegistry::add(std::string name, std::string help, ModelBuilder builder) {
  if (std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.name == name; })) {
    throw Error(fmt::format("a model named '{}' is registered already; give yours another name", name));
  }
  entries_.push_back({std::move(name), std::move(help), std::move(builder)});
}

std::shared_ptr<Model> ModelRegistry::build(const ModelConfig& config, const SampleSpec& spec, std::uint64_t seed) const {
  for (const Entry& entry : entries_) {
    if (entry.name != config.name) continue;
    const SeededGenerator seeded(seed);
    return entry.builder(config, spec);
  }
  const auto nearest = std::min_element(entries_.begin(), entries_.end(), [&](const Entry& a, const Entry& b) {
    return edit_distance(a.name, config.name) < edit_distance(b.name, config.name);
  });
  std::vector<std::string> names;
  for (const Entry& entry : entries_) names.push_back(entry.name);
  throw ConfigError(fmt::format("model.name: unknown model '{}'; did you mean {}? (known: {})", config.name, nearest->name,
                                fmt::join(names, ", ")));
}

}  // namespace tugline
