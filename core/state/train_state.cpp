// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/state/train_state.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <set>
#include <stdexcept>

#include <ATen/ATen.h>
#include <ATen/Version.h>
#include <boost/describe.hpp>
#include <boost/json.hpp>
#include <boost/mp11.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/version.h>

#include "tugline/core/error.hpp"
#include "tugline/core/io/hdf5_array.hpp"

namespace tugline {

BOOST_DESCRIBE_STRUCT(Progress, (), (seed, step, epoch, position, world_size, has_best, best_value, best_metric,
                                     has_watched, watched_value, evaluations_without_improvement, validated_step, seconds, epoch_loss_sum,
                                     epoch_weight, epoch_correct, epoch_counted))
BOOST_DESCRIBE_STRUCT(Normalisation, (), (mean, stddev))

namespace {

namespace json = boost::json;
using boost::describe::describe_members;
using boost::describe::mod_public;
using boost::mp11::mp_for_each;

DType stored_dtype(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat: return DType::float32;
    case at::kDouble: return DType::float64;
    case at::kBFloat16: return DType::bfloat16;
    case at::kHalf: return DType::float16;
    case at::kLong: return DType::int64;
    case at::kInt: return DType::int32;
    case at::kByte: return DType::uint8;
    case at::kBool: return DType::boolean;
    default: throw CheckpointError(fmt::format("tensors of type {} cannot be saved", c10::toString(tensor.scalar_type())));
  }
}

/// Every tensor a checkpoint of this state holds: its path, and a view with its own shape.
using Visit = std::function<void(const std::string& path, const at::Tensor& view)>;

void visit_model(const Arena& parameters, const Arena& buffers, const Visit& visit) {
  for (const auto& slot : parameters.slots()) visit("/parameters/" + slot.name, slot.parameter.detach());
  for (const auto& slot : buffers.slots()) visit("/buffers/" + slot.name, slot.parameter.detach());
}

void visit_slots(const TrainState& state, const Visit& visit) {
  for (const auto& buffer : state.slots) {
    for (const auto& slot : state.parameters.slots()) {
      if (slot.bucket >= 0) visit("/optimizer/" + buffer.name + "/" + slot.name, state.parameters.view(buffer.buffers, slot));
    }
  }
}

std::vector<at::Tensor> values_of(const Arena& arena) {
  std::vector<at::Tensor> values;
  for (const auto& flat : arena.flats()) values.push_back(flat.values);
  return values;
}

const std::string& text_of(const Checkpoint& checkpoint, const std::string& name) {
  const auto found = checkpoint.texts.find(name);
  if (found == checkpoint.texts.end()) throw CheckpointError("the checkpoint has no /meta/" + name);
  return found->second;
}

/// Boost.JSON 1.81 reads one double in ten a bit off, and NaN not at all: doubles are written as text, which fmt makes exact.
std::string encode(const Progress& progress) {
  json::object object;
  mp_for_each<describe_members<Progress, mod_public>>([&](auto member) {
    const auto& field = progress.*member.pointer;
    if constexpr (std::is_same_v<decltype(field), const double&>) {
      object[member.name] = fmt::format("{}", field);
    } else {
      object[member.name] = json::value_from(field);
    }
  });
  return json::serialize(object);
}

Progress decode_progress(const json::value& value) {
  Progress progress;
  mp_for_each<describe_members<Progress, mod_public>>([&](auto member) {
    auto& field = progress.*member.pointer;
    if (!value.as_object().contains(member.name) && std::string_view(member.name) == "validated_step") return;
    const json::value& stored = value.as_object().at(member.name);
    if constexpr (std::is_same_v<decltype(field), double&>) {
      const json::string& text = stored.as_string();
      const auto [end, error] = std::from_chars(text.begin(), text.end(), field);
      if (error != std::errc() || end != text.end()) throw std::invalid_argument(fmt::format("{} is no number", member.name));
    } else {
      field = json::value_to<std::decay_t<decltype(field)>>(stored);
    }
  });
  // Older checkpoints were always written after the evaluation of their step.
  if (!value.as_object().contains("validated_step")) progress.validated_step = progress.step;
  return progress;
}

/// What `read` makes of /meta/<name>.
template <typename Read>
auto decode(const Checkpoint& checkpoint, const std::string& name, Read read) {
  const std::string& text = text_of(checkpoint, name);
  try {
    return read(json::parse(text));
  } catch (const std::exception& error) {
    throw CheckpointError(fmt::format("/meta/{} of the checkpoint cannot be read: {}", name, error.what()));
  }
}

std::string residual_path(int rank, const Residual& residual) { return fmt::format("/residuals/{}/{}/{}", rank, residual.buffer, residual.begin); }
std::string residuals_of(int rank) { return fmt::format("/residuals/{}/", rank); }

at::Tensor tensor_of(const Residual& residual) {
  return at::from_blob(residual.values.data(), {static_cast<std::int64_t>(residual.values.size())}, at::kFloat);
}

std::int64_t bytes_of(const std::vector<at::Tensor>& flats) {
  return std::accumulate(flats.begin(), flats.end(), std::int64_t{0}, [](std::int64_t sum, const at::Tensor& flat) { return sum + static_cast<std::int64_t>(flat.nbytes()); });
}

/// Statistics may differ by rounding, on another machine; by more, the model would see other inputs than it was trained on.
void require_same_data(const std::vector<float>& then, const std::vector<float>& now, const char* what) {
  bool same = then.size() == now.size();
  for (std::size_t i = 0; same && i < then.size(); ++i) same = std::abs(then[i] - now[i]) <= 1e-4F * (1 + std::abs(then[i]));
  if (!same) {
    throw CheckpointError(fmt::format("the {} of the training data is not what it was when the checkpoint was written: the data "
                                      "has changed", what));
  }
}

std::string describe(DType dtype, const std::vector<std::int64_t>& shape) {
  return fmt::format("{} [{}]", name_of(dtype), fmt::join(shape, ", "));
}

/// Checks first, so that a checkpoint that does not fit changes nothing.
void check_fits(const Checkpoint& checkpoint, const std::string& path, const at::Tensor& view) {
  const auto found = checkpoint.arrays.find(path);
  if (found == checkpoint.arrays.end()) throw CheckpointError("the checkpoint has no " + path + ", which the model has");
  const std::string there = describe(found->second.dtype, found->second.shape);
  const std::string here = describe(stored_dtype(view), view.sizes().vec());
  if (there != here) throw CheckpointError(fmt::format("{} is {} in the checkpoint and {} in the model", path, there, here));
}

void check_no_extras(const Checkpoint& checkpoint, const std::set<std::string>& known, const std::string& prefix) {
  for (const auto& [path, array] : checkpoint.arrays) {
    if (path.starts_with(prefix) && !is_residual(path) && known.count(path) == 0) {
      throw CheckpointError("the checkpoint has " + path + ", which the model does not have");
    }
  }
}

void copy_in(const Checkpoint& checkpoint, const std::string& path, at::Tensor view) {
  const Array& array = checkpoint.arrays.at(path);
  view.copy_(at::from_blob(const_cast<std::byte*>(array.data.data()), array.shape, view.options().device(at::kCPU)));
}

}  // namespace

