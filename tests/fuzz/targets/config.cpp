// SPDX-License-Identifier: Apache-2.0
// A config file: a config that survives its own YAML, or a ConfigError.
#include "tugline/core/config/load.hpp"
#include "tugline/core/error.hpp"
#include "tugline/tests/fuzz/targets/base_folder.hpp"
#include "tugline/tests/fuzz/targets/target.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tugline;
  static const fuzz::BaseFolder folder;
  RunConfig config;
  if (fuzz::reads_or_says_why<ConfigError>([&] { config = parse_config(fuzz::text_of(data, size), folder.file()); })) {
    const std::string yaml = to_yaml(config);
    fuzz::must(to_yaml(parse_config(yaml, "again.yaml")) == yaml, "the config does not survive its own YAML");
    to_json(config);
  }
  return 0;
}
