// SPDX-License-Identifier: Apache-2.0
// A text as windows of tokens: sample i is tokens [i * context, (i + 1) * context), its target the same shifted by one.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "tugline/core/config/run_config.hpp"
#include "tugline/core/data/file_bytes.hpp"
#include "tugline/core/data/fingerprint.hpp"
#include "tugline/core/data/source.hpp"
#include "tugline/core/error.hpp"

namespace tugline {
namespace {

using Tokens = std::vector<std::uint32_t>;

class TextDataset final : public Dataset {
 public:
  TextDataset(SampleSpec spec, Tokens tokens) : spec_(std::move(spec)), tokens_(std::move(tokens)) {}

  const SampleSpec& spec() const override { return spec_; }
  std::int64_t size() const override {
    return tokens_.empty() ? 0 : (static_cast<std::int64_t>(tokens_.size()) - 1) / spec_.input_shape.front();
  }
  void read(std::int64_t index, std::span<std::byte> input, std::span<std::byte> target) const override {
    const std::int64_t context = spec_.input_shape.front();
    const auto begin = tokens_.begin() + index * context;
    std::copy(begin, begin + context, reinterpret_cast<std::int64_t*>(input.data()));
    std::copy(begin + 1, begin + context + 1, reinterpret_cast<std::int64_t*>(target.data()));
  }
  std::uint64_t fingerprint() const override { return digest(tokens_, digest(spec_, 0)); }
  bool cheap() const override { return true; }

 private:
  SampleSpec spec_;
  Tokens tokens_;
};

std::size_t sequence_length(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return 2;
  if (lead >= 0xE0 && lead <= 0xEF) return 3;
  if (lead >= 0xF0 && lead <= 0xF4) return 4;
  return 0;
}

/// Code points of UTF-8, each as the bytes it was written with, packed into a number.
Tokens characters_of(const std::string& text, const std::string& name) {
  Tokens result;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = sequence_length(static_cast<unsigned char>(text[at]));
    bool valid = length > 0 && at + length <= text.size();
    std::uint32_t character = 0;
    for (std::size_t i = 0; valid && i < length; ++i) {
      const auto byte = static_cast<unsigned char>(text[at + i]);
      valid = i == 0 || (byte & 0xC0) == 0x80;
      character = character << 8 | byte;
    }
    if (!valid) throw DataError(fmt::format("{}: byte {} is not valid UTF-8; data.tokens: bytes reads any file", name, at));
    result.push_back(character);
    at += length;
  }
  return result;
}

std::string bytes_of(std::uint32_t character) {
  std::string text;
  for (int shift = 24; shift >= 0; shift -= 8) {
    if (character >> shift != 0) text.push_back(static_cast<char>(character >> shift & 0xff));
  }
  return text.empty() ? std::string(1, '\0') : text;
}

struct Text {
  std::string name;
  Tokens tokens;
};

Text read_text(const DataConfig& config, const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  if (bytes.empty()) throw DataError(fmt::format("{}: the file is empty", path.string()));
  if (config.tokens == "characters") return {path.string(), characters_of(bytes, path.string())};
  Tokens tokens;
  for (const char byte : bytes) tokens.push_back(static_cast<unsigned char>(byte));
  return {path.string(), std::move(tokens)};
}

/// Replaces characters by their place in `vocabulary`.
void encode(Text& text, const std::map<std::uint32_t, std::uint32_t>& vocabulary) {
  for (std::size_t i = 0; i < text.tokens.size(); ++i) {
    const auto entry = vocabulary.find(text.tokens[i]);
    if (entry == vocabulary.end()) {
      throw DataError(
          fmt::format("{}: character {}: '{}' does not occur in the train text", text.name, i, bytes_of(text.tokens[i])));
    }
    text.tokens[i] = entry->second;
  }
}

Source make_source(const SampleSpec& spec, const Text& text, std::size_t begin, std::size_t end, const char* part,
                   bool wanted) {
  Tokens tokens(text.tokens.begin() + begin, text.tokens.begin() + end);
  auto data = std::make_shared<TextDataset>(spec, std::move(tokens));
  if (data->size() == 0 && wanted) {
    throw DataError(fmt::format("{}: the {} part has {} tokens, but one sample needs data.context + 1 = {}", text.name,
                                part, end - begin, spec.input_shape.front() + 1));
  }
  return {data, {}, {}};
}

}  // namespace

Sources open_text(const DataConfig& config) {
  if (config.context < 1) throw ConfigError(fmt::format("data.context: {} is too small: at least 1", config.context));
  if (config.split.by != "auto" && config.split.by != "given") {
    throw ConfigError(fmt::format(
        "data.split.by: {} does not fit a text, which is split in contiguous parts: use auto or given", config.split.by));
  }
  if (config.path.empty() && config.train_inputs.empty()) throw ConfigError("data.path: text data needs a file name");
  const auto name =
      config.train_inputs.empty() ? std::filesystem::path(config.path) : below_path(config, config.train_inputs);
  Text train = read_text(config, name), validation, test;
  if (!config.validation_inputs.empty()) validation = read_text(config, below_path(config, config.validation_inputs));
  if (!config.test_inputs.empty()) test = read_text(config, below_path(config, config.test_inputs));

  SampleSpec spec;
  spec.input_shape = spec.target_shape = {config.context};
  spec.input_dtype = DType::int64;
  spec.num_classes = 256;
  if (config.tokens == "characters") {
    std::map<std::uint32_t, std::uint32_t> vocabulary;
    for (const std::uint32_t character : std::set(train.tokens.begin(), train.tokens.end())) {
      vocabulary.emplace(character, static_cast<std::uint32_t>(vocabulary.size()));
      spec.class_names.push_back(bytes_of(character));
    }
    spec.num_classes = static_cast<std::int64_t>(vocabulary.size());
    for (Text* text : {&train, &validation, &test}) encode(*text, vocabulary);
  }

  // In the order of the text: train, validation, test. What has a file of its own is not cut off.
  const bool given = !validation.tokens.empty() || !test.tokens.empty();
  const double test_fraction = given ? 0 : config.split.test;
  const double validation_fraction = validation.tokens.empty() ? config.split.validation : 0;
  const std::size_t total = train.tokens.size();
  const auto cut = [&](double fraction) {
    return static_cast<std::size_t>(std::llround(fraction * static_cast<double>(total)));
  };
  const std::size_t test_begin = total - cut(test_fraction);
  const std::size_t train_end = test_begin - std::min(test_begin, cut(validation_fraction));

  Sources sources;
  sources.name = train.name;
  sources.complete = true;
  sources.train = make_source(spec, train, 0, train_end, "train", true);
  sources.validation = validation.tokens.empty()
                           ? make_source(spec, train, train_end, test_begin, "validation", validation_fraction > 0)
                           : make_source(spec, validation, 0, validation.tokens.size(), "validation", true);
  sources.test = test.tokens.empty() ? make_source(spec, train, test_begin, total, "test", test_fraction > 0)
                                     : make_source(spec, test, 0, test.tokens.size(), "test", true);
  return sources;
}

}  // namespace tugline
