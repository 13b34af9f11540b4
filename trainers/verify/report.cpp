// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include <fmt/format.h>

#include "tugline/trainers/verify/verify.hpp"

namespace tugline {
namespace {

constexpr std::size_t kRowsShown = 12;

void add_table(const VerifiedBatch& batch, std::string& text) {
  text += fmt::format("\n  {} ({} samples), difference relative to the largest gradient {:.3g}\n", batch.what, batch.samples,
                      batch.largest_gradient);
  for (std::size_t i = 0; i < std::min(kRowsShown, batch.rows.size()); ++i) {
    text += fmt::format("    {:<44} {:.1e}\n", batch.rows[i].parameter, batch.rows[i].difference);
  }
  if (batch.rows.size() > kRowsShown) {
    text += fmt::format("    and {} more, at most {:.1e}\n", batch.rows.size() - kRowsShown, batch.rows[kRowsShown].difference);
  }
}

}  // namespace

std::string to_text(const VerifyReport& report) {
  std::string text = fmt::format("verify {}: {}  ({} rank{}, {}, {}, tolerance {:.0e})\n", report.name,
                                 report.passed ? "PASSED" : "FAILED", report.ranks, report.ranks == 1 ? "" : "s", report.backend,
                                 report.precision, report.tolerance);
  const VerifiedBatch* worst = nullptr;
  for (const auto& batch : report.batches) {
    text += fmt::format("  {:<38} {:>5} samples   {:.1e}\n", batch.what, batch.samples, batch.worst());
    if (worst == nullptr || batch.worst() > worst->worst()) worst = &batch;
  }
  if (worst != nullptr) add_table(*worst, text);
  if (!report.passed) {
    text += fmt::format("\n  First layer that differs: {}\n  Likely cause: {}\n  {}\n", report.first_layer, report.cause,
                        report.explanation);
  } else if (!report.cause.empty()) {
    text += fmt::format("\n  Beyond the tolerance, but the same gradient. {}\n", report.explanation);
  } else if (report.ranks == 1) {
    text += "\n  One rank: this shows only that the gradient is the same twice. Start more with mpirun -n N.\n";
  }
  return text;
}

}  // namespace tugline
