// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/optim/optimizer.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>

#include <ATen/Dispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adagrad.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/zeros.h>
#include <c10/util/StringUtil.h>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/error.hpp"
#include "tugline/core/optim/on_threads.hpp"
#include "tugline/core/optim/sgd_part.hpp"
#include "tugline/core/state/arena.hpp"

namespace tugline {
namespace {

/// One range as the fused kernels want it. Made once per range, so that a whole step allocates nothing.
struct RangeViews {
  at::Tensor values, gradients;
  std::vector<at::Tensor> slots;
  at::Tensor step;            // [1] float32: adam and adagrad read the step from a tensor
  at::Tensor inverse_scale;   // [1] float32: ATen divides gradients by it
};

/// What one call of a fused kernel gets beside the views.
struct StepArguments {
  double lr, weight_decay, fraction, number;
  bool first;
  std::optional<at::Tensor> inverse_scale = std::nullopt;
  std::optional<at::Tensor> left_out = std::nullopt;
  double scale = 1;   // of the gradients of a part of a step
  const at::Tensor* copy = nullptr;   // may get the values, and is null then
};

/// Without a kernel where the host can write.
void set(const at::Tensor& scalar, double value) {
  if (scalar.device().is_cpu()) scalar.data_ptr<float>()[0] = static_cast<float>(value);
  else at::Tensor(scalar).fill_(value);
}

/// What part of a step does to a momentum that keeps `decay` of itself per step, and by it to the parameters: without new gradients n updates of 1/n
/// do exactly what a step does.
struct PartOfStep {
  double kept;      ///< of the momentum
  double carried;   ///< how much of it is added to the parameters; a step's is `decay`
  PartOfStep(double decay, double fraction) : kept(std::pow(decay, fraction)), carried(decay * (1 - kept) / (1 - decay)) {}
};

/// What the four have in common; each adds its slots and its kernel.
class FusedOptimizer : public Optimizer {
 public:
  FusedOptimizer(const OptimConfig& config, Arena& arena, std::vector<at::Tensor> values, const std::vector<std::string>& slot_names)
      : config_(config), groups_(resolve_groups(config)), arena_(arena), values_(std::move(values)) {
    for (std::size_t i = values_.size(); i < arena.flats().size(); ++i) values_.push_back(arena.flats()[i].values);
    for (const std::string& name : slot_names) slots_.push_back({name, arena.like(name)});
  }

  bool elementwise() const override { return true; }
  std::vector<SlotBuffer>& slots() override { return slots_; }

  void step(const Range& range, int group, const Update& update) override {
    if (range.size() == 0) return;
    const at::NoGradGuard no_grad;
    if (update.fraction != 1 && (update.left_out.defined() || update.scale_there.defined())) throw Error("a device decides about whole steps only");
    RangeViews views = *views_of(range);
    if (update.gradients != nullptr) views.gradients = *update.gradients;
    const ParamGroup& settings = groups_.at(static_cast<std::size_t>(group));
    StepArguments arguments{update.lr * settings.lr_factor, settings.weight_decay, update.fraction, update.number,
                            update.first || (update.number == 1 && update.fraction == 1)};
    if (update.left_out.defined()) arguments.left_out = update.left_out;
    set(views.step, update.number / update.fraction);
    scale_gradients(views, update, arguments);
    arguments.copy = update.copy;
    if (at::isReducedFloatingType(views.values.scalar_type())) {
      apply_in_float32(views, arguments);
    } else {
      apply(views, arguments);
    }
    if (arguments.copy != nullptr) at::Tensor(*arguments.copy).copy_(views.values);
  }

 protected:
  virtual void apply(RangeViews& views, StepArguments& arguments) = 0;

  const OptimConfig config_;

 private:
  /// The kernels' own scale is float32 whatever the gradients are, and they write each gradient that they multiply.
  static void scale_gradients(RangeViews& views, const Update& update, StepArguments& arguments) {
    if (update.fraction != 1) {
      arguments.scale = update.grad_scale;
      return;
    }
    const bool in_kernel = views.values.scalar_type() == at::kFloat;
    if (update.scale_there.defined()) {
      if (in_kernel) views.inverse_scale.copy_(update.scale_there.reciprocal());
      else views.gradients.mul_(update.scale_there);
    } else if (update.grad_scale == 1) {
      return;
    } else if (in_kernel) {
      set(views.inverse_scale, 1 / update.grad_scale);
    } else {
      views.gradients.mul_(update.grad_scale);
    }
    if (in_kernel) arguments.inverse_scale = views.inverse_scale;
  }

