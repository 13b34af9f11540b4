// SPDX-License-Identifier: Apache-2.0
// Overrides of the command line, a zero byte between two: a config that survives its own YAML, or a ConfigError.
#include <sstream>
#include <vector>

#include "tugline/core/config/load.hpp"
#include "tugline/core/error.hpp"
#include "tugline/tests/fuzz/targets/target.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tugline;
  std::vector<std::string> overrides;
  std::istringstream words(fuzz::text_of(data, size));
  for (std::string word; std::getline(words, word, '\0');) overrides.push_back(word);
  RunConfig config;
  if (fuzz::reads_or_says_why<ConfigError>([&] { config = parse_config("", "fuzz.yaml", overrides); })) {
    const std::string yaml = to_yaml(config);
    fuzz::must(to_yaml(parse_config(yaml, "again.yaml")) == yaml, "the config does not survive its own YAML");
  }
  return 0;
}
