#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "legato/rft.hpp"

namespace legato::rft {
namespace {

/// One walk over a text of lines; nothing is checked inside of values that nobody asked for but strings and brackets.
class Walk {
 public:
  Walk(std::string_view text, std::span<const JsonPath> paths, std::span<JsonField> fields)
      : start_(text.data()), at_(start_), end_(start_ + text.size()), paths_(paths), fields_(fields) {}

  /// Fields of the line's object into `row`; false if it is none, or is not closed.
  bool line(std::size_t row) {
    row_ = row;
    if (*at_ != '{' || !object(0, paths_.size() < 32 ? (1U << paths_.size()) - 1 : ~0U)) return false;
    skip_blanks();
    return at_ == end_ || *at_ == '\n';
  }

  /// To the next line that is not blank; false if there is none.
  bool next() {
    while (at_ < end_ && (blank(*at_) || *at_ == '\n')) ++at_;
    return at_ < end_;
  }

  std::size_t place() const { return static_cast<std::size_t>(at_ - start_); }

 private:
  static bool blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }
  void skip_blanks() {
    while (at_ < end_ && blank(*at_)) ++at_;
  }
  bool is(char c) const { return at_ < end_ && *at_ == c; }

  /// Past the closing quote.
  bool string(bool& escaped) {
    const char* const open = at_++;
    for (const char* from = at_;;) {
      const void* found = from < end_ ? std::memchr(from, '"', static_cast<std::size_t>(end_ - from)) : nullptr;
      if (found == nullptr) return false;
      const char* quote = static_cast<const char*>(found);
      const char* slash = quote;
      while (slash - 1 > open && slash[-1] == '\\') --slash;
      if ((quote - slash) % 2 == 0) {
        at_ = quote + 1;
        break;
      }
      from = quote + 1;
    }
    const auto inside = static_cast<std::size_t>(at_ - open - 2);
    if (std::memchr(open + 1, '\n', inside) != nullptr) return false;
    escaped = std::memchr(open + 1, '\\', inside) != nullptr;
    return true;
  }

  bool nested() {
    bool escaped = false;
    for (int depth = 0; at_ < end_;) {
      const char c = *at_;
      if (c == '"') {
        if (!string(escaped)) return false;
        continue;
      }
      if (c == '\n') return false;
      ++at_;
      if (c == '{' || c == '[') ++depth;
      if ((c == '}' || c == ']') && --depth == 0) return true;
    }
    return false;
  }

  bool value(JsonKind& kind) {
    if (at_ == end_) return false;
    const char* const from = at_;
    bool escaped = false;
    switch (*from) {
      case '"':
        if (!string(escaped)) return false;
        kind = escaped ? JsonKind::escaped : JsonKind::text;
        return true;
      case '{':
        kind = JsonKind::object;
        return nested();
      case '[':
        kind = JsonKind::array;
        return nested();
      default:
        while (at_ < end_ && *at_ != ',' && *at_ != '}' && *at_ != ']' && !blank(*at_) && *at_ != '\n') ++at_;
    }
    const std::string_view token(from, static_cast<std::size_t>(at_ - from));
    kind = token == "null"                          ? JsonKind::null
           : token == "true" || token == "false"    ? JsonKind::boolean
           : !token.empty() && token.front() != '+' ? JsonKind::number
                                                    : JsonKind::missing;
    return kind != JsonKind::missing && (kind != JsonKind::number || number(token));
  }

  /// What Python's json reads as a number, NaN and infinities with it; its digits are checked by who converts them.
  static bool number(std::string_view token) {
    if (token == "NaN" || token == "Infinity" || token == "-Infinity") return true;
    return token.find_first_not_of("0123456789.eE+-") == std::string_view::npos;
  }

  bool object(std::size_t depth, std::uint32_t wanted) {
    ++at_;
    skip_blanks();
    if (is('}')) return ++at_, true;
    for (;;) {
      skip_blanks();
      bool escaped = false;
      if (!is('"')) return false;
      const char* const key_start = at_ + 1;
      if (!string(escaped)) return false;
      const std::string_view key(key_start, static_cast<std::size_t>(at_ - key_start - 1));
      skip_blanks();
      if (!is(':')) return false;
      ++at_;
      skip_blanks();
      std::uint32_t here = 0, deeper = 0;
      for (std::size_t path = 0; path < paths_.size(); ++path) {
        if ((wanted >> path & 1) == 0 || paths_[path][depth] != key) continue;
        (paths_[path].size() == depth + 1 ? here : deeper) |= 1U << path;
      }
      const char* const from = at_;
      JsonKind kind = JsonKind::object;
      if (!(deeper != 0 && is('{') ? object(depth + 1, deeper) : value(kind))) return false;
      for (std::size_t path = 0; here != 0 && path < paths_.size(); ++path) {
        if ((here >> path & 1) == 0) continue;
        const int quote = kind == JsonKind::text || kind == JsonKind::escaped ? 1 : 0;
        fields_[row_ * paths_.size() + path] = {from - start_ + quote, at_ - start_ - quote, kind};
      }
      skip_blanks();
      if (is('}')) return ++at_, true;
      if (!is(',')) return false;
      ++at_;
    }
  }

  const char *start_, *at_, *end_;
  std::span<const JsonPath> paths_;
  std::span<JsonField> fields_;
  std::size_t row_ = 0;
};

}  // namespace

Status find_json_fields(std::string_view text, std::span<const JsonPath> paths, std::span<JsonField> fields,
                        std::size_t& rows, std::size_t& bad) noexcept {
  rows = 0;
  bad = text.size();
  if (paths.empty() || paths.size() > 32) return Status::invalid_argument;
  for (const JsonPath& path : paths) {
    if (path.empty()) return Status::invalid_argument;
  }
  Walk walk(text, paths, fields);
  while (walk.next()) {
    if ((rows + 1) * paths.size() > fields.size()) return Status::workspace_too_small;
    for (std::size_t path = 0; path < paths.size(); ++path) {
      const auto at = static_cast<std::int64_t>(walk.place());
      fields[rows * paths.size() + path] = {at, at, JsonKind::missing};
    }
    const std::size_t start = walk.place();
    if (!walk.line(rows)) {
      bad = start;
      return Status::not_finite;
    }
    ++rows;
  }
  return Status::ok;
}

}  // namespace legato::rft
