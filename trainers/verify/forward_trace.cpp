// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/verify/forward_trace.hpp"

#include <string_view>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>

#include "tugline/core/error.hpp"
#include "tugline/core/state/arena.hpp"

namespace tugline {
namespace {

// The callbacks are plain functions, so the trace they write into must be found through the thread.
thread_local ForwardTrace* t_trace = nullptr;

template <typename Visit>
void for_each_tensor(const c10::IValue& value, const Visit& visit) {
  if (value.isTensor()) {
    visit(value.toTensor());
  } else if (value.isTensorList()) {
    for (const at::Tensor& tensor : value.toTensorVector()) visit(tensor);
  }
}

/// Operators whose result is memory that nobody has written yet.
bool is_uninitialised(std::string_view op) {
  return op.find("empty") != std::string_view::npos || op.find("resize") != std::string_view::npos ||
         op.find("set_") != std::string_view::npos;
}

}  // namespace

struct ForwardTrace::Callbacks {
  static std::unique_ptr<at::ObserverContext> start(const at::RecordFunction& call) {
    if (t_trace != nullptr) t_trace->saw_inputs(call);
    return nullptr;
  }
  static void end(const at::RecordFunction& call, at::ObserverContext*) {
    if (t_trace != nullptr) t_trace->saw_outputs(call);
  }
};

ForwardTrace::ForwardTrace(const Arena& parameters) {
  if (t_trace != nullptr) throw Error("a forward trace is under way on this thread already");
  for (const auto& slot : parameters.slots()) names_[slot.parameter.unsafeGetTensorImpl()] = slot.name;
  unseen_ = names_;
  t_trace = this;
  handle_ = at::addThreadLocalCallback(at::RecordFunctionCallback(&Callbacks::start, &Callbacks::end)
                                           .needsInputs(true)
                                           .needsOutputs(true)
                                           .scopes({at::RecordScope::FUNCTION}));
}

ForwardTrace::~ForwardTrace() {
  at::removeCallback(handle_);
  t_trace = nullptr;
}

void ForwardTrace::saw_inputs(const at::RecordFunction& call) {
  for (const c10::IValue& input : call.inputs()) {
    for_each_tensor(input, [this](const at::Tensor& tensor) {
      const auto known = names_.find(tensor.defined() ? tensor.unsafeGetTensorImpl() : nullptr);
      if (known == names_.end()) return;
      last_ = known->second;
      if (unseen_.erase(known->first) > 0) order_.push_back(known->second);
    });
  }
}

void ForwardTrace::saw_outputs(const at::RecordFunction& call) {
  std::string_view op = call.name();
  if (op.starts_with("aten::")) op.remove_prefix(6);
  if (nan_ || is_uninitialised(op)) return;
  const at::DisableRecordFunctionGuard unwatched;
  const at::NoGradGuard no_grad;
  for (const c10::IValue& output : call.outputs()) {
    for_each_tensor(output, [&](const at::Tensor& tensor) {
      if (!tensor.defined() || !tensor.is_floating_point() || tensor.numel() == 0) return;
      if (!nan_ && tensor.isnan().any().item<bool>()) {
        nan_ = NonFinite{std::string(op), last_, true};
      } else if (!infinity_ && tensor.isinf().any().item<bool>()) {
        infinity_ = NonFinite{std::string(op), last_, false};
      }
    });
  }
}

std::string layer_of(const std::string& parameter) { return parameter.substr(0, parameter.rfind('.')); }

}  // namespace tugline
