// SPDX-License-Identifier: Apache-2.0
#include <ATen/Version.h>
#include <torch/version.h>

#include "tugline/core/io/hdf5_array.hpp"
#include "tugline/trainers/doctor/doctor.hpp"

namespace tugline {
namespace {

/// The word after `key` in LibTorch's own description of its build.
std::string word_after(const std::string& text, const std::string& key) {
  const auto at = text.find(key);
  if (at == text.npos) return "";
  const auto begin = at + key.size();
  return text.substr(begin, text.find_first_of(", \n", begin) - begin);
}

}  // namespace

TorchFacts torch_facts() {
  return {.version = TORCH_VERSION,
          .blas = word_after(at::show_config(), "BLAS_INFO="),
          .instructions = at::get_cpu_capability()};
}

std::map<std::string, std::string> library_versions() { return {{"libtorch", TORCH_VERSION}, {"hdf5", hdf5_version()}}; }

}  // namespace tugline
