// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "tugline/core/models/registry.hpp"

namespace tugline {

/// The `tugline` program as a library: every command works with a model of yours.
///
///     int main(int argc, char** argv) {
///       tugline::App app;
///       app.models().add("mine", "what it is", [](const tugline::ModelConfig& config, const tugline::SampleSpec& spec) {
///         return std::make_shared<Mine>(config, spec);
///       });
///       return app.run(argc, argv);
///     }
///
/// then `mpirun -n 4 ./mine train config.yaml` with `model: {name: mine}`.
class App {
 public:
  ModelRegistry& models() { return models_; }
  /// Runs one command and returns the process's exit code (core/error.hpp). Collective under mpirun. Never throws: an error all
  /// ranks share is printed once by rank 0; one that only this rank saw is printed as `[rank r] ...` and ends the job.
  int run(int argc, char** argv);

 private:
  ModelRegistry models_;
};

}  // namespace tugline
