// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/io/safetensors_header.hpp"

#include <algorithm>
#include <array>
#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/serialize.hpp>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "tugline/core/error.hpp"

namespace tugline::safetensors {
namespace {

namespace json = boost::json;

constexpr std::string_view kMetadata = "__metadata__";

/// Boost.JSON calls this with one token after the other. No tree is built: it would take many times the header's size, and
/// would lose names that stand twice. Whatever does not belong where it stands is refused there, so nothing nests deeply.
/// Errors are thrown; every call returns true.
class HeaderReader {
 public:
  static constexpr std::size_t max_object_size = kMaxHeaderBytes, max_array_size = kMaxHeaderBytes;
  static constexpr std::size_t max_key_size = kMaxHeaderBytes, max_string_size = kMaxHeaderBytes;

  bool on_document_begin(json::error_code&) { return true; }
  bool on_document_end(json::error_code&) { return true; }

  bool on_object_begin(json::error_code&) {
    if (place_ == Place::document) return move_to(Place::header);
    if (place_ != Place::header) refuse();
    if (name_ == kMetadata) return move_to(Place::metadata);
    entry_ = {};
    seen_ = {};
    return move_to(Place::tensor);
  }
  bool on_object_end(std::size_t, json::error_code&) {
    if (place_ == Place::header) return move_to(Place::document);
    if (place_ == Place::tensor) finish_entry();
    return move_to(Place::header);
  }
  bool on_array_begin(json::error_code&) {
    if (place_ != Place::tensor || field_ == kDtype) refuse();
    return move_to(Place::list);
  }
  bool on_array_end(std::size_t, json::error_code&) { return move_to(Place::tensor); }

  bool on_key_part(json::string_view part, std::size_t, json::error_code&) { return append(part); }
  bool on_key(json::string_view part, std::size_t, json::error_code&) {
    append(part);
    std::string key = std::exchange(text_, {});
    if (place_ == Place::tensor) return start_field(key);
    (place_ == Place::header ? name_ : metadata_key_) = std::move(key);
    if (place_ == Place::header) {
      return refuse_twice(name_ == kMetadata ? std::exchange(seen_metadata_, true) : header_.entries.contains(name_));
    }
    return refuse_twice(header_.metadata.contains(metadata_key_));
  }
  bool on_string_part(json::string_view part, std::size_t, json::error_code&) { return append(part); }
  bool on_string(json::string_view part, std::size_t, json::error_code&) {
    append(part);
    std::string value = std::exchange(text_, {});
    if (place_ == Place::metadata) return header_.metadata.emplace(metadata_key_, std::move(value)).second;
    if (place_ != Place::tensor || field_ != kDtype) refuse();
    set_dtype(value);
    return true;
  }

  bool on_number_part(json::string_view, json::error_code&) { return true; }
  bool on_int64(std::int64_t value, json::string_view, json::error_code&) {
    if (place_ != Place::list || value < 0) refuse();
    auto& list = field_ == kShape ? entry_.shape : offsets_;
    if (list.size() == (field_ == kShape ? kMaxDimensions : 2)) refuse();
    list.push_back(value);
    return true;
  }
  bool on_uint64(std::uint64_t, json::string_view, json::error_code&) { return refuse(); }
  bool on_double(double, json::string_view, json::error_code&) { return refuse(); }
  bool on_bool(bool, json::error_code&) { return refuse(); }
  bool on_null(json::error_code&) { return refuse(); }
  bool on_comment_part(json::string_view, json::error_code&) { return true; }
  bool on_comment(json::string_view, json::error_code&) { return true; }

  Header take() { return std::move(header_); }

 private:
  enum class Place { document, header, metadata, tensor, list };
  enum Field : std::size_t { kDtype, kShape, kOffsets };
  static constexpr std::string_view kFields[] = {"dtype", "shape", "data_offsets"};