void Snapshot::take(const TrainState& state, const std::string& config_yaml, Slice slice) {
  const at::NoGradGuard no_grad;
  state.parameters.rebind_values();   // what was detached from the arena is copied in
  state.buffers.rebind_values();
  slice_ = slice;
  world_size_ = state.progress.world_size;
  entries_.clear();
  slice_of_.clear();
  used_ = 0;
  const std::vector<at::Tensor> values = values_of(state.parameters);
  std::int64_t all_bytes = bytes_of(values), bytes = 0;
  for (const auto& slot : state.slots) all_bytes += bytes_of(slot.buffers);
  const auto cut = [&](std::int64_t middle) { return std::min(slice.count, 1 + middle * slice.count / all_bytes); };   // of a byte
  copy_arena(state.parameters, values, "/parameters/", false, cut);
  bytes = bytes_of(values);
  for (const auto& slot : state.slots) {
    copy_arena(state.parameters, slot.buffers, "/optimizer/" + slot.name + "/", true, [&](std::int64_t middle) { return cut(bytes + middle); });
    bytes += bytes_of(slot.buffers);
  }
  copy_arena(state.buffers, values_of(state.buffers), "/buffers/", false, [](std::int64_t) { return 1; });
  for (const Residual& residual : state.residuals) {
    if (slice.count == 1) break;   // nobody's file
    const at::Tensor mine = tensor_of(residual);
    entries_.push_back({residual_path(state.rank, residual), copy(mine, 0, mine.numel())});
  }
  texts_["config"] = config_yaml;
  texts_["progress"] = encode(state.progress);
  texts_["normalisation"] = json::serialize(json::value_from(state.normalisation));
  for (const auto& [name, text] : {std::pair("shares", &state.shares), std::pair("loss_scale", &state.loss_scale), std::pair("gradient_norms", &state.gradient_norms)}) {
    if (text->empty()) texts_.erase(name);
    else texts_[name] = *text;
  }
  texts_["versions"] = json::serialize(json::object{{"format", 1}, {"libtorch", TORCH_VERSION}, {"hdf5", hdf5_version()}});
}

