// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/state/arena.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tugline/core/error.hpp"

namespace tugline {
namespace {

constexpr std::int64_t kAlignmentBytes = 64;   // a cache line: neighbours owned by different ranks never share one
// Buckets by default: enough of them that most have left before backward ends, large enough that what each costs does not show.
constexpr std::int64_t kBuckets = 16, kSmallestBucketBytes = 256 << 10, kLargestBucketBytes = 4 << 20;

at::Tensor flat_tensor(const ArenaOptions& options, std::int64_t count, at::ScalarType type, const std::string& what) {
  if (!options.device.is_cpu()) return at::zeros({count}, at::TensorOptions(type).device(options.device));   // LibTorch aligns to more
  std::shared_ptr<void> memory = options.allocator(static_cast<std::size_t>(count) * c10::elementSize(type), what);
  void* data = memory.get();
  return at::from_blob(data, {count}, [memory = std::move(memory)](void*) {}, at::TensorOptions(type));
}

/// A tensor over `flat` from element `begin`, with the shape and strides of `like`. Not an autograd view: optimizers detach
/// gradients in place, which a view refuses.
at::Tensor view_at(const at::Tensor& flat, std::int64_t begin, const at::Tensor& like) {
  void* data = static_cast<char*>(flat.data_ptr()) + begin * flat.element_size();
  return at::from_blob(data, like.sizes(), like.strides(), [flat](void*) {}, flat.options(), flat.device());
}

std::int64_t padded(std::int64_t count, std::int64_t element_bytes) {
  const std::int64_t unit = kAlignmentBytes / element_bytes;
  return (count + unit - 1) / unit * unit;
}

}  // namespace

std::shared_ptr<void> host_memory(std::size_t bytes) {
  const std::size_t rounded = std::max<std::size_t>((bytes + kAlignmentBytes - 1) / kAlignmentBytes, 1) * kAlignmentBytes;
  void* memory = std::aligned_alloc(kAlignmentBytes, rounded);
  if (memory == nullptr) throw std::bad_alloc();
  std::memset(memory, 0, rounded);
  return {memory, std::free};
}

struct Arena::Impl {
  ArenaOptions options;
  std::vector<Slot> slots;
  std::vector<at::Tensor> shapes;   // per slot: a view with the shape and strides that its place was made for
  std::vector<Flat> flats;
  std::vector<Bucket> buckets;
  std::vector<Segment> segments;

