// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>

#include "tugline/core/io/checkpoint.hpp"

namespace tugline {

class Arena;

/// Arrays by the names of parameters and buffers, of a .safetensors file or of a checkpoint, whichever `file` is. Throws DataError or
/// CheckpointError.
std::map<std::string, Array> read_weights(const std::string& file);

/// Copies arrays into parameters and buffers of the same name, converting their type; a prefix that all names have in common ("module.",
/// "model.") is left out where that makes them fit. `parameters_elsewhere`: another rank writes the parameters. Throws DataError that lists
/// all that does not fit (missing, unknown, of another shape), and has changed nothing then.
void load_weights(const std::map<std::string, Array>& arrays, Arena& parameters, Arena& buffers, bool parameters_elsewhere);

}  // namespace tugline