/// `slice_at`: who has the byte with this offset in the flat buffers. An array goes where its middle is; so what a slice has of a flat buffer
/// lies together.
void Snapshot::copy_arena(const Arena& arena, const std::vector<at::Tensor>& flats, const std::string& prefix, bool trainable_only,
                          const std::function<std::int64_t(std::int64_t)>& slice_at) {
  std::vector<std::int64_t> offsets{0};
  for (const at::Tensor& flat : flats) offsets.push_back(offsets.back() + static_cast<std::int64_t>(flat.nbytes()));
  std::vector<Range> mine(flats.size(), {0, std::numeric_limits<std::int64_t>::max(), 0});
  std::vector<const Arena::Slot*> chosen;
  for (const auto& slot : arena.slots()) {
    if (trainable_only && slot.bucket < 0) continue;
    const auto buffer = static_cast<std::size_t>(slot.range.buffer);
    const std::int64_t middle = offsets[buffer] + (slot.range.begin + slot.range.size() / 2) * static_cast<std::int64_t>(flats[buffer].element_size());
    const std::int64_t number = slice_.count == 1 ? 1 : slice_at(middle);
    if (slice_.count > 1) slice_of_[prefix + slot.name] = number;
    if (number != slice_.number) continue;
    mine[buffer].begin = std::min(mine[buffer].begin, slot.range.begin);
    mine[buffer].end = std::max(mine[buffer].end, slot.range.end);
    chosen.push_back(&slot);
  }
  std::vector<at::Tensor> copies;
  for (std::size_t i = 0; i < flats.size(); ++i) copies.push_back(copy(flats[i], mine[i].begin, mine[i].end));
  for (const Arena::Slot* slot : chosen) entries_.push_back({prefix + slot->name, arena.view(copies, *slot)});
}

/// A buffer like `flat`, of which the elements [begin, end) are filled.
at::Tensor Snapshot::copy(const at::Tensor& flat, std::int64_t begin, std::int64_t end) {
  if (copies_.size() <= used_) copies_.resize(used_ + 1);
  at::Tensor& place = copies_[used_++];
  if (!place.defined() || place.scalar_type() != flat.scalar_type() || place.numel() != flat.numel()) {
    place = at::empty(flat.sizes(), flat.options().device(at::kCPU));
  }
  if (end <= begin) return place;
  at::Tensor to = place.narrow(0, begin, end - begin);
  const at::Tensor from = flat.narrow(0, begin, end - begin);
  if (!flat.device().is_cpu()) to.copy_(from);
  else std::memcpy(to.data_ptr(), from.const_data_ptr(), from.nbytes());
  return place;
}

CheckpointContent Snapshot::content() {
  const at::NoGradGuard no_grad;
  CheckpointContent content;
  Manifest manifest{.world_size = world_size_};
  if (slice_.count == 1) {
    content.texts = texts_;
  } else {
    manifest.slice = slice_.number;
    manifest.slices = slice_.count;
    content.texts["versions"] = texts_.at("versions");
  }
  content.texts["manifest"] = encode(manifest);
  reordered_.clear();
  for (const Entry& entry : entries_) {
    at::Tensor dense = entry.view;
    if (!dense.is_contiguous()) dense = reordered_.emplace_back(dense.contiguous());
    content.arrays.push_back({entry.path, stored_dtype(dense), dense.sizes().vec(), dense.const_data_ptr()});
  }
  return content;
}

