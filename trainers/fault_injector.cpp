// SPDX-License-Identifier: Apache-2.0
#include "tugline/trainers/fault_injector.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <csignal>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string_view>
#include <thread>
#include <utility>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "tugline/core/error.hpp"
#include "tugline/core/log.hpp"
#include "tugline/core/random.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/parallel/watchdog/heartbeat.hpp"

namespace tugline {
namespace {

struct Name {
  std::string_view text;
  Fault::Kind kind;
};
constexpr std::array kNames{Name{"kill", Fault::Kind::kill}, Name{"freeze", Fault::Kind::freeze}, Name{"hang", Fault::Kind::hang},
                            Name{"slow", Fault::Kind::slow}, Name{"nan", Fault::Kind::nan},       Name{"flip", Fault::Kind::flip},
                            Name{"io", Fault::Kind::io},     Name{"loader", Fault::Kind::loader}, Name{"flip_gradient", Fault::Kind::flip_gradient}};

template <typename Number>
bool read(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number >= 0;
}

bool assign(Fault& fault, std::string_view key, std::string_view value) {
  if (key == "rank") return read(value, fault.rank);
  if (key == "step") {
    const auto dash = value.find('-');
    if (dash == value.npos) return read(value, fault.step) && fault.step > 0;
    return read(value.substr(0, dash), fault.step) && read(value.substr(dash + 1), fault.last_step) && fault.step > 0 && fault.last_step >= fault.step;
  }
  if (key == "times") return read(value, fault.times);
  if (key == "bit") return fault.kind == Fault::Kind::flip_gradient && read(value, fault.bit) && fault.bit < 64;
  if (key == "seconds") return fault.kind == Fault::Kind::slow && read(value, fault.seconds);
  return false;
}

/// One bit of one element; LibTorch has no bits of numbers, so they are looked at as integers of the same size.
at::Tensor with_flipped_bit(const at::Tensor& gradient, std::int64_t element, int bit) {
  const at::Tensor flipped = gradient.clone(at::MemoryFormat::Contiguous).view(-1);
  const auto bits = 8 * flipped.element_size();
  const at::ScalarType integer = bits == 64 ? at::kLong : bits == 32 ? at::kInt : at::kShort;
  const auto shift = static_cast<unsigned>(64 - bits);   // the highest bit is the sign of the integer
  const auto mask = static_cast<std::int64_t>(std::uint64_t{1} << (static_cast<unsigned>(bit) + shift)) >> shift;
  flipped.view(integer)[element].bitwise_xor_(mask);
  return flipped.view(gradient.sizes());
}

}  // namespace

Fault parse_fault(const std::string& text) {
  Fault fault;
  fault.text = text;
  const std::string_view all = text;
  const auto colon = all.find(':');
  const auto name = std::find_if(kNames.begin(), kNames.end(), [&](const Name& known) { return known.text == all.substr(0, colon); });
  if (name == kNames.end()) {
    throw UsageError(fmt::format("--inject {}: there are kill, freeze, hang, loader, slow, nan, flip, flip_gradient and io", text));
  }
  fault.kind = name->kind;
  std::istringstream rest(colon == all.npos ? "" : text.substr(colon + 1));
  for (std::string word; std::getline(rest, word, ',');) {
    const auto equals = word.find('=');
    const bool good = equals != word.npos && assign(fault, std::string_view(word).substr(0, equals), std::string_view(word).substr(equals + 1));
    if (!good) {
      throw UsageError(fmt::format("--inject {}: '{}' is not rank=R, step=S or S-T (from 1), times=N, for slow seconds=T or for flip_gradient bit=B", text, word));
    }
  }
  return fault;
}

namespace {

/// From `element` on, around the end; `element` where all are zero.
std::int64_t first_nonzero(const at::Tensor& gradient, std::int64_t element) {
  const at::Tensor found = gradient.detach().cpu().reshape(-1).roll(-element).nonzero();
  return found.numel() == 0 ? element : (element + found[0].item<std::int64_t>()) % gradient.numel();
}

}  // namespace

struct FaultInjector::Impl {
  struct Armed {
    Fault fault;
    std::int64_t left = 0;
    bool told = false;   // a person, once
  };
  std::vector<Armed> faults;
  int rank = 0;
  std::filesystem::path memory;
  std::optional<at::Tensor> poisoned;   // has a hook
  unsigned hook = 0;

  /// Whether one of `kind` is to happen now; it is written down before it does.
  std::optional<Fault> take(Fault::Kind kind, std::int64_t step) {
    for (Armed& armed : faults) {
      const Fault& fault = armed.fault;
      const bool now = step >= fault.step && (kind == Fault::Kind::io || step <= std::max(fault.step, fault.last_step));
      if (fault.kind != kind || fault.rank != rank || !now || armed.left == 0) continue;
      --armed.left;
      std::ofstream(memory, std::ios::app) << fault.text << std::endl;
      if (!armed.told) log::error("injected fault: {} at step {}", fault.text, step);
      armed.told = true;
      return fault;
    }
    return std::nullopt;
  }

