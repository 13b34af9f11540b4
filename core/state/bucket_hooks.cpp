// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/state/bucket_hooks.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include "tugline/core/error.hpp"
#include "tugline/core/finite.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/core/state/pairwise_sum.hpp"

namespace tugline {
namespace {

/// On a device nobody waits for the answer: it is looked for once, in the sums (BucketSum::finite()).
bool is_finite(const at::Tensor& dense) {
  if (!dense.device().is_cpu()) return true;
  if (dense.scalar_type() == at::kFloat) return all_finite(dense.const_data_ptr<float>(), dense.numel());
  return std::isfinite(dense.sum(at::kDouble).item<double>());
}

}  // namespace

struct BucketHooks::Impl {
  Arena& arena;
  std::function<void(int)> ready;
  std::vector<int> passes_left{};     // per slot
  std::vector<char> empty{};          // per slot: its place holds nothing of this step yet
  std::vector<int> slots_left{};      // per bucket
  std::vector<char> reported{};       // per bucket
  bool finite = true;
  int backwards = 0;
  std::vector<std::shared_ptr<torch::autograd::Node>> accumulators{};   // per slot; autograd itself lets go of unused ones
  std::optional<PairwiseSum> passes{};   // added up pairwise
  bool in_pass = false;                  // of backward, with `passes`

  /// False: autograd accumulates it as usual.
  bool take(std::size_t index, const at::Tensor& gradient) {
    if (index >= passes_left.size() || passes_left[index] == 0 || !gradient.defined()) return false;
    store(index, gradient);
    if (--passes_left[index] > 0 || passes) return true;
    const auto bucket = static_cast<std::size_t>(arena.slots()[index].bucket);
    if (--slots_left[bucket] > 0) return true;
    reported[bucket] = 1;
    ready(static_cast<int>(bucket));
    return true;
  }

  void end_pass() {
    in_pass = false;
    clear_empty();
    passes->push();
    for (std::size_t i = 0; i < empty.size(); ++i) empty[i] = arena.slots()[i].bucket >= 0;
  }

  void clear_empty() {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < empty.size(); ++i) {
      if (!empty[i]) continue;
      at::Tensor gradients = arena.gradients(arena.slots()[i].range);
      gradients.zero_();
      empty[i] = 0;
    }
  }

  void store(std::size_t index, const at::Tensor& gradient) {
    const at::NoGradGuard no_grad;
    // The user may have set it to none since arm().
    const bool was_none = !arena.slots()[index].parameter.grad().defined();
    arena.rebind_gradient(index, !was_none && !empty[index]);
    at::Tensor place = arena.slots()[index].parameter.grad();
    if (!empty[index] && !was_none) {
      place.add_(gradient);
      finite = (passes_left[index] > 1 || is_finite(place)) && finite;
    } else if (place.device().is_cpu() && gradient.scalar_type() == at::kFloat && place.scalar_type() == at::kFloat && gradient.layout() == at::kStrided &&
               gradient.strides() == place.strides() && !gradient.is_neg()) {   // dense: the arena's views are
      finite = copy_finite(gradient.const_data_ptr<float>(), place.data_ptr<float>(), place.numel()) && finite;
    } else {
      place.copy_(gradient.layout() == at::kStrided ? gradient : gradient.to_dense());
      finite = is_finite(place) && finite;
    }
    empty[index] = 0;
  }
};

namespace {

/// Takes the gradient before autograd accumulates it; an undefined one is what then arrives there, and is left alone.
template <typename Impl>
class OnGradient final : public torch::autograd::FunctionPreHook {
 public:
  OnGradient(std::weak_ptr<Impl> owner, std::size_t index) : owner_(std::move(owner)), index_(index) {}
  torch::autograd::variable_list operator()(const torch::autograd::variable_list& gradients) override {
    const auto owner = owner_.lock();
    if (owner && owner->passes && !owner->in_pass && owner->backwards > 0) {
      owner->in_pass = true;
      torch::autograd::Engine::get_default_engine().queue_callback([weak = owner_] {
        if (const auto still_there = weak.lock()) still_there->end_pass();
      });
    }
    if (owner && owner->take(index_, gradients.at(0))) return {at::Tensor()};
    return gradients;
  }
  bool belongs_to(const std::shared_ptr<Impl>& owner) const { return !owner_.owner_before(owner) && !owner.owner_before(owner_); }

