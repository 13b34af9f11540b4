// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tugline {

class Arena;
class Communicator;
struct NamedTensor;

/// Name, shape, dtype and whether it is trained of every tensor, as facts for require_equal().
std::vector<std::pair<std::string, std::string>> layout_facts(const std::vector<NamedTensor>& tensors, const std::string& kind);

/// Collective. All ranks get the root's values, bit for bit.
void broadcast_values(Communicator& communicator, Arena& arena, int root = 0);

/// What this rank counts in a mean over all.
struct Weight {
  double mine = 1;
  double all = 0;   ///< sum over the ranks; 0: each counts 1
};

/// Collective. Floating-point values become the mean over all ranks, counters (int64, int32) the largest; others, such as masks, stay.
/// Values of a device are averaged there where the communicator takes its memory. With whole-numbered weights, what is equal on all ranks stays so, bit for bit in float32.
void average_values(Communicator& communicator, Arena& arena, Weight weight = {});

/// Whether average_values() makes values of this type equal on all ranks.
bool is_averaged(const at::Tensor& values);

/// Collective. Compares buffers that lie as `arena` does (its values, optimizer slots) across ranks, bit for bit, by a digest of each;
/// undefined ones are left out.
/// Throws AgreedError (ExitCode::disagree) naming the first tensor that differs, by `what` and its name, and the lowest rank that differs
/// from rank 0.
void require_same_bits(Communicator& control, const Arena& arena, const std::vector<at::Tensor>& buffers, const std::string& what);

}  // namespace tugline
