// SPDX-License-Identifier: Apache-2.0
// A sweep's file: a sweep with a space that can be drawn from, or a ConfigError.
#include "tugline/core/error.hpp"
#include "tugline/tests/fuzz/targets/base_folder.hpp"
#include "tugline/tests/fuzz/targets/target.hpp"
#include "tugline/trainers/sweep/space/sweep_config.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tugline;
  static const fuzz::BaseFolder folder;
  fuzz::reads_or_says_why<ConfigError>([&] {
    const sweep::SweepConfig config = sweep::parse_sweep(fuzz::text_of(data, size), folder.file());
    sweep::to_json(config);
    sweep::overrides(config.space, config.space.draw(config.seed, 0));
  });
  return 0;
}