  int flat_index(at::ScalarType type, std::vector<at::ScalarType>& types) const {
    const auto found = std::find(types.begin(), types.end(), type);
    if (found != types.end()) return static_cast<int>(found - types.begin());
    types.push_back(type);
    return static_cast<int>(types.size() - 1);
  }
  void plan_buckets(const std::vector<int>& flat_of_slot);
  void place(const std::vector<int>& flat_of_slot, std::size_t num_flats, std::vector<std::int64_t>& sizes,
             std::vector<std::int64_t>& gradient_sizes);
  void bind(const std::vector<at::ScalarType>& types, const std::vector<std::int64_t>& sizes,
            const std::vector<std::int64_t>& gradient_sizes);
  at::Tensor value_view(std::size_t index) const;
  at::Tensor gradient_view(std::size_t index) const;
  bool values_bound(std::size_t index) const;
  bool gradient_bound(std::size_t index) const;
  bool rebind_values(std::size_t index);
};

Arena::Arena(const std::vector<NamedTensor>& parameters, ArenaOptions options) : impl_(std::make_unique<Impl>()) {
  Impl& self = *impl_;
  self.options = std::move(options);
  if (!self.options.allocator) self.options.allocator = [](std::size_t bytes, const std::string&) { return host_memory(bytes); };
  std::vector<const c10::TensorImpl*> seen;
  for (const bool trainable : {true, false}) {
    for (const auto& [name, tensor] : parameters) {
      if (tensor.requires_grad() != trainable) continue;
      if (std::find(seen.begin(), seen.end(), tensor.unsafeGetTensorImpl()) != seen.end()) continue;
      seen.push_back(tensor.unsafeGetTensorImpl());
      if (tensor.device() != self.options.device || tensor.layout() != at::kStrided) {
        throw Error(fmt::format("'{}' is not a dense tensor on {}: it cannot lie in the arena", name, self.options.device.str()));
      }
      Slot slot{name, tensor, {}, -1, 0};
      if (trainable && self.options.group_of) slot.group = self.options.group_of(name);
      self.slots.push_back(std::move(slot));
    }
  }
  std::vector<at::ScalarType> types;
  std::vector<int> flat_of_slot;
  for (const Slot& slot : self.slots) flat_of_slot.push_back(self.flat_index(slot.parameter.scalar_type(), types));
  self.plan_buckets(flat_of_slot);
  std::vector<std::int64_t> sizes, gradient_sizes;
  self.place(flat_of_slot, types.size(), sizes, gradient_sizes);
  self.bind(types, sizes, gradient_sizes);
}

Arena::~Arena() = default;
Arena::Arena(Arena&&) noexcept = default;
Arena& Arena::operator=(Arena&&) noexcept = default;

/// Backward reaches parameters roughly in reverse order of registration, so buckets are filled that way.
void Arena::Impl::plan_buckets(const std::vector<int>& flat_of_slot) {
  struct Open {
    int bucket = -1;
    std::int64_t bytes = 0;
  };
  const auto bytes_of = [](const Slot& slot) {
    return padded(slot.parameter.numel(), slot.parameter.element_size()) * slot.parameter.element_size();
  };
  std::int64_t limit_bytes = options.bucket_bytes;
  if (limit_bytes <= 0) {
    std::int64_t all_bytes = 0;
    for (const Slot& slot : slots) all_bytes += slot.parameter.requires_grad() ? bytes_of(slot) : 0;
    limit_bytes = std::clamp(all_bytes / kBuckets, kSmallestBucketBytes, kLargestBucketBytes);
  }
  std::map<int, Open> open_of_flat;
  for (std::size_t i = slots.size(); i-- > 0;) {
    Slot& slot = slots[i];
    if (!slot.parameter.requires_grad()) continue;
    Open& open = open_of_flat[flat_of_slot[i]];
    const std::int64_t bytes = bytes_of(slot);
    if (open.bucket < 0 || open.bytes + bytes > limit_bytes) {
      open = {static_cast<int>(buckets.size()), 0};
      buckets.push_back({{flat_of_slot[i], 0, 0}, {}});
    }
    open.bytes += bytes;
    slot.bucket = open.bucket;
    buckets[static_cast<std::size_t>(slot.bucket)].slots.push_back(static_cast<int>(i));
  }
}

/// Within a bucket, slots of one group lie together.
void Arena::Impl::place(const std::vector<int>& flat_of_slot, std::size_t num_flats, std::vector<std::int64_t>& sizes,
                        std::vector<std::int64_t>& gradient_sizes) {
  sizes.assign(num_flats, 0);
  for (std::size_t b = 0; b < buckets.size(); ++b) {
    Bucket& bucket = buckets[b];
    const auto group_of = [&](int index) { return slots[static_cast<std::size_t>(index)].group; };
    std::stable_sort(bucket.slots.begin(), bucket.slots.end(), [&](int a, int c) { return group_of(a) < group_of(c); });
    std::int64_t& end = sizes[static_cast<std::size_t>(bucket.range.buffer)];
    bucket.range.begin = end;
    for (const int index : bucket.slots) {
      Slot& slot = slots[static_cast<std::size_t>(index)];
      slot.range = {bucket.range.buffer, end, end + slot.parameter.numel()};
      const std::int64_t begin = end;
      end += padded(slot.parameter.numel(), slot.parameter.element_size());
      if (segments.empty() || segments.back().bucket != static_cast<int>(b) || segments.back().group != slot.group) {
        segments.push_back({{bucket.range.buffer, begin, end}, slot.group, static_cast<int>(b)});
      }
      segments.back().range.end = end;
    }
    bucket.range.end = end;
  }
  gradient_sizes = sizes;   // frozen slots come after all that have gradients
  for (std::size_t i = 0; i < slots.size(); ++i) {
    Slot& slot = slots[i];
    if (slot.bucket >= 0) continue;
    std::int64_t& end = sizes[static_cast<std::size_t>(flat_of_slot[i])];
    slot.range = {flat_of_slot[i], end, end + slot.parameter.numel()};
    end += padded(slot.parameter.numel(), slot.parameter.element_size());
  }
}

void Arena::Impl::bind(const std::vector<at::ScalarType>& types, const std::vector<std::int64_t>& sizes,
                       const std::vector<std::int64_t>& gradient_sizes) {
  const at::NoGradGuard no_grad;
  for (std::size_t f = 0; f < types.size(); ++f) {
    Flat flat{flat_tensor(options, sizes[f], types[f], "parameters"), {}};
    if (gradient_sizes[f] > 0) flat.gradients = flat_tensor(options, gradient_sizes[f], types[f], "gradients");
    flats.push_back(std::move(flat));
  }
  for (std::size_t i = 0; i < slots.size(); ++i) {
    at::Tensor old = slots[i].parameter.detach();
    if (!old.is_non_overlapping_and_dense()) old = old.contiguous();
    shapes.push_back(view_at(flats[static_cast<std::size_t>(slots[i].range.buffer)].values, slots[i].range.begin, old));
    if (!options.values_are_there) shapes[i].copy_(old);
    slots[i].parameter.set_data(value_view(i));
    if (slots[i].bucket >= 0) slots[i].parameter.mutable_grad() = gradient_view(i);
  }
}

at::Device Arena::device() const { return impl_->options.device; }
const std::vector<Arena::Slot>& Arena::slots() const { return impl_->slots; }
const std::vector<Arena::Flat>& Arena::flats() const { return impl_->flats; }
const std::vector<Arena::Bucket>& Arena::buckets() const { return impl_->buckets; }
const std::vector<Arena::Segment>& Arena::segments() const { return impl_->segments; }

at::Tensor Arena::values(const Range& range) const {
  return impl_->flats[static_cast<std::size_t>(range.buffer)].values.narrow(0, range.begin, range.size());
}
at::Tensor Arena::gradients(const Range& range) const {
  return impl_->flats[static_cast<std::size_t>(range.buffer)].gradients.narrow(0, range.begin, range.size());
}

std::vector<at::Tensor> Arena::like(const std::string& what) const {
  std::vector<at::Tensor> result;
  for (const Flat& flat : impl_->flats) {
    result.push_back(flat_tensor(impl_->options, flat.values.numel(), flat.values.scalar_type(), what));
  }
  return result;
}

at::Tensor Arena::view(const std::vector<at::Tensor>& buffers, const Slot& slot) const {
  return view_at(buffers[static_cast<std::size_t>(slot.range.buffer)], slot.range.begin, slot.parameter);
}

void Arena::zero_gradients() {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < impl_->slots.size(); ++i) rebind_gradient(i);
  for (const Flat& flat : impl_->flats) {
    if (flat.gradients.defined()) at::Tensor(flat.gradients).zero_();
  }
}

