// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tugline/core/config/run_config.hpp"

namespace tugline {

/// Reads `file` (following `extends:`), applies `overrides` ("optim.lr=0.1", "model.hidden=[64,64]", "name='a b'"), checks
/// every key, type and range, and what must fit together. Throws ConfigError whose what() holds *all* errors, one per line,
/// each with file:line:column (or "command line: optim.lr=fast"), what was found, what was expected and the nearest valid
/// key. A relative data.path is resolved against the file in which it stands (on the command line: the working directory)
/// and made absolute.
RunConfig load_config(const std::filesystem::path& file, const std::vector<std::string>& overrides = {});
/// The same for YAML text; `name` stands for the file in messages.
RunConfig parse_config(const std::string& yaml, const std::string& name, const std::vector<std::string>& overrides = {});

/// The fully resolved config as YAML that load_config reads back to an equal value.
std::string to_yaml(const RunConfig&);
std::string to_json(const RunConfig&);  ///< one line; keys in declaration order
/// 64-bit digest (XXH3) of what must be equal on every rank.
std::uint64_t config_hash(const RunConfig&);

std::string schema_text();  ///< for people: key, type, default, range, unit, help
std::string schema_json();  ///< JSON Schema, draft 2020-12

}  // namespace tugline
