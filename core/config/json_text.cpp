// SPDX-License-Identifier: Apache-2.0
#include "tugline/core/config/json_text.hpp"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "tugline/core/config/scalar.hpp"

namespace tugline::config {
namespace {

namespace json = boost::json;

class Writer {
 public:
  explicit Writer(Layout layout) : indented_(layout == Layout::indented) {}

  void write(const json::value& value) {
    if (value.is_double()) {
      text_ += number_text(value.get_double());
    } else if (const auto* object = value.if_object()) {
      items('{', *object, '}', indented_, [&](const json::key_value_pair& entry) {
        text_ += json::serialize(json::value(entry.key())) + (indented_ ? ": " : ":");
        write(entry.value());
      });
    } else if (const auto* array = value.if_array()) {
      const bool nested = std::ranges::any_of(*array, &json::value::is_structured);
      items('[', *array, ']', indented_ && nested, [&](const json::value& item) { write(item); });
    } else {
      text_ += json::serialize(value);
    }
  }

  std::string take() && { return std::move(text_); }

 private:
  template <class Items, class Write>
  void items(char open, const Items& all, char close, bool lines, Write write_one) {
    text_ += open;
    ++depth_;
    bool first = true;
    for (const auto& item : all) {
      if (!first) text_ += lines || !indented_ ? "," : ", ";
      first = false;
      if (lines) new_line();
      write_one(item);
    }
    --depth_;
    if (lines && !first) new_line();
    text_ += close;
  }
  void new_line() { text_ += '\n' + std::string(2 * depth_, ' '); }

  const bool indented_;
  std::size_t depth_ = 0;
  std::string text_;
};

}  // namespace

std::string json_text(const json::value& value, Layout layout) {
  Writer writer(layout);
  writer.write(value);
  return std::move(writer).take();
}

}  // namespace tugline::config
