// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/state/load_weights.hpp"

#include <algorithm>
#include <filesystem>
#include <set>
#include <string_view>
#include <vector>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tugline/core/error.hpp"
#include "tugline/core/io/safetensors.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/core/state/train_state.hpp"

namespace tugline {
namespace {

at::ScalarType type_of(DType dtype) {
  switch (dtype) {
    case DType::float32: return at::kFloat;
    case DType::float64: return at::kDouble;
    case DType::bfloat16: return at::kBFloat16;
    case DType::float16: return at::kHalf;
    case DType::int64: return at::kLong;
    case DType::int32: return at::kInt;
    case DType::uint8: return at::kByte;
    case DType::boolean: return at::kBool;
  }
  throw Error("unknown element type");
}

/// "model." of "model.a.weight" and "model.b.bias"; "" where names do not agree on one.
std::string common_prefix(const std::map<std::string, Array>& arrays) {
  if (arrays.empty()) return "";
  const std::string& first = arrays.begin()->first;
  const std::string prefix = first.substr(0, first.find('.') + 1);   // nothing when there is no dot
  for (const auto& [name, array] : arrays) {
    if (!name.starts_with(prefix)) return "";
  }
  return prefix;
}

std::string listed(const char* what, const std::vector<std::string>& names) {
  if (names.empty()) return "";
  constexpr std::size_t kShown = 5;
  const std::vector<std::string> shown(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(std::min(names.size(), kShown)));
  return fmt::format("; {}: {}{}", what, fmt::join(shown, ", "), names.size() > kShown ? fmt::format(" and {} more", names.size() - kShown) : "");
}

}  // namespace

std::map<std::string, Array> read_weights(const std::string& file) {
  if (std::filesystem::path(file).extension() == ".safetensors") return read_safetensors(file).arrays;
  Checkpoint checkpoint = read_checkpoint(file, is_of_model);
  std::map<std::string, Array> arrays;
  for (auto& [path, array] : checkpoint.arrays) arrays[path.substr(path.find('/', 1) + 1)] = std::move(array);
  return arrays;
}

void load_weights(const std::map<std::string, Array>& arrays, Arena& parameters, Arena& buffers, bool parameters_elsewhere) {
  std::map<std::string, at::Tensor> wanted, mine;
  for (const auto& slot : parameters.slots()) wanted[slot.name] = slot.parameter.detach();
  if (!parameters_elsewhere) mine = wanted;
  for (const auto& slot : buffers.slots()) mine[slot.name] = wanted[slot.name] = slot.parameter.detach();
  const std::string prefix = common_prefix(arrays);
  const bool strip = !prefix.empty() && wanted.count(arrays.begin()->first) == 0;
  std::vector<std::string> unknown, missing, shapes;
  std::set<std::string> found;
  const auto name_here = [&](const std::string& name) { return strip ? name.substr(prefix.size()) : name; };
  for (const auto& [full_name, array] : arrays) {
    const std::string name = name_here(full_name);
    const auto place = wanted.find(name);
    found.insert(name);
    if (place == wanted.end()) {
      unknown.push_back("'" + full_name + "'");
    } else if (place->second.sizes() != at::IntArrayRef(array.shape)) {
      shapes.push_back(fmt::format("'{}' is [{}] there and [{}] here", full_name, fmt::join(array.shape, ", "), fmt::join(place->second.sizes(), ", ")));
    }
  }
  for (const auto& [name, tensor] : wanted) {
    if (found.count(name) == 0) missing.push_back("'" + name + "'");
  }
  if (!unknown.empty() || !missing.empty() || !shapes.empty()) {
    throw DataError("its tensors are not those of the model" + listed("missing", missing) + listed("unknown", unknown) + listed("other shapes", shapes));
  }
  const c10::AutoGradMode no_grad(false);
  for (const auto& [full_name, array] : arrays) {
    const auto place = mine.find(name_here(full_name));
    if (place == mine.end()) continue;
    place->second.copy_(at::from_blob(const_cast<std::byte*>(array.data.data()), array.shape, at::TensorOptions(type_of(array.dtype))));
  }
}

}  // namespace tugline
