// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace at {
struct RecordFunction;
}

namespace tugline {

class Arena;

/// Watches the operators that this thread runs while it lives: in which order a model uses its parameters, and which operator
/// first produced a NaN or an infinity. LibTorch has no forward hooks in C++; its profiler's callbacks see every operator.
/// One at a time per thread.
class ForwardTrace {
 public:
  explicit ForwardTrace(const Arena& parameters);
  ~ForwardTrace();
  ForwardTrace(const ForwardTrace&) = delete;
  ForwardTrace& operator=(const ForwardTrace&) = delete;

  /// Names of the parameters in the order of their first use; those never used are missing.
  const std::vector<std::string>& order() const { return order_; }

  struct NonFinite {
    std::string op;         ///< "log", "addmm", ...
    std::string parameter;  ///< used last before it, or by it; empty: none yet
    bool nan = false;       ///< else an infinity
  };
  /// The first NaN; where there is none, the first infinity (masks hold some on purpose).
  std::optional<NonFinite> first_non_finite() const { return nan_ ? nan_ : infinity_; }

 private:
  struct Callbacks;
  void saw_inputs(const at::RecordFunction& call);
  void saw_outputs(const at::RecordFunction& call);

  std::unordered_map<const void*, std::string> unseen_, names_;
  std::vector<std::string> order_;
  std::string last_;
  std::optional<NonFinite> nan_, infinity_;
  std::uint64_t handle_ = 0;
};

/// "block0.qkv" of "block0.qkv.weight"; a name without a dot is its own layer.
std::string layer_of(const std::string& parameter);

}  // namespace tugline