  /// ATen's 16-bit kernels round the arithmetic itself; this rounds only what is stored.
  void apply_in_float32(RangeViews& views, StepArguments& arguments) {
    RangeViews wide{views.values.to(at::kFloat), views.gradients.to(at::kFloat), {}, views.step, views.inverse_scale};
    for (const at::Tensor& slot : views.slots) wide.slots.push_back(slot.to(at::kFloat));
    const at::Tensor* const copy = std::exchange(arguments.copy, nullptr);
    apply(wide, arguments);
    arguments.copy = copy;
    views.values.copy_(wide.values);
    for (std::size_t i = 0; i < views.slots.size(); ++i) views.slots[i].copy_(wide.slots[i]);
  }

  std::shared_ptr<RangeViews> views_of(const Range& range) {
    const std::scoped_lock lock(mutex_);
    if (views_.size() > kMaxCachedRanges) views_.clear();  // ranges that move, as shares do, must not pile up
    auto& views = views_[{range.buffer, range.begin, range.end}];
    if (!views) {
      views = std::make_shared<RangeViews>();
      const auto one_number = at::TensorOptions(at::kFloat).device(arena_.device());
      views->step = at::zeros({1}, one_number);
      views->inverse_scale = at::zeros({1}, one_number);
      views->values = values_.at(static_cast<std::size_t>(range.buffer)).narrow(0, range.begin, range.size());
      views->gradients = arena_.gradients(range);
      for (const SlotBuffer& slot : slots_) {
        views->slots.push_back(
            slot.buffers.at(static_cast<std::size_t>(range.buffer)).narrow(0, range.begin, range.size()));
      }
    }
    return views;
  }

  static constexpr std::size_t kMaxCachedRanges = 4096;
  const std::vector<ParamGroup> groups_;
  Arena& arena_;
  std::vector<at::Tensor> values_;   // per flat
  std::vector<SlotBuffer> slots_;
  std::mutex mutex_;
  std::map<std::tuple<int, std::int64_t, std::int64_t>, std::shared_ptr<RangeViews>> views_;
};

class Sgd : public FusedOptimizer {
 public:
  Sgd(const OptimConfig& config, Arena& arena, std::vector<at::Tensor> values)
      : FusedOptimizer(config, arena, std::move(values),
                       config.momentum == 0 ? std::vector<std::string>{} : std::vector<std::string>{"momentum"}) {
    if (config.nesterov && (config.momentum == 0 || config.dampening != 0)) {
      throw ConfigError("optim.nesterov: needs optim.momentum above 0 and optim.dampening 0");
    }
    std::size_t bytes = 0;
    for (const auto& flat : arena.flats()) bytes += flat.values.nbytes();
    large_ = bytes > kLarge;
  }

 private:
  void apply(RangeViews& views, StepArguments& a) override {
    if (a.fraction != 1) return apply_part(views, a);
    at::_fused_sgd_(views.values, views.gradients, views.slots, a.weight_decay, config_.momentum, a.lr, config_.dampening, config_.nesterov,
                    /*maximize=*/false, /*is_first_step=*/a.first, a.inverse_scale, a.left_out);
  }

  /// Where a part of a step makes a copy too, one pass over memory is what counts: ATen's kernel would write the scaled gradients as well.
  void apply_part(RangeViews& views, StepArguments& a) const {
    if (!views.values.device().is_cpu()) throw Error("parts of steps of sgd are made on the host");
    const auto [kept, plain_carried] = PartOfStep(config_.momentum, a.fraction);
    const double ahead = config_.nesterov ? config_.momentum : 0, taken = a.fraction * (1 - config_.dampening);
    SgdPart part{.scale = a.scale, .decay = a.weight_decay, .now = a.lr * a.fraction};
    if (config_.momentum != 0) {
      part.now = a.lr * taken * (1 + ahead);
      part.carry = a.lr * plain_carried * (config_.nesterov ? config_.momentum : 1);
      part.keep = kept;
      part.take = taken;
    }
    AT_DISPATCH_FLOATING_TYPES(views.values.scalar_type(), "part of a step", [&] {
      SgdPart::Arrays<scalar_t> arrays{views.values.data_ptr<scalar_t>(), views.gradients.const_data_ptr<scalar_t>()};
      if (!views.slots.empty()) arrays.momentum = views.slots[0].data_ptr<scalar_t>();
      if (a.copy != nullptr) arrays.copy = a.copy->data_ptr<scalar_t>();
      on_threads(views.values, kGrain, [&](std::int64_t begin, std::int64_t end) { part.step(arrays.at(begin), end - begin, large_); });
    });
    a.copy = nullptr;
  }