 private:
  std::weak_ptr<Impl> owner_;
  std::size_t index_;
};

}  // namespace

BucketHooks::BucketHooks(Arena& arena, std::function<void(int)> ready, int leaves)
    : impl_(std::make_shared<Impl>(Impl{.arena = arena, .ready = std::move(ready)})) {
  if (leaves > 0) impl_->passes.emplace(arena, leaves);
  impl_->accumulators.resize(arena.slots().size());
  for (std::size_t i = 0; i < arena.slots().size(); ++i) attach(i);
}

BucketHooks::~BucketHooks() {
  for (std::size_t i = 0; i < impl_->accumulators.size(); ++i) detach(i);
}

/// A change of dtype, there and back too, gives a parameter another node to accumulate its gradient in.
void BucketHooks::attach(std::size_t slot) {
  const Arena::Slot& there = impl_->arena.slots()[slot];
  if (there.bucket < 0 || !there.parameter.requires_grad()) return;
  auto accumulator = torch::autograd::impl::grad_accumulator(there.parameter);
  if (accumulator == impl_->accumulators[slot]) return;
  detach(slot);
  accumulator->add_pre_hook(std::make_unique<OnGradient<Impl>>(impl_, slot));
  impl_->accumulators[slot] = std::move(accumulator);
}

void BucketHooks::detach(std::size_t slot) {
  const auto accumulator = std::move(impl_->accumulators[slot]);
  if (!accumulator) return;
  std::erase_if(accumulator->pre_hooks(), [&](const auto& hook) {
    const auto* ours = dynamic_cast<const OnGradient<Impl>*>(hook.get());
    return ours != nullptr && ours->belongs_to(impl_);
  });
}

void BucketHooks::arm(int backwards, Before before) {
  Impl& self = *impl_;
  const auto& slots = self.arena.slots();
  const auto& buckets = self.arena.buckets();
  self.backwards = backwards;
  self.in_pass = false;
  if (self.passes) self.passes->clear();
  self.passes_left.assign(slots.size(), backwards);
  self.finite = true;
  self.empty.assign(slots.size(), 0);
  for (std::size_t i = 0; i < slots.size(); ++i) {
    if (slots[i].bucket < 0) continue;
    self.empty[i] = before == Before::forgotten || !slots[i].parameter.grad().defined();
    self.arena.rebind_gradient(i, !self.empty[i]);
    attach(i);
  }
  self.slots_left.clear();
  for (const auto& bucket : buckets) self.slots_left.push_back(static_cast<int>(bucket.slots.size()));
  self.reported.assign(buckets.size(), 0);
}

bool BucketHooks::finite() const { return impl_->finite; }

std::vector<int> BucketHooks::finish() {
  Impl& self = *impl_;
  if (self.passes) {
    if (self.passes->count() != self.backwards) {
      throw Error("a backward pass reached no parameter, and gradients that are added up pairwise need every pass");
    }
    self.passes->total();
    self.empty.assign(self.empty.size(), 0);
    for (const auto& bucket : self.arena.buckets()) self.finite = is_finite(self.arena.gradients(bucket.range)) && self.finite;
  }
  for (std::size_t i = 0; i < self.empty.size(); ++i) {
    // Used in some of the passes but not in the last: nobody has looked at it since it was added to.
    const bool unseen = self.backwards > 1 && self.passes_left[i] > 0 && !self.empty[i] && self.arena.slots()[i].bucket >= 0;
    if (unseen) self.finite = is_finite(self.arena.gradients(self.arena.slots()[i].range)) && self.finite;
  }
  std::fill(self.passes_left.begin(), self.passes_left.end(), 0);
  self.backwards = 0;
  self.clear_empty();
  std::vector<int> result;
  for (std::size_t b = 0; b < self.reported.size(); ++b) {
    if (!self.reported[b]) result.push_back(static_cast<int>(b));
  }
  return result;
}

}  // namespace tugline
