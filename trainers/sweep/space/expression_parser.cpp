// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <set>
#include <utility>

#include "tugline/core/config/nearest.hpp"
#include "tugline/trainers/sweep/space/expression.hpp"
#include "tugline/trainers/sweep/space/value_text.hpp"

namespace tugline::sweep {
namespace {

bool starts_name(char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_' || c == '$'; }
bool is_in_name(char c) { return starts_name(c) || std::isdigit(static_cast<unsigned char>(c)) || c == '.'; }

}  // namespace

/// Recursive descent; types are checked on the way, so that evaluation is of doubles alone.
class ExpressionParser {
 public:
  ExpressionParser(Expression& out, std::string_view text, std::span<const Dimension> dimensions, std::optional<std::int64_t> element)
      : out_(out), text_(text), dimensions_(dimensions), element_(element) {}

  void parse() {
    constexpr std::size_t kLongest = 10'000;   // evaluation goes as deep as a chain of operators is long
    if (text_.size() > kLongest) fail(0, "the expression is too long");
    const Operand whole = disjunction();
    if (!at_end()) fail(at_, fmt::format("unexpected '{}'", text_.substr(at_, 1)));
    out_.root_ = truth(whole).node;
    const std::set<std::size_t> sorted(out_.dimensions_.begin(), out_.dimensions_.end());
    out_.dimensions_.assign(sorted.begin(), sorted.end());
  }

 private:
  using Op = Expression::Op;
  using Node = Expression::Node;
  enum class Type { number, text, truth };
  struct Operand {
    std::size_t node = 0;
    Type type = Type::number;
    std::size_t at = 0;        // where it begins
    std::string text{};        // of a text that was written
    bool word = false;         // it was written without quotes
  };

  [[noreturn]] static void fail(std::size_t at, const std::string& sentence) {
    throw ExpressionError(sentence, static_cast<int>(at) + 1);
  }

  // ---- characters

  bool at_end() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
    return at_ == text_.size();
  }
  bool take(std::string_view symbol) {
    if (at_end() || !text_.substr(at_).starts_with(symbol)) return false;
    at_ += symbol.size();
    return true;
  }
  bool take_keyword(std::string_view keyword) {
    if (at_end() || !text_.substr(at_).starts_with(keyword)) return false;
    const std::size_t end = at_ + keyword.size();
    if (end < text_.size() && is_in_name(text_[end])) return false;
    at_ = end;
    return true;
  }
  void expect(std::string_view symbol) {
    if (!take(symbol)) fail(at_, fmt::format("expected '{}'", symbol));
  }

  // ---- nodes

  Operand push(Node node, Type type, std::size_t at) {
    out_.nodes_.push_back(std::move(node));
    return {.node = out_.nodes_.size() - 1, .type = type, .at = at};
  }
  Operand push(Op op, const Operand& left, const Operand& right, Type type) {
    return push({.op = op, .left = left.node, .right = right.node}, type, left.at);
  }
  Operand constant(double number, Type type, std::size_t at) { return push({.number = number}, type, at); }

  /// An operand of and, or, not: a name that is true or false becomes a comparison, which is false when it is not active.
  Operand truth(const Operand& operand) {
    if (operand.type != Type::truth) fail(operand.at, fmt::format("expected a condition, found {}", noun(operand)));
    if (out_.nodes_[operand.node].op != Op::name) return operand;
    return push(Op::equal, operand, constant(1, Type::truth, operand.at), Type::truth);
  }
  Operand number(const Operand& operand) {
    if (operand.type == Type::number) return operand;
    if (operand.word) unknown(operand.text, operand.at);
    fail(operand.at, fmt::format("expected a number, found {}", noun(operand)));
  }
  static std::string noun(const Operand& operand) {
    if (operand.type == Type::number) return "a number";
    if (operand.type == Type::truth) return "true or false";
    return operand.text.empty() ? "a text" : fmt::format("the text '{}'", operand.text);
  }
  [[noreturn]] void unknown(const std::string& name, std::size_t at) const {
    fail(at, fmt::format("nothing in the space is called '{}'{}", name, config::did_you_mean(nearest_name(name))));
  }
  std::string nearest_name(const std::string& name) const {
    std::vector<std::string_view> keys;
    for (const Dimension& dimension : dimensions_) keys.push_back(dimension.key);
    return config::nearest_key(name, keys);
  }

  // ---- grammar, from the loosest to the tightest