  bool move_to(Place place) {
    place_ = place;
    return true;
  }
  bool append(json::string_view part) {
    text_.append(part.data(), part.size());
    return true;
  }
  bool start_field(const std::string& key) {
    const auto* const found = std::ranges::find(kFields, key);
    field_ = static_cast<Field>(found - std::begin(kFields));
    if (found == std::end(kFields)) throw DataError(tensor(name_) + " has a field that is not dtype, shape or data_offsets");
    if (std::exchange(seen_[field_], true)) throw DataError(fmt::format("{} has {} twice", tensor(name_), key));
    return true;
  }
  void set_dtype(std::string_view type) {
    std::string known;
    for (const TypeName& has : kTypeNames) {
      entry_.dtype = has.dtype;
      if (has.name == type) return;
      known += (known.empty() ? "" : ", ") + std::string(has.name);
    }
    throw DataError(fmt::format("{} has elements of type {}, where Tugline has {}", tensor(name_), quoted(type), known));
  }
  void finish_entry() {
    for (const Field field : {kDtype, kShape, kOffsets}) {
      if (!seen_[field]) throw DataError(fmt::format("{} has no {}", tensor(name_), kFields[field]));
    }
    field_ = kOffsets;
    if (offsets_.size() != 2) refuse();
    entry_.begin = static_cast<std::uint64_t>(offsets_[0]);
    entry_.end = static_cast<std::uint64_t>(offsets_[1]);
    offsets_.clear();
    header_.entries.emplace(name_, std::move(entry_));
  }
  bool refuse_twice(bool twice) const {
    if (!twice) return true;
    if (place_ == Place::metadata) throw DataError("its __metadata__ has " + quoted(metadata_key_) + " twice");
    throw DataError(tensor(name_) + " stands twice in the header");
  }
  /// Says what should be here.
  [[noreturn]] bool refuse() const {
    if (name_ == kMetadata) throw DataError("its __metadata__ is not an object of strings");
    if (place_ == Place::header) throw DataError(tensor(name_) + " is not an object with dtype, shape and data_offsets");
    if (field_ == kDtype) throw DataError(tensor(name_) + ": dtype is not a string");
    if (field_ == kOffsets) throw DataError(tensor(name_) + ": data_offsets is not a list of two whole numbers from 0");
    throw DataError(fmt::format("{}: shape is not a list of at most {} whole numbers from 0", tensor(name_), kMaxDimensions));
  }

  Header header_;
  Place place_ = Place::document;
  std::string text_;                      // of the key or string that is being read
  std::string name_, metadata_key_;       // of the tensor, or "__metadata__"; of the string in there
  bool seen_metadata_ = false;
  Entry entry_;
  std::vector<std::int64_t> offsets_;
  Field field_ = kDtype;
  std::array<bool, 3> seen_{};
};

}  // namespace

std::string quoted(std::string_view name) {
  constexpr std::size_t kLongest = 200;
  return json::serialize(json::string_view(name.substr(0, kLongest))) + (name.size() > kLongest ? "..." : "");
}

Header parse_header(std::string_view text) {
  if (!text.starts_with('{')) throw DataError("not a safetensors file: its header does not start with '{'");
  json::basic_parser<HeaderReader> parser{json::parse_options{}};
  json::error_code error;
  const std::size_t used = parser.write_some(false, text.data(), text.size(), error);
  if (!error && used < text.size()) error = json::error::extra_data;
  if (error) throw DataError(fmt::format("its header is not JSON: {} after {} bytes", error.message(), used));
  return parser.handler().take();
}

std::optional<std::uint64_t> num_bytes(DType dtype, const std::vector<std::int64_t>& shape) {
  auto bytes = static_cast<std::int64_t>(size_of(dtype));
  bool empty = false;
  for (const std::int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(bytes, std::max<std::int64_t>(size, 1), &bytes)) return std::nullopt;
    empty = empty || size == 0;
  }
  return empty ? 0 : static_cast<std::uint64_t>(bytes);
}

std::vector<const Entries::value_type*> in_order(const Entries& entries, std::uint64_t buffer_bytes) {
  std::vector<const Entries::value_type*> order;
  order.reserve(entries.size());
  for (const auto& named : entries) order.push_back(&named);
  std::ranges::sort(order, {}, [](const auto* named) { return std::pair(named->second.begin, named->second.end); });
  std::uint64_t covered = 0;
  for (const auto* named : order) {
    const auto& [name, entry] = *named;
    if (entry.end < entry.begin) throw DataError(tensor(name) + " ends before it begins");
    if (entry.end > buffer_bytes) {
      throw DataError(fmt::format("cut off: {} ends at byte {} of its data, which has {}", tensor(name), entry.end, buffer_bytes));
    }
    const auto needed = num_bytes(entry.dtype, entry.shape);
    if (!needed) throw DataError(tensor(name) + " has a shape that no file can hold");
    if (*needed != entry.end - entry.begin) {
      throw DataError(fmt::format("{} has {} bytes, but its dtype and shape ask for {}", tensor(name),
                                  entry.end - entry.begin, *needed));
    }
    if (entry.begin < covered) throw DataError(tensor(name) + " begins inside the tensor before it");
    if (entry.begin > covered) {
      throw DataError(fmt::format("{} bytes before {} belong to no tensor", entry.begin - covered, tensor(name)));
    }
    covered = entry.end;
  }
  if (covered < buffer_bytes) throw DataError(fmt::format("its last {} bytes belong to no tensor", buffer_bytes - covered));
  return order;
}

}  // namespace tugline::safetensors
