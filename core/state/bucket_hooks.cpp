// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/state/bucket_hooks.hpp"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include "tugline/core/state/arena.hpp"

namespace tugline {

struct BucketHooks::Impl {
  Arena& arena;
  std::function<void(int)> ready;
  std::vector<int> passes_left;     // per slot
  std::vector<int> slots_left;      // per bucket
  std::vector<char> reported;       // per bucket

  void on_gradient(std::size_t index) {
    if (index >= passes_left.size() || passes_left[index] == 0 || --passes_left[index] > 0) return;
    // zero_grad() may have set the gradient to none before this pass: then it is not in the arena yet.
    arena.rebind_gradient(index);
    const auto bucket = static_cast<std::size_t>(arena.slots()[index].bucket);
    if (--slots_left[bucket] > 0) return;
    reported[bucket] = 1;
    ready(static_cast<int>(bucket));
  }
};

namespace {

template <typename Impl>
class OnGradient final : public torch::autograd::PostAccumulateGradHook {
 public:
  OnGradient(std::weak_ptr<Impl> owner, std::size_t index) : owner_(std::move(owner)), index_(index) {}
  void operator()(const torch::autograd::Variable&) override {
    if (const auto owner = owner_.lock()) owner->on_gradient(index_);
  }

 private:
  std::weak_ptr<Impl> owner_;
  std::size_t index_;
};

}  // namespace

BucketHooks::BucketHooks(Arena& arena, std::function<void(int)> ready)
    : impl_(std::make_shared<Impl>(Impl{arena, std::move(ready), {}, {}, {}})) {
  for (std::size_t i = 0; i < arena.slots().size(); ++i) {
    if (arena.slots()[i].bucket < 0) continue;
    torch::autograd::impl::set_post_acc_grad_hooks(arena.slots()[i].parameter, std::make_unique<OnGradient<Impl>>(impl_, i));
  }
}

BucketHooks::~BucketHooks() {
  for (const auto& slot : impl_->arena.slots()) {
    if (slot.bucket >= 0) torch::autograd::impl::set_post_acc_grad_hooks(slot.parameter, nullptr);
  }
}

void BucketHooks::arm(int backwards) {
  const auto& slots = impl_->arena.slots();
  const auto& buckets = impl_->arena.buckets();
  impl_->passes_left.assign(slots.size(), backwards);
  impl_->slots_left.clear();
  for (const auto& bucket : buckets) impl_->slots_left.push_back(static_cast<int>(bucket.slots.size()));
  impl_->reported.assign(buckets.size(), 0);
}

std::vector<int> BucketHooks::unfinished() const {
  std::vector<int> result;
  for (std::size_t b = 0; b < impl_->reported.size(); ++b) {
    if (!impl_->reported[b]) result.push_back(static_cast<int>(b));
  }
  return result;
}

}  // namespace tugline
