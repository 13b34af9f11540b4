// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/state/arena.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>

#include <ATen/ATen.h>

#include "tugline/core/error.hpp"

namespace tugline {
namespace {

constexpr std::int64_t kAlignmentBytes = 64;   // a cache line: neighbours owned by different ranks never share one

std::shared_ptr<void> host_memory(std::size_t bytes, const std::string&) {
  const std::size_t rounded = (bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
  void* memory = std::aligned_alloc(kAlignmentBytes, std::max<std::size_t>(rounded, kAlignmentBytes));
  if (memory == nullptr) throw std::bad_alloc();
  std::memset(memory, 0, std::max<std::size_t>(rounded, kAlignmentBytes));
  return {memory, std::free};
}

at::Tensor flat_tensor(const ArenaAllocator& allocate, std::int64_t count, at::ScalarType type, const std::string& what) {
  std::shared_ptr<void> memory = allocate(static_cast<std::size_t>(count) * c10::elementSize(type), what);
  void* data = memory.get();
  return at::from_blob(data, {count}, [memory = std::move(memory)](void*) {}, at::TensorOptions(type));
}

/// A tensor over `flat` from element `begin`, with the shape and strides of `like`. Not an autograd view: optimizers detach
/// gradients in place, which a view refuses.
at::Tensor view_at(const at::Tensor& flat, std::int64_t begin, const at::Tensor& like) {
  void* data = static_cast<char*>(flat.data_ptr()) + begin * flat.element_size();
  return at::from_blob(data, like.sizes(), like.strides(), [flat](void*) {}, flat.options());
}

std::int64_t padded(std::int64_t count, std::int64_t element_bytes) {
  const std::int64_t unit = kAlignmentBytes / element_bytes;
  return (count + unit - 1) / unit * unit;
}

}  // namespace

struct Arena::Impl {
  ArenaOptions options;
  std::vector<Slot> slots;
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
  bool values_bound(const Slot& slot) const;
  bool gradient_bound(const Slot& slot) const;
};

Arena::Arena(const std::vector<NamedTensor>& parameters, ArenaOptions options) : impl_(std::make_unique<Impl>()) {
  Impl& self = *impl_;
  self.options = std::move(options);
  if (!self.options.allocator) self.options.allocator = host_memory;
  std::vector<const c10::TensorImpl*> seen;
  for (const bool trainable : {true, false}) {
    for (const auto& [name, tensor] : parameters) {
      if (tensor.requires_grad() != trainable) continue;
      if (std::find(seen.begin(), seen.end(), tensor.unsafeGetTensorImpl()) != seen.end()) continue;
      seen.push_back(tensor.unsafeGetTensorImpl());
      if (!tensor.device().is_cpu() || tensor.layout() != at::kStrided) {
        throw Error("'" + name + "' is not a dense tensor in host memory: it cannot lie in the arena");
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
    std::int64_t bytes = 0, limit_bytes = 0;
  };
  std::map<int, Open> open_of_flat;
  for (std::size_t i = slots.size(); i-- > 0;) {
    Slot& slot = slots[i];
    if (!slot.parameter.requires_grad()) continue;
    Open& open = open_of_flat[flat_of_slot[i]];
    const std::int64_t bytes = padded(slot.parameter.numel(), slot.parameter.element_size()) * slot.parameter.element_size();
    if (open.bucket < 0 || open.bytes + bytes > open.limit_bytes) {
      open = {static_cast<int>(buckets.size()), 0, open.bucket < 0 ? options.first_bucket_bytes : options.bucket_bytes};
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
    std::stable_sort(bucket.slots.begin(), bucket.slots.end(),
                     [&](int a, int c) { return slots[static_cast<std::size_t>(a)].group < slots[static_cast<std::size_t>(c)].group; });
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
    Flat flat{flat_tensor(options.allocator, sizes[f], types[f], "parameters"), {}};
    if (gradient_sizes[f] > 0) flat.gradients = flat_tensor(options.allocator, gradient_sizes[f], types[f], "gradients");
    flats.push_back(std::move(flat));
  }
  for (Slot& slot : slots) {
    at::Tensor old = slot.parameter.detach();
    if (!old.is_non_overlapping_and_dense()) old = old.contiguous();
    at::Tensor view = view_at(flats[static_cast<std::size_t>(slot.range.buffer)].values, slot.range.begin, old);
    view.copy_(old);
    slot.parameter.set_data(view);
    if (slot.bucket >= 0) {
      slot.parameter.mutable_grad() =
          view_at(flats[static_cast<std::size_t>(slot.range.buffer)].gradients, slot.range.begin, view);
    }
  }
}

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
    result.push_back(flat_tensor(impl_->options.allocator, flat.values.numel(), flat.values.scalar_type(), what));
  }
  return result;
}

at::Tensor Arena::view(const std::vector<at::Tensor>& buffers, const Slot& slot) const {
  return view_at(buffers[static_cast<std::size_t>(slot.range.buffer)], slot.range.begin, slot.parameter);
}

void Arena::zero_gradients() {
  for (const Flat& flat : impl_->flats) {
    if (flat.gradients.defined()) std::memset(flat.gradients.data_ptr(), 0, flat.gradients.nbytes());
  }
}

bool Arena::Impl::values_bound(const Slot& slot) const {
  const at::Tensor& flat = flats[static_cast<std::size_t>(slot.range.buffer)].values;
  return slot.parameter.scalar_type() == flat.scalar_type() &&
         slot.parameter.data_ptr() == static_cast<char*>(flat.data_ptr()) + slot.range.begin * flat.element_size();
}

bool Arena::Impl::gradient_bound(const Slot& slot) const {
  const at::Tensor& flat = flats[static_cast<std::size_t>(slot.range.buffer)].gradients;
  const at::Tensor& gradient = slot.parameter.grad();
  return gradient.defined() && gradient.data_ptr() == static_cast<char*>(flat.data_ptr()) + slot.range.begin * flat.element_size();
}

int Arena::rebind() {
  Impl& self = *impl_;
  int restored = 0;
  const at::NoGradGuard no_grad;
  for (Slot& slot : self.slots) {
    if (!self.values_bound(slot)) {
      const at::Tensor old = slot.parameter.detach();
      at::Tensor view = view_at(self.flats[static_cast<std::size_t>(slot.range.buffer)].values, slot.range.begin,
                                old.is_non_overlapping_and_dense() ? old : old.contiguous());
      view.copy_(old);
      slot.parameter.set_data(view);
      ++restored;
    }
  }
  for (std::size_t i = 0; i < self.slots.size(); ++i) restored += rebind_gradient(i) ? 1 : 0;
  return restored;
}

bool Arena::rebind_gradient(std::size_t index) {
  Impl& self = *impl_;
  Slot& slot = self.slots[index];
  if (slot.bucket < 0 || self.gradient_bound(slot)) return false;
  const at::NoGradGuard no_grad;
  const at::Tensor old = slot.parameter.grad();
  at::Tensor view = view_at(self.flats[static_cast<std::size_t>(slot.range.buffer)].gradients, slot.range.begin, slot.parameter);
  if (old.defined()) {
    view.copy_(old);
  } else {
    view.zero_();
  }
  slot.parameter.mutable_grad() = view;
  return true;
}

}  // namespace tugline