  static constexpr std::int64_t kGrain = 16384;   // elements, at least, for a thread of its own
  static constexpr std::size_t kLarge = std::size_t{32} << 20;   // bytes, which no cache holds beside what else training touches
  bool large_ = false;
};

class Adam : public FusedOptimizer {
 public:
  Adam(const OptimConfig& config, Arena& arena, std::vector<at::Tensor> values, bool decoupled)
      : FusedOptimizer(config, arena, std::move(values), {"exp_avg", "exp_avg_sq"}), decoupled_(decoupled) {}

 private:
  void apply(RangeViews& views, StepArguments& a) override {
    if (a.fraction != 1) return apply_part(views, a);
    run(views, views.slots[0], a, {a.lr, config_.beta1, a.weight_decay});
  }

  /// The kernel steps by a copy of the first moment, since in a part of a step what it adds to the parameters is not what stays.
  void apply_part(RangeViews& views, const StepArguments& a) const {
    const PartOfStep part(config_.beta1, a.fraction);
    const double taken = a.fraction * (1 - config_.beta1);
    if (a.scale != 1) views.gradients.mul_(a.scale);
    if (!decoupled_ && a.weight_decay != 0) views.gradients.add_(views.values, a.weight_decay);
    const at::Tensor direction = views.slots[0].clone();
    views.slots[0].mul_(part.kept).add_(views.gradients, taken);
    // The kernel's own bias correction, by this beta1, makes way for ours: a division by how much all gradients so far weigh in the direction.
    const double beta1 = part.carried / (part.carried + taken), of_kernel = 1 - std::pow(beta1, a.number / a.fraction);
    const double weight_before = taken * (1 - std::pow(config_.beta1, std::max(0.0, a.number - a.fraction))) / (1 - part.kept);
    const double correction = (part.carried + taken) * of_kernel / (part.carried * weight_before + taken);
    run(views, direction, a, {a.lr * a.fraction * correction, beta1, decoupled_ ? a.weight_decay / correction : 0});
  }

  struct Coefficients {
    double lr, beta1, weight_decay;
  };
  void run(RangeViews& views, const at::Tensor& first_moment, const StepArguments& a, const Coefficients& c) const {
    const auto call = [&](auto kernel) {
      kernel(views.values, views.gradients, first_moment, views.slots[1], /*max_exp_avg_sqs=*/at::TensorList{}, views.step, c.lr, c.beta1,
             std::pow(config_.beta2, a.fraction), c.weight_decay, config_.eps, /*amsgrad=*/false, /*maximize=*/false, a.inverse_scale, a.left_out);
    };
    decoupled_ ? call(at::_ops::_fused_adamw_::call) : call(at::_ops::_fused_adam_::call);
  }

  bool decoupled_;
};

class Adagrad : public FusedOptimizer {
 public:
  Adagrad(const OptimConfig& config, Arena& arena, std::vector<at::Tensor> values) : FusedOptimizer(config, arena, std::move(values), {"sum"}) {}

 private:
  /// Squares add up, n of 1/n to one; what is missing in length is in the learning rate.
  void apply(RangeViews& views, StepArguments& a) override {
    const double part = std::sqrt(a.fraction);
    if (a.scale * part != 1) views.gradients.mul_(a.scale * part);
    at::_fused_adagrad_(views.values, views.gradients, views.slots[0], views.step, a.lr * part, config_.lr_decay * a.fraction, a.weight_decay * part,
                        config_.eps, /*maximize=*/false, a.inverse_scale, a.left_out);
  }
};

}  // namespace

std::unique_ptr<Optimizer> make_optimizer(const OptimConfig& config, Arena& arena, std::vector<at::Tensor> values) {
  if (config.name == "sgd") return std::make_unique<Sgd>(config, arena, std::move(values));
  if (config.name == "adam") return std::make_unique<Adam>(config, arena, std::move(values), false);
  if (config.name == "adamw") return std::make_unique<Adam>(config, arena, std::move(values), true);
  if (config.name == "adagrad") return std::make_unique<Adagrad>(config, arena, std::move(values));
  throw ConfigError(c10::str("optim.name: unknown optimizer '", config.name, "'; choose sgd, adam, adamw or adagrad"));
}

}  // namespace tugline
