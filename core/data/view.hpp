// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "tugline/core/data/dataset.hpp"

namespace tugline {

/// Samples `indices` of `base`, in that order, with normalised inputs. An empty normalisation leaves them as they are.
class View final : public Dataset {
 public:
  View(std::shared_ptr<const Dataset> base, std::vector<std::int64_t> indices, const Normalisation& normalisation);

  const SampleSpec& spec() const override { return base_->spec(); }
  std::int64_t size() const override { return static_cast<std::int64_t>(indices_.size()); }
  void read(std::int64_t index, std::span<std::byte> input, std::span<std::byte> target) const override;
  void read_range(std::int64_t first, std::int64_t count, std::span<std::byte> inputs,
                  std::span<std::byte> targets) const override;
  std::uint64_t fingerprint() const override;
  bool cheap() const override { return base_->cheap(); }

 private:
  void normalise(std::span<std::byte> inputs) const;

  std::shared_ptr<const Dataset> base_;
  std::vector<std::int64_t> indices_;
  std::vector<float> mean_, scale_;  // one per channel or feature
  std::int64_t inner_ = 1;           // elements in a row that share one of them
};

/// Statistics over samples `indices` (ascending) of `base`, and no others. Empty for token inputs.
Normalisation compute_normalisation(const Dataset& base, std::span<const std::int64_t> indices);

}  // namespace tugline