  void poison(const Arena& parameters) {
    const at::Tensor parameter = parameters.slots().front().parameter;
    hook = parameter.register_hook([](const at::Tensor& gradient) { return gradient * std::numeric_limits<double>::quiet_NaN(); });
    poisoned = parameter;
  }
  /// In the first of the step's backward passes; of an element that is not zero, as those of inputs are that never vary.
  void flip_gradient(const Fault& fault, std::int64_t step, const Arena& parameters) {
    Random random(0, Purpose::fault, static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(rank));
    const auto trained = [](const Arena::Slot& slot) { return slot.bucket >= 0 ? slot.range.size() : 0; };
    std::int64_t all = 0;
    for (const auto& slot : parameters.slots()) all += trained(slot);
    auto element = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(all)));
    auto slot = parameters.slots().begin();
    for (; element >= trained(*slot); ++slot) element -= trained(*slot);
    const at::Tensor parameter = slot->parameter;
    const int bits = 8 * static_cast<int>(parameter.element_size());
    if (fault.bit >= bits) throw UsageError(fmt::format("--inject {}: the gradient of '{}' has {} bits", fault.text, slot->name, bits));
    const int bit = fault.bit >= 0 ? fault.bit : static_cast<int>(random.below(static_cast<std::uint64_t>(bits)));
    hook = parameter.register_hook([=, name = slot->name, done = std::make_shared<bool>(false)](const at::Tensor& gradient) {
      if (std::exchange(*done, true)) return gradient;
      const std::int64_t chosen = first_nonzero(gradient, element);
      const at::Tensor flipped = with_flipped_bit(gradient, chosen, bit);
      const auto value = [chosen](const at::Tensor& tensor) { return tensor.reshape(-1)[chosen].item<double>(); };
      log::error("step {}: bit {} of element {} of the gradient of '{}' flips: {} becomes {}", step, bit, chosen, name, value(gradient), value(flipped));
      return flipped;
    });
    poisoned = parameter;
  }
  void heal() {
    if (poisoned) poisoned->remove_hook(hook);
    poisoned.reset();
  }
};

FaultInjector::FaultInjector(const std::vector<Fault>& faults, int rank, const std::filesystem::path& folder) : impl_(std::make_unique<Impl>()) {
  impl_->rank = rank;
  impl_->memory = folder / "faults.log";
  for (const Fault& fault : faults) {
    const std::int64_t steps = std::max(fault.step, fault.last_step) - fault.step + 1;
    impl_->faults.push_back({fault, fault.times == 0 ? std::numeric_limits<std::int64_t>::max() : fault.times * steps});
  }
  std::ifstream in(impl_->memory);
  for (std::string line; std::getline(in, line);) {
    for (Impl::Armed& armed : impl_->faults) {
      if (armed.fault.text == line && armed.fault.times > 0 && armed.left > 0) --armed.left;
    }
  }
}
FaultInjector::~FaultInjector() { impl_->heal(); }

void FaultInjector::before_step(std::int64_t step, Arena& parameters, Heartbeat& heartbeat) {
  if (impl_->take(Fault::Kind::kill, step)) std::raise(SIGKILL);
  if (impl_->take(Fault::Kind::freeze, step)) std::raise(SIGSTOP);
  if (const auto slow = impl_->take(Fault::Kind::slow, step)) std::this_thread::sleep_for(std::chrono::duration<double>(slow->seconds));
  const bool stuck = impl_->take(Fault::Kind::loader, step).has_value();
  if (stuck) heartbeat.enter(Phase::data);
  if (stuck || impl_->take(Fault::Kind::hang, step)) {
    for (;;) std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  if (impl_->take(Fault::Kind::nan, step)) impl_->poison(parameters);
  if (const auto flip = impl_->take(Fault::Kind::flip_gradient, step)) impl_->flip_gradient(*flip, step, parameters);
}

void FaultInjector::after_step(std::int64_t step, Arena& parameters) {
  impl_->heal();
  if (impl_->take(Fault::Kind::flip, step)) {
    at::Tensor parameter = parameters.slots().front().parameter.detach();
    const at::Tensor host = parameter.cpu();
    static_cast<unsigned char*>(host.data_ptr())[2] ^= 0x10;   // of a float32: in its fraction, so that it stays a number
    if (!host.is_same(parameter)) parameter.copy_(host);
  }
}

void FaultInjector::before_save(std::int64_t step) {
  if (impl_->take(Fault::Kind::io, step)) throw IoError("input/output error (injected)");
}

}  // namespace tugline
