// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "tugline/core/dtype.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/core/state/residual.hpp"
#include "tugline/parallel/work.hpp"

namespace tugline {

class Communicator;
class RingCommunicator;

/// How gradients travel by message.
struct ExchangeOptions {
  bool ring = false;       ///< Tugline's ring, which goes on while the rank computes; false: the communicator's own all-reduce
  bool bfloat16 = false;   ///< float32 goes as bfloat16, by the ring, with error feedback; other types as they are
  bool pairwise = false;   ///< ranks are added up as a fixed tree does (sum_pairwise()): by an all-gather, and not by the ring
};

/// Sums ranges of a gradient arena over the ranks of a communicator. One thread.
class Exchange {
 public:
  /// Collective. Everything must outlive the exchange. An arena on a device needs a `communicator` that
  /// takes_device_memory(), and is neither rounded nor pairwise; throws Error.
  Exchange(Communicator& communicator, const Arena& arena, const ExchangeOptions& options);
  ~Exchange();

  /// A new step.
  void begin() { started_.clear(); }
  /// In place; collective, in one order.
  std::unique_ptr<Work> start(const Range& range);
  /// The step is skipped, and all its sums have been waited for: what rounding has left over is what it was before.
  void forget();
  /// What rounding has left over of `range`; nullopt where it is not rounded.
  std::optional<Residual> residual(const Range& range) const;
  /// Bytes of `range` that this rank sends.
  std::int64_t bytes(const Range& range) const;

 private:
  Communicator& communicator_;
  const Arena& arena_;
  bool pairwise_;
  std::unique_ptr<RingCommunicator> ring_;
  std::vector<std::shared_ptr<float>> residuals_, before_;   // per flat, as long as its gradients; null where nothing is rounded
  std::vector<Range> started_;                               // in this step: before_ has what their residuals were
};

/// Element type of a tensor, for the communicator. Throws Error on one that cannot be summed across ranks.
DType dtype_of(const at::Tensor& tensor);

}  // namespace tugline