CheckpointContent Snapshot::cover(const std::vector<Manifest::File>& slices) const {
  CheckpointContent content;
  content.texts = texts_;
  content.texts["manifest"] = encode(Manifest{.slices = slice_.count, .world_size = world_size_, .files = slices});
  for (const auto& [path, number] : slice_of_) content.links[path] = slices[static_cast<std::size_t>(number - 1)].name;
  return content;
}

void restore(const Checkpoint& checkpoint, TrainState& state) {
  std::set<std::string> known;
  const Visit check = [&](const std::string& path, const at::Tensor& view) {
    check_fits(checkpoint, path, view);
    known.insert(path);
  };
  visit_model(state.parameters, state.buffers, check);
  visit_slots(state, check);
  check_no_extras(checkpoint, known, "/");
  const auto progress = decode(checkpoint, "progress", decode_progress);
  auto normalisation = normalisation_of(checkpoint);
  if (!state.normalisation.empty()) {
    require_same_data(normalisation.mean, state.normalisation.mean, "mean");
    require_same_data(normalisation.stddev, state.normalisation.stddev, "standard deviation");
  }
  const at::NoGradGuard no_grad;
  const Visit copy = [&](const std::string& path, const at::Tensor& view) {
    if (!state.parameters_elsewhere || path.starts_with("/buffers/")) copy_in(checkpoint, path, view);
  };
  visit_model(state.parameters, state.buffers, copy);
  visit_slots(state, copy);
  state.progress = progress;
  const auto text = [&](const char* name) {
    const auto found = checkpoint.texts.find(name);
    return found == checkpoint.texts.end() ? std::string() : found->second;
  };
  state.shares = text("shares");
  state.loss_scale = text("loss_scale");
  state.gradient_norms = text("gradient_norms");
  state.normalisation = std::move(normalisation);
}

void restore_model(const Checkpoint& checkpoint, Arena& parameters, Arena& buffers) {
  std::set<std::string> known;
  visit_model(parameters, buffers, [&](const std::string& path, const at::Tensor& view) {
    check_fits(checkpoint, path, view);
    known.insert(path);
  });
  check_no_extras(checkpoint, known, "/parameters/");
  const at::NoGradGuard no_grad;
  visit_model(parameters, buffers, [&](const std::string& path, const at::Tensor& view) { copy_in(checkpoint, path, view); });
}

bool residuals_fit(const Checkpoint& checkpoint, const TrainState& state) {
  std::size_t fitting = 0, there = 0;
  for (const Residual& residual : state.residuals) {
    const auto found = checkpoint.arrays.find(residual_path(state.rank, residual));
    if (found == checkpoint.arrays.end() || found->second.dtype != DType::float32) return false;
    fitting += found->second.data.size() == residual.values.size_bytes();
  }
  for (const auto& [path, array] : checkpoint.arrays) there += path.starts_with(residuals_of(state.rank));
  return fitting == state.residuals.size() && there == fitting;
}

void restore_residuals(const Checkpoint& checkpoint, TrainState& state) {
  for (const Residual& residual : state.residuals) {
    const Array& array = checkpoint.arrays.at(residual_path(state.rank, residual));
    std::memcpy(residual.values.data(), array.data.data(), residual.values.size_bytes());
  }
}

bool is_residual(const std::string& path) { return path.starts_with("/residuals/"); }
bool is_for_rank(const std::string& path, int rank) { return !is_residual(path) || path.starts_with(residuals_of(rank)); }

bool is_of_model(const std::string& path) { return path.starts_with("/parameters/") || path.starts_with("/buffers/"); }

std::string config_text(const Checkpoint& checkpoint) { return text_of(checkpoint, "config"); }
Normalisation normalisation_of(const Checkpoint& checkpoint) {
  return decode(checkpoint, "normalisation", [](const json::value& value) { return json::value_to<Normalisation>(value); });
}

}  // namespace tugline
