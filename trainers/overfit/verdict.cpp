// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "tugline/trainers/overfit/overfit.hpp"

namespace tugline {
namespace {

namespace json = boost::json;

/// JSON has no NaN or infinity.
json::value number(double value) { return std::isfinite(value) ? json::value(value) : json::value(nullptr); }
json::value number(const std::optional<double>& value) { return value ? number(*value) : json::value(nullptr); }

std::string escape_xml(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\n': out += "&#10;"; break;
      default: out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

}  // namespace

std::string to_text(const OverfitVerdict& verdict) {
  std::string text = fmt::format("overfit {}: {}\n  {} samples, {} rank{}, {} of {} steps, {:.1f} s\n", verdict.name,
                                 verdict.passed ? "PASSED" : "FAILED", verdict.samples, verdict.ranks,
                                 verdict.ranks == 1 ? "" : "s", verdict.steps, verdict.steps_allowed, verdict.seconds);
  if (!verdict.evaluations.empty()) {
    text += fmt::format("  loss     {:<10.4g} to reach: {:g}\n", verdict.loss, verdict.target_loss);
    if (verdict.accuracy) {
      text += fmt::format("  accuracy {:<10.4g} {}\n", *verdict.accuracy,
                          verdict.target_accuracy ? fmt::format("to reach: {:g}", *verdict.target_accuracy) : "(not asked for)");
    }
  }
  text += fmt::format("  {}: {}\n", verdict.reason, verdict.explanation);
  return text;
}

std::string to_json(const OverfitVerdict& verdict) {
  json::array evaluations;
  for (const auto& evaluation : verdict.evaluations) {
    evaluations.push_back({{"step", evaluation.step}, {"loss", number(evaluation.loss)}, {"accuracy", number(evaluation.accuracy)}});
  }
  const json::object object{{"name", verdict.name},
                            {"passed", verdict.passed},
                            {"reason", verdict.reason},
                            {"explanation", verdict.explanation},
                            {"loss", number(verdict.loss)},
                            {"accuracy", number(verdict.accuracy)},
                            {"target_loss", verdict.target_loss},
                            {"target_accuracy", number(verdict.target_accuracy)},
                            {"steps", verdict.steps},
                            {"steps_allowed", verdict.steps_allowed},
                            {"samples", verdict.samples},
                            {"ranks", verdict.ranks},
                            {"seconds", verdict.seconds},
                            {"evaluations", std::move(evaluations)}};
  return json::serialize(object);
}

std::string to_junit_xml(const OverfitVerdict& verdict) {
  const std::string failure = fmt::format("    <failure type=\"{}\" message=\"{}\">{}</failure>\n", escape_xml(verdict.reason),
                                          escape_xml(verdict.explanation), escape_xml(to_text(verdict)));
  return fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<testsuite name=\"tugline overfit\" tests=\"1\" failures=\"{0}\" errors=\"0\" time=\"{1:.3f}\">\n"
      "  <testcase classname=\"tugline.overfit\" name=\"{2}\" time=\"{1:.3f}\">\n{3}"
      "    <system-out>{4}</system-out>\n"
      "  </testcase>\n</testsuite>\n",
      verdict.passed ? 0 : 1, verdict.seconds, escape_xml(verdict.name), verdict.passed ? "" : failure, escape_xml(to_json(verdict)));
}

}  // namespace tugline
