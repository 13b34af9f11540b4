// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/state/train_state.hpp"

#include <charconv>
#include <cmath>
#include <functional>
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
                                     has_watched, watched_value, evaluations_without_improvement, seconds, epoch_loss_sum,
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
    const json::value& stored = value.as_object().at(member.name);
    if constexpr (std::is_same_v<decltype(field), double&>) {
      const json::string& text = stored.as_string();
      const auto [end, error] = std::from_chars(text.begin(), text.end(), field);
      if (error != std::errc() || end != text.end()) throw std::invalid_argument(fmt::format("{} is no number", member.name));
    } else {
      field = json::value_to<std::decay_t<decltype(field)>>(stored);
    }
  });
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

void require_whole(const Checkpoint& checkpoint) {
  const auto slices = decode(checkpoint, "manifest", [](const json::value& v) { return v.at("slices").to_number<std::int64_t>(); });
  if (slices != 1) throw CheckpointError(fmt::format("the checkpoint is cut into {} slices, and this Tugline reads one", slices));
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
    if (path.starts_with(prefix) && known.count(path) == 0) {
      throw CheckpointError("the checkpoint has " + path + ", which the model does not have");
    }
  }
}

void copy_in(const Checkpoint& checkpoint, const std::string& path, at::Tensor view) {
  const Array& array = checkpoint.arrays.at(path);
  view.copy_(at::from_blob(const_cast<std::byte*>(array.data.data()), array.shape, view.options()));
}

}  // namespace

Snapshot::Snapshot(const TrainState& state, const std::string& config_yaml) {
  const Visit visit = [this](const std::string& path, const at::Tensor& view) { add(path, view); };
  visit_model(state.parameters, state.buffers, visit);
  visit_slots(state, visit);
  content_.texts["config"] = config_yaml;
  content_.texts["progress"] = encode(state.progress);
  content_.texts["normalisation"] = json::serialize(json::value_from(state.normalisation));
  content_.texts["versions"] =
      json::serialize(json::object{{"format", 1}, {"libtorch", TORCH_VERSION}, {"hdf5", hdf5_version()}});
  content_.texts["manifest"] =
      json::serialize(json::object{{"slice", 0}, {"slices", 1}, {"world_size", state.progress.world_size}});
}

void Snapshot::add(const std::string& path, const at::Tensor& tensor) {
  tensors_.push_back(tensor.clone(at::MemoryFormat::Contiguous));
  content_.arrays.push_back({path, stored_dtype(tensor), tensor.sizes().vec(), tensors_.back().data_ptr()});
}

void restore(const Checkpoint& checkpoint, TrainState& state) {
  require_whole(checkpoint);
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
  state.normalisation = std::move(normalisation);
}

void restore_model(const Checkpoint& checkpoint, Arena& parameters, Arena& buffers) {
  require_whole(checkpoint);
  std::set<std::string> known;
  visit_model(parameters, buffers, [&](const std::string& path, const at::Tensor& view) {
    check_fits(checkpoint, path, view);
    known.insert(path);
  });
  check_no_extras(checkpoint, known, "/parameters/");
  const at::NoGradGuard no_grad;
  visit_model(parameters, buffers, [&](const std::string& path, const at::Tensor& view) { copy_in(checkpoint, path, view); });
}

std::string config_text(const Checkpoint& checkpoint) { return text_of(checkpoint, "config"); }
Normalisation normalisation_of(const Checkpoint& checkpoint) {
  return decode(checkpoint, "normalisation", [](const json::value& value) { return json::value_to<Normalisation>(value); });
}

}  // namespace tugline
