// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "tugline/core/state/bucket_hooks.hpp"
#include "tugline/parallel/communicator.hpp"

namespace tugline {

class Arena;

/// Sums the buckets of a gradient arena over all ranks while backward fills them. Buckets leave in the arena's order on
/// every rank, whatever order backward completes them in: collectives must match. One thread; finish() is collective.
class BucketReducer {
 public:
  BucketReducer(Communicator& communicator, Arena& arena);

  /// The next `backwards` backward passes make up one step; buckets leave during the last.
  void arm(int backwards);
  /// Sends what backward did not complete (unused parameters, an empty piece) and waits for all.
  void finish();
  /// Gradient bytes of one step handed to the communicator.
  std::int64_t bytes() const;

 private:
  void on_ready(int bucket);
  void launch_ready();

  Communicator& communicator_;
  Arena& arena_;
  std::vector<char> ready_;
  std::vector<std::unique_ptr<Work>> under_way_;
  std::size_t next_ = 0;
  BucketHooks hooks_;
};

/// Element type of a tensor, for the communicator. Throws Error on one that cannot be summed across ranks.
DType dtype_of(const at::Tensor& tensor);

}  // namespace tugline