at::Tensor Arena::Impl::value_view(std::size_t index) const {
  const Range& range = slots[index].range;
  return view_at(flats[static_cast<std::size_t>(range.buffer)].values, range.begin, shapes[index]);
}

at::Tensor Arena::Impl::gradient_view(std::size_t index) const {
  const Range& range = slots[index].range;
  return view_at(flats[static_cast<std::size_t>(range.buffer)].gradients, range.begin, shapes[index]);
}

bool Arena::Impl::values_bound(std::size_t index) const {
  const at::Tensor& now = slots[index].parameter;
  const at::Tensor& shape = shapes[index];
  return now.scalar_type() == shape.scalar_type() && now.sizes() == shape.sizes() &&
         (now.numel() == 0 || (now.data_ptr() == shape.data_ptr() && now.strides() == shape.strides()));
}

bool Arena::Impl::gradient_bound(std::size_t index) const {
  const Range& range = slots[index].range;
  const at::Tensor& flat = flats[static_cast<std::size_t>(range.buffer)].gradients;
  const at::Tensor& now = slots[index].parameter.grad();
  if (!now.defined() || now.layout() != at::kStrided) return false;
  return now.numel() == 0 || (now.strides() == shapes[index].strides() &&
                              now.data_ptr() == static_cast<char*>(flat.data_ptr()) + range.begin * flat.element_size());
}

/// Always into the shape and strides of the start: gradients and optimizer slots have them too.
bool Arena::Impl::rebind_values(std::size_t index) {
  if (values_bound(index)) return false;
  const Slot& slot = slots[index];
  const at::Tensor old = slot.parameter.detach();
  const at::Tensor view = value_view(index);
  if (old.sizes() != view.sizes()) {
    throw Error(fmt::format("'{}' was [{}] when it was given to the arena and is [{}] now", slot.name,
                            fmt::join(view.sizes(), ", "), fmt::join(old.sizes(), ", ")));
  }
  view.copy_(old);
  at::Tensor(slot.parameter).set_data(view);
  return true;
}

int Arena::rebind_values() {
  int restored = 0;
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < impl_->slots.size(); ++i) restored += impl_->rebind_values(i) ? 1 : 0;
  return restored;
}

int Arena::rebind() {
  int restored = rebind_values();
  for (std::size_t i = 0; i < impl_->slots.size(); ++i) restored += rebind_gradient(i) ? 1 : 0;
  return restored;
}

bool Arena::rebind_gradient(std::size_t index, bool keep) {
  Slot& slot = impl_->slots[index];
  if (slot.bucket < 0 || impl_->gradient_bound(index)) return false;
  const at::NoGradGuard no_grad;
  const at::Tensor old = slot.parameter.grad();
  const at::Tensor view = impl_->gradient_view(index);
  if (keep && old.defined()) view.copy_(old.layout() == at::kStrided ? old.detach() : old.detach().to_dense());
  if (keep && !old.defined()) view.zero_();
  slot.parameter.mutable_grad() = view;
  return true;
}

}  // namespace tugline
