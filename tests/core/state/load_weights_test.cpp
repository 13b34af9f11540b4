// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/state/load_weights.hpp"

#include <gmock/gmock.h>
#include <torch/torch.h>

#include "tugline/core/error.hpp"
#include "tugline/core/io/safetensors.hpp"
#include "tugline/core/state/arena.hpp"
#include "tugline/tests/support/temporary_folder.hpp"

namespace tugline {
namespace {

using testing::HasSubstr;

class LoadWeights : public TemporaryFolder {
 protected:
  /// Two parameters and a buffer, as a file in `dtype` with `prefix` before every name; their values are 1, 2, ...
  std::string file(at::ScalarType type, DType dtype, const std::string& prefix = "", const std::string& more = "") {
    std::vector<at::Tensor> tensors;
    std::vector<ArrayView> arrays;
    const auto add = [&](const std::string& name, std::vector<std::int64_t> shape) {
      tensors.push_back(torch::arange(1, 1 + c10::multiply_integers(shape), type).reshape(shape));
      arrays.push_back({prefix + name, dtype, shape, tensors.back().data_ptr()});
    };
    add("weight", {2, 3});
    add("bias", {3});
    add("mean", {3});
    if (!more.empty()) add(more, {1});
    const auto path = folder_ / "weights.safetensors";
    write_safetensors(path, arrays);
    return path.string();
  }
  std::string refusal(const std::map<std::string, Array>& arrays) {
    const at::Tensor before = weight_.clone();
    try {
      load_weights(arrays, parameters_, buffers_, false);
    } catch (const DataError& error) {
      EXPECT_TRUE(weight_.equal(before)) << "nothing has changed";
      return error.what();
    }
    return "";
  }
  at::Tensor weight_ = torch::zeros({2, 3}).requires_grad_(true), bias_ = torch::zeros({3}).requires_grad_(true), mean_ = torch::zeros({3});
  Arena parameters_{{{"weight", weight_}, {"bias", bias_}}, {}}, buffers_{{{"mean", mean_}}, {}};
};

TEST_F(LoadWeights, OfAnyTypeAndWithAPrefix) {
  const at::Tensor expected = torch::arange(1, 7, at::kFloat).reshape({2, 3});
  for (const auto& [type, dtype] : {std::pair(at::kFloat, DType::float32), std::pair(at::kDouble, DType::float64),
                                    std::pair(at::kHalf, DType::float16), std::pair(at::kBFloat16, DType::bfloat16)}) {
    for (const char* prefix : {"", "model."}) {
      weight_.detach().zero_();
      mean_.zero_();
      load_weights(read_weights(file(type, dtype, prefix)), parameters_, buffers_, false);
      EXPECT_TRUE(weight_.equal(expected)) << name_of(dtype);
      EXPECT_EQ(mean_.sum().item<float>(), 6);
    }
  }
}

TEST_F(LoadWeights, LeavesParametersToAnotherRank) {
  load_weights(read_weights(file(at::kFloat, DType::float32)), parameters_, buffers_, true);
  EXPECT_EQ(weight_.sum().item<float>(), 0);
  EXPECT_EQ(mean_.sum().item<float>(), 6);
}

TEST_F(LoadWeights, ListsAllThatDoesNotFit) {
  auto arrays = read_weights(file(at::kFloat, DType::float32, "", "extra"));
  arrays["weight"].shape = {3, 2};
  arrays.erase("bias");
  EXPECT_THAT(refusal(arrays), testing::AllOf(HasSubstr("missing: 'bias'"), HasSubstr("unknown: 'extra'"),
                                              HasSubstr("'weight' is [3, 2] there and [2, 3] here")));
  EXPECT_THAT(refusal({}), HasSubstr("missing: 'bias', 'mean', 'weight'"));
}

}  // namespace
}  // namespace tugline
