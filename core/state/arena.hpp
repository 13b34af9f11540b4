// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tugline {

/// Part of an arena: elements [begin, end) of its flat buffer number `buffer`.
struct Range {
  int buffer = 0;
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return end - begin; }
};

/// Gives zeroed, 64-byte aligned memory for one flat buffer; the result keeps it alive. Default: host memory.
/// `what` is "parameters", "gradients", "buffers" or an optimizer slot's name.
using ArenaAllocator = std::function<std::shared_ptr<void>(std::size_t bytes, const std::string& what)>;
std::shared_ptr<void> host_memory(std::size_t bytes);

struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

struct ArenaOptions {
  /// Upper size of a bucket (a larger parameter gets its own); 0: a sixteenth of the gradients, at least 256 KiB and at most 4 MiB.
  std::int64_t bucket_bytes = 0;
  std::function<int(const std::string& name)> group_of;  ///< parameter group of a name; null: all in group 0
  ArenaAllocator allocator;                   ///< of host memory; null: host_memory()
  at::Device device = at::kCPU;               ///< where the parameters are, and the arena; `allocator` is for the host alone
  bool values_are_there = false;              ///< the allocator's memory holds the values, another rank's: bind to them, copy nothing
};

/// All parameters of a model as views of one flat buffer per dtype, all gradients as views of a second with the same layout.
/// Buffers are laid out by (bucket, parameter group) in reverse order of registration, each parameter 64-byte aligned; the
/// padding is zero in both. Order may change between runs: save by name.
///
/// The binding survives backward, tied and unused parameters, zero_grad(false). It breaks on zero_grad() (set to none),
/// torch::load and to(dtype): call rebind() before each step. Not thread-safe; not collective.
class Arena {
 public:
  struct Slot {
    std::string name;
    at::Tensor parameter;      ///< the module's own tensor; its data is a view of the flat buffer
    Range range;               ///< numel() elements, without padding
    int bucket = 0;
    int group = 0;
  };
  /// One dtype's flat pair; `gradients` is undefined where gradients were not asked for (module buffers).
  struct Flat {
    at::Tensor values;       ///< [num_elements]
    at::Tensor gradients;    ///< [num_elements]
  };
  struct Bucket {
    Range range;
    std::vector<int> slots;
  };

  /// Moves the tensors' contents into the arena and binds them. Frozen parameters (requires_grad false) get values but no
  /// gradient and lie in no bucket. Tied ones must be the same tensor and count once. Throws Error on sparse tensors and on those that
  /// are not on `options.device`.
  Arena(const std::vector<NamedTensor>& parameters, ArenaOptions options);
  ~Arena();
  Arena(Arena&&) noexcept;
  Arena& operator=(Arena&&) noexcept;

  at::Device device() const;
  const std::vector<Slot>& slots() const;          ///< trainable first, then frozen
  const std::vector<Flat>& flats() const;          ///< one per dtype
  const std::vector<Bucket>& buckets() const;      ///< in the order in which backward is expected to fill them
  /// Maximal ranges of one bucket that belong to one parameter group, padding included: what an elementwise optimizer steps.
  struct Segment {
    Range range;
    int group = 0;
    int bucket = 0;
  };
  const std::vector<Segment>& segments() const;

  at::Tensor values(const Range&) const;      ///< flat view
  at::Tensor gradients(const Range&) const;   ///< flat view
  /// A new flat buffer per dtype with this layout, zeroed: optimizer slots, residuals, snapshots.
  std::vector<at::Tensor> like(const std::string& what) const;
  /// View of parameter `slot` in a buffer made by like(), with the parameter's own shape and strides.
  at::Tensor view(const std::vector<at::Tensor>& buffers, const Slot& slot) const;

  /// Sets all gradients to zero (one call per dtype).
  void zero_gradients();
  /// Checks every binding by pointer and restores what broke; a detached gradient's contents are copied in, a gradient
  /// that was set to none counts as zero. Returns how many were restored. Throws Error when a shape has changed.
  int rebind();
  /// The same for the values alone, and for the gradient of one slot; `keep` false: what it holds afterwards does not matter.
  int rebind_values();
  bool rebind_gradient(std::size_t slot, bool keep = true);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// "weight", "layers.0.bias", ...: parameters (or buffers) in order of registration, tied ones once under their first name.
/// Declared for torch::nn::Module in module_tensors.hpp.

}  // namespace tugline
