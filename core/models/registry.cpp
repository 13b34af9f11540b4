// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/models/registry.hpp"

#include <algorithm>
#include <mutex>
#include <string_view>

#include <ATen/CPUGeneratorImpl.h>
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include "tugline/core/config/nearest.hpp"
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

/// What LibTorch or a user's builder throws says nothing of the config that asked for it: no memory, "map::at".
std::shared_ptr<Model> build_with(const ModelBuilder& builder, const ModelConfig& config, const SampleSpec& spec) {
  const auto refuse = [&](const std::string& why) -> ConfigError {
    return ConfigError(c10::str("model.name: '", config.name, "' cannot be built with these settings: ", why));
  };
  try {
    return builder(config, spec);
  } catch (const Error&) {
    throw;
  } catch (const c10::Error& error) {
    throw refuse(error.what_without_backtrace());
  } catch (const std::exception& error) {
    throw refuse(error.what());
  }
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
    throw Error(c10::str("a model named '", name, "' is registered already; give yours another name"));
  }
  entries_.push_back({std::move(name), std::move(help), std::move(builder)});
}

std::shared_ptr<Model> ModelRegistry::build(const ModelConfig& config, const SampleSpec& spec, std::uint64_t seed) const {
  for (const Entry& entry : entries_) {
    if (entry.name != config.name) continue;
    const SeededGenerator seeded(seed);
    return build_with(entry.builder, config, spec);
  }
  std::vector<std::string_view> names;
  std::string known;
  for (const Entry& entry : entries_) {
    names.push_back(entry.name);
    known += (known.empty() ? "" : ", ") + entry.name;
  }
  throw ConfigError(c10::str("model.name: unknown model '", config.name, "'",
                             config::did_you_mean(config::nearest_word(config.name, names)), " (known: ", known, ")"));
}

}  // namespace tugline