  Operand disjunction() {
    Operand left = conjunction();
    while (take_keyword("or")) left = push(Op::either, truth(left), truth(conjunction()), Type::truth);
    return left;
  }
  Operand conjunction() {
    Operand left = negation();
    while (take_keyword("and")) left = push(Op::both, truth(left), truth(negation()), Type::truth);
    return left;
  }
  Operand negation() {
    const std::size_t at = (at_end(), at_);
    if (!take_keyword("not")) return comparison();
    return nested([&] { return push({.op = Op::negate, .left = truth(negation()).node}, Type::truth, at); });
  }

  Operand comparison() {
    const Operand left = sum();
    if (take_keyword("in")) return membership(left);
    const std::string_view symbol = take_comparison();
    if (take("=")) fail(at_ - 1, "write == to compare");
    if (symbol.empty()) return left;
    const Operand result = compare(symbol, left, right_side());
    const std::size_t end = (at_end(), at_);
    if (!take_comparison().empty()) fail(end, "comparisons do not chain; join two with 'and'");
    return result;
  }
  std::string_view take_comparison() {
    for (const std::string_view symbol : {"==", "!=", "<=", ">=", "<", ">"}) {
      if (take(symbol)) return symbol;
    }
    return {};
  }
  Operand membership(const Operand& left) {
    expect("[");
    Operand any = compare("==", left, right_side());
    while (take(",")) any = push(Op::either, any, compare("==", left, right_side()), Type::truth);
    expect("]");
    any.at = left.at;
    return any;
  }
  Operand right_side() {
    words_are_texts_ = true;
    Operand right = sum();
    words_are_texts_ = false;
    return right;
  }

  Operand compare(std::string_view symbol, const Operand& left, const Operand& right) {
    if (left.type != right.type) {
      const std::string guess = right.word ? nearest_name(right.text) : "";
      fail(right.at, fmt::format("cannot compare {} with {}{}", noun(left), noun(right), config::did_you_mean(guess)));
    }
    if (symbol == "==" || symbol == "!=") {
      check_value(left, right);
      check_value(right, left);
      return push(symbol == "==" ? Op::equal : Op::unequal, left, right, Type::truth);
    }
    if (left.type != Type::number) fail(left.at, "only numbers are less or greater; texts are equal or not");
    const Op op = symbol.ends_with('=') ? Op::less_equal : Op::less;
    Operand result = symbol.starts_with('<') ? push(op, left, right, Type::truth) : push(op, right, left, Type::truth);
    result.at = left.at;
    return result;
  }
  /// A choice that is compared with a value which it does not have: a slip.
  void check_value(const Operand& name, const Operand& value) const {
    const Node& of = out_.nodes_[name.node];
    const Node& constant = out_.nodes_[value.node];
    if (of.op != Op::name || of.table.empty() || constant.op != Op::number) return;
    if (std::ranges::find(of.table, constant.number) != of.table.end()) return;
    const Dimension& dimension = dimensions_[of.dimension];
    const std::vector<std::string_view> values(dimension.values.begin(), dimension.values.end());
    const std::string guess = value.type == Type::text ? config::nearest_word(value.text, values) : "";
    const std::string shown = value.type == Type::text ? value.text : fmt::format("{}", constant.number);
    fail(value.at, fmt::format("{} is never '{}'{}", dimension.key, shown, config::did_you_mean(guess)));
  }

  Operand sum() {
    Operand left = product();
    while (true) {
      if (take("+")) {
        left = push(Op::add, number(left), number(product()), Type::number);
      } else if (take("-")) {
        left = push(Op::subtract, number(left), number(product()), Type::number);
      } else {
        return left;
      }
    }
  }
  Operand product() {
    constexpr std::array<std::pair<std::string_view, Op>, 3> kOperators{
        {{"*", Op::multiply}, {"/", Op::divide}, {"%", Op::remainder}}};
    Operand left = sign();
    while (true) {
      const auto op = std::ranges::find_if(kOperators, [&](const auto& one) { return take(one.first); });
      if (op == kOperators.end()) return left;
      left = push(op->second, number(left), number(sign()), Type::number);
    }
  }
  Operand sign() {
    const std::size_t at = (at_end(), at_);
    if (!take("-")) return primary();
    return nested([&] {
      const Operand zero = constant(0, Type::number, at);
      return push(Op::subtract, zero, number(sign()), Type::number);
    });
  }
  Operand primary() {
    if (at_end()) fail(at_, "the expression ends too early");
    const std::size_t at = at_;
    const char c = text_[at];
    if (take("(")) {
      const bool words = std::exchange(words_are_texts_, false);
      Operand inner = nested([&] { return disjunction(); });
      words_are_texts_ = words;
      expect(")");
      return inner;
    }
    if (c == '\'' || c == '"') return quoted();
    if (std::isdigit(static_cast<unsigned char>(c)) || c == '.') return literal();
    if (starts_name(c)) return word();
    fail(at, fmt::format("unexpected '{}'", c));
  }

  template <class Parse>
  Operand nested(Parse parse) {
    constexpr int kDeepest = 64;
    if (++depth_ > kDeepest) fail(at_, "nested too deeply");
    Operand operand = parse();
    --depth_;
    return operand;
  }

  // ---- operands

  Operand literal() {
    double value = 0;
    const char* begin = text_.data() + at_;
    const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), value);
    const std::size_t at = at_;
    at_ += static_cast<std::size_t>(end - begin);
    if (error != std::errc{} || (at_ < text_.size() && is_in_name(text_[at_]))) fail(at, "not a number; put a text in quotes");
    return constant(value, Type::number, at);
  }
  Operand quoted() {
    const std::size_t at = at_;
    const auto end = text_.find(text_[at], at + 1);
    if (end == std::string_view::npos) fail(at, "the closing quote is missing");
    at_ = end + 1;
    return text(std::string(text_.substr(at + 1, end - at - 1)), at, false);
  }
  Operand text(const std::string& text, std::size_t at, bool word) {
    Operand operand = constant(number_of(text), Type::text, at);
    operand.text = text;
    operand.word = word;
    return operand;
  }
  /// Equal texts have equal numbers.
  double number_of(const std::string& text) {
    const auto known = std::ranges::find(texts_, text);
    const auto number = static_cast<double>(known - texts_.begin());
    if (known == texts_.end()) texts_.push_back(text);
    return number;
  }

  Operand word() {
    const std::size_t at = at_;
    const std::string name = read_name();
    for (const std::string_view keyword : {"and", "or", "not", "in"}) {
      if (name == keyword) fail(at, fmt::format("unexpected '{}'", name));
    }
    if (name == "true" || name == "false") return constant(name == "true" ? 1 : 0, Type::truth, at);
    if (name == "i" && element_) return constant(static_cast<double>(*element_), Type::number, at);
    const auto dimension = std::ranges::find(dimensions_, name, &Dimension::key);
    if (dimension != dimensions_.end()) return key(static_cast<std::size_t>(dimension - dimensions_.begin()), at);
    if (!words_are_texts_ || name.ends_with(']')) unknown(name, at);
    return text(name, at, true);
  }
  std::string read_name() {
    const std::size_t begin = at_;
    while (at_ < text_.size()) {
      if (text_[at_] == '[') {
        const auto close = text_.find(']', at_);
        const std::string_view index = text_.substr(at_ + 1, close == text_.npos ? close : close - at_ - 1);
        const bool digits = !index.empty() && index.find_first_not_of("0123456789") == index.npos;
        if (close == text_.npos || (!digits && index != "i")) fail(at_, "expected an index such as [i] or [3]");
        if (!digits && !element_) fail(at_, "[i] is only known where there is a `for`");
        at_ = close + 1;
      } else if (is_in_name(text_[at_])) {
        ++at_;
      } else {
        break;
      }
    }
    const std::string name(text_.substr(begin, at_ - begin));
    return element_ ? with_element(name, *element_) : name;
  }

  Operand key(std::size_t index, std::size_t at) {
    const Dimension& dimension = dimensions_[index];
    out_.dimensions_.push_back(index);
    Node node{.op = Op::name, .dimension = index};
    std::vector<config::Tree> values;
    for (const std::string& value : dimension.values) values.push_back(value_tree(value));
    Type type = Type::text;
    if (std::ranges::all_of(values, [](const auto& value) { return as_number(value).has_value(); })) {
      type = Type::number;   // real and integer dimensions too: they have no values
      for (const auto& value : values) node.table.push_back(*as_number(value));
    } else if (std::ranges::all_of(values, [](const auto& value) { return as_bool(value).has_value(); })) {
      type = Type::truth;
      for (const auto& value : values) node.table.push_back(*as_bool(value) ? 1 : 0);
    } else {
      for (std::size_t v = 0; v < values.size(); ++v) {
        const bool scalar = values[v].kind == config::Tree::Kind::scalar;
        node.table.push_back(number_of(scalar ? values[v].text : dimension.values[v]));
      }
    }
    return push(std::move(node), type, at);
  }

  Expression& out_;
  std::string_view text_;
  std::span<const Dimension> dimensions_;
  std::optional<std::int64_t> element_;
  std::size_t at_ = 0;
  int depth_ = 0;
  bool words_are_texts_ = false;
  std::vector<std::string> texts_;
};

Expression::Expression(std::string_view text, std::span<const Dimension> dimensions, std::optional<std::int64_t> element) {
  ExpressionParser(*this, text, dimensions, element).parse();
}

}  // namespace tugline::sweep
