// Programs token by token: the words read into instructions, and what these do.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "core/core.h"
#include "rasp/rasp.h"
#include "rasp/stream_states.h"

namespace legato::rasp {
namespace {

constexpr Int kVersion = 1;

/// Reads words; what goes beyond the end, or is out of its range, spoils it.
struct Reader {
  Words words;
  std::size_t at = 0;
  bool good = true;

  Int next() noexcept {
    if (at < words.size()) return words[at++];
    good = false;
    return 0;
  }
  Int within(Int low, Int high) noexcept {
    const Int x = next();
    good = good && low <= x && x <= high;
    return good ? x : low;
  }
  /// A number of things that take at least `each` words.
  std::size_t number(std::size_t each) noexcept {
    return static_cast<std::size_t>(within(0, static_cast<Int>((words.size() - std::min(at, words.size())) / each)));
  }
};

struct Instruction {
  Op op;
  std::size_t a, b, c;
  Aggregate* aggregate;
};

std::size_t operands_of(Op op) noexcept {
  switch (op) {
    case Op::tokens:
    case Op::indices:
    case Op::constant:
    case Op::aggregate:
      return 0;
    case Op::neg:
    case Op::abs:
    case Op::invert:
    case Op::logical_not:
    case Op::truth:
    case Op::real:
    case Op::exact:
    case Op::integer:
    case Op::real_neg:
    case Op::real_abs:
    case Op::real_truth:
      return 1;
    case Op::where:
      return 3;
    default:
      return 2;
  }
}

bool is_order(Compare compare) noexcept { return compare >= Compare::less && compare <= Compare::greater_equal; }

}  // namespace

class Stream {
 public:
  std::size_t capacity = 0, length = 0, number = 0;
  bool gives_real = false, failed = false;
  Instruction* instruction = nullptr;
  Int *columns = nullptr, *history = nullptr;

  /// Reads a program and takes what it needs from the arena; without memory there, it only counts.
  bool lay_out(Words words, Arena& arena) noexcept {
    Reader reader{words};
    if (reader.next() != kVersion) return false;
    number = reader.number(1);
    gives_real = reader.within(0, 1) != 0;
    if (!reader.good || number == 0 || capacity > static_cast<std::size_t>(std::numeric_limits<Id>::max() / 2)) {
      return false;
    }
    instruction = arena.take<Instruction>(number);
    columns = arena.take<Int>(Size{number} * kChunk);
    history = arena.take<Int>(capacity);
    for (std::size_t at = 0; at < number && reader.good; ++at) {
      const auto op = static_cast<Op>(reader.within(0, static_cast<Int>(Op::aggregate)));
      Instruction found{op, 0, 0, 0, nullptr};
      std::size_t* operand[] = {&found.a, &found.b, &found.c};
      for (std::size_t k = 0; k < operands_of(op); ++k) *operand[k] = column(reader, at);
      if (op == Op::constant) {
        const Int bits = reader.next();
        if (columns != nullptr) std::fill_n(columns + at * kChunk, kChunk, bits);
      } else if (op == Op::aggregate) {
        found.aggregate = lay_out_aggregate(reader, at, arena);
      }
      if (instruction != nullptr) instruction[at] = found;
    }
    return reader.good && reader.at == words.size();
  }

  void clear() noexcept {
    length = 0;
    failed = false;
    for (std::size_t at = 0; at < number; ++at) {
      if (instruction[at].aggregate != nullptr) instruction[at].aggregate->clear();
    }
  }

  /// At most kChunk tokens.
  bool run(const Int* tokens, std::size_t count, Int* out) noexcept {
    std::copy_n(tokens, count, history + length);
    for (std::size_t at = 0; at < number; ++at) {
      if (!run(instruction[at], columns + at * kChunk, tokens, count)) return false;
    }
    std::copy_n(columns + (number - 1) * kChunk, count, out);
    length += count;
    return true;
  }

 private:
  static std::size_t column(Reader& reader, std::size_t before) noexcept {
    return static_cast<std::size_t>(reader.within(0, static_cast<Int>(before) - 1));
  }
  static StreamTerm term_of(Reader& reader, std::size_t before) noexcept {
    StreamTerm term{};
    term.key = column(reader, before);
    term.query = column(reader, before);
    term.compare = static_cast<Compare>(reader.within(0, static_cast<Int>(Compare::never)));
    return term;
  }

  Aggregate* lay_out_aggregate(Reader& reader, std::size_t before, Arena& arena) noexcept {
    Aggregate found;
    const Int value = reader.within(-1, static_cast<Int>(before) - 1);
    found.valued = value >= 0;
    found.value = found.valued ? static_cast<std::size_t>(value) : 0;
    found.reduction = static_cast<Reduction>(reader.within(0, static_cast<Int>(Reduction::sum)));
    found.rounding = static_cast<Rounding>(reader.within(0, 2));
    found.fallback = reader.next();
    found.extreme = found.reduction == Reduction::max || found.reduction == Reduction::min;
    found.flip = found.reduction == Reduction::min ? -1 : 0;
    if (found.valued == (found.reduction == Reduction::width)) reader.good = false;
    const bool formula = reader.within(0, 1) == 1;
    found.parts = formula ? 1 : reader.number(2);
    Aggregate* out = arena.take<Aggregate>(1);
    found.part = arena.take<Part>(found.parts);
    for (std::size_t p = 0; p < found.parts && reader.good; ++p) {
      Part part;
      formula ? lay_out_formula(part, found, reader, before, arena)
              : lay_out_conjunction(part, found, reader, before, arena);
      if (found.part != nullptr) found.part[p] = part;
    }
    if (out != nullptr) *out = found;
    return out;
  }

  void lay_out_formula(Part& part, const Aggregate& of, Reader& reader, std::size_t before, Arena& arena) noexcept {
    part.kind = Kind::scan;
    Scan& scan = part.scan;
    scan.terms = reader.number(3);
    Reader ahead = reader;  // past the terms, to the number of codes
    for (std::size_t k = 0; k < scan.terms; ++k) term_of(ahead, before);
    scan.codes = ahead.number(1);
    if (!ahead.good) return void(reader.good = false);
    scan.lay_out(arena, capacity, of.valued);
    for (std::size_t k = 0; k < scan.terms; ++k) {
      const StreamTerm term = term_of(reader, before);
      if (scan.term != nullptr) scan.term[k] = term;
    }
    reader.next();
    std::size_t depth = 0;
    for (std::size_t k = 0; k < scan.codes; ++k) {
      const Int code = reader.within(kNot, static_cast<Int>(scan.terms) - 1);
      if (code >= 0) {
        ++depth;
      } else if (depth < (code == kNot ? 1u : 2u)) {
        reader.good = false;
      } else if (code != kNot) {
        --depth;
      }
      if (depth > kFormulaDepth) reader.good = false;
      if (scan.code != nullptr) scan.code[k] = static_cast<int>(code);
    }
    if (depth != 1) reader.good = false;
  }

  /// What has no better state is looked at key by key.
  void lay_out_conjunction(Part& part, const Aggregate& of, Reader& reader, std::size_t before, Arena& arena) noexcept {
    part.sign = reader.next() < 0 ? -1 : 1;
    const std::size_t terms = reader.number(3);
    Reader again = reader;
    std::size_t others = 0;
    bool fast = true;
    for (std::size_t k = 0; k < terms; ++k) {
      const StreamTerm term = term_of(reader, before);
      if (term.compare == Compare::equal && part.groups.fields < kMostFields) {
        part.groups.field[part.groups.fields++] = {term.key, term.query};
      } else if (is_order(term.compare) && part.ordered.orders < 2) {
        const bool flip = term.compare >= Compare::greater;
        const bool inclusive = term.compare == Compare::less_equal || term.compare == Compare::greater_equal;
        part.ordered.order[part.ordered.orders++] = {term.key, term.query, flip, inclusive};
      } else if (term.compare == Compare::not_equal) {
        part.groups.field[0] = {term.key, term.query};
        ++others;
      } else if (term.compare != Compare::always) {
        fast = false;
      }
    }
    if (!fast || others > 1 || (others == 1 && part.groups.fields + part.ordered.orders > 0)) {
      part.groups.fields = part.ordered.orders = 0;
      part.kind = Kind::scan;
      Scan& scan = part.scan;
      scan.terms = terms;
      scan.codes = 2 * terms - 1;
      scan.lay_out(arena, capacity, of.valued);
      for (std::size_t k = 0; k < terms; ++k) {
        const StreamTerm term = term_of(again, before);
        if (scan.term == nullptr || scan.code == nullptr) continue;
        scan.term[k] = term;
        scan.code[k == 0 ? 0 : 2 * k - 1] = static_cast<int>(k);
        if (k > 0) scan.code[2 * k] = kAnd;
      }
      return;
    }
    if (others == 1) {
      part.groups.fields = 1;
      part.kind = Kind::others;
    }
    part.groups.lay_out(arena, capacity);
    if (part.ordered.orders > 0) {
      part.kind = Kind::ordered;
      part.ordered.valued = of.valued;
      part.ordered.extreme = of.extreme;
      part.ordered.lay_out(arena, capacity, part.groups.fields > 0);
    } else {
      part.cells = arena.take<Cell>(part.groups.fields > 0 ? std::max<std::size_t>(capacity, 1) : 1);
    }
  }

  bool run(const Instruction& does, Int* out, const Int* tokens, std::size_t count) const noexcept;
};

namespace {

double real_of(Int bits) noexcept { return std::bit_cast<double>(bits); }

template <class Each>
bool whole(Int* out, std::size_t count, const Each& each) noexcept {
  for (std::size_t t = 0; t < count; ++t) out[t] = each(t);
  return true;
}

/// `each(t, out)` says whether the result is one.
template <class Each>
bool checked(Int* out, std::size_t count, const Each& each) noexcept {
  bool sound = true;
  for (std::size_t t = 0; t < count; ++t) sound = each(t, out[t]) && sound;
  return sound;
}

bool divided(Int a, Int b, Int& quotient, Int& rest) noexcept {
  if (b == 0 || (b == -1 && a == kNone)) return false;
  quotient = a / b;
  rest = a % b;
  if (rest != 0 && (rest < 0) != (b < 0)) --quotient, rest += b;  // down, as Python does
  return true;
}

bool raised(Int base, Int exponent, Int& out) noexcept {
  if (exponent < 0) return false;
  Int power = 1, square = base;
  for (Int rest = exponent; rest > 0; rest /= 2) {
    if (rest % 2 != 0 && __builtin_mul_overflow(power, square, &power)) return false;
    if (rest > 1 && __builtin_mul_overflow(square, square, &square)) return false;
  }
  out = power;
  return true;
}

}  // namespace

bool Stream::run(const Instruction& does, Int* out, const Int* tokens, std::size_t count) const noexcept {
  const Int *a = columns + does.a * kChunk, *b = columns + does.b * kChunk, *c = columns + does.c * kChunk;
  const auto ra = [&](std::size_t t) { return real_of(a[t]); };
  const auto rb = [&](std::size_t t) { return real_of(b[t]); };
  const auto bits = [](double x) { return std::bit_cast<Int>(x); };
  Int ignored;
  switch (does.op) {
    case Op::tokens:
      std::copy_n(tokens, count, out);
      return true;
    case Op::indices:
      return whole(out, count, [&](std::size_t t) { return static_cast<Int>(length + t); });
    case Op::constant:
      return true;
    case Op::add:
      return checked(out, count, [&](std::size_t t, Int& x) { return !__builtin_add_overflow(a[t], b[t], &x); });
    case Op::sub:
      return checked(out, count, [&](std::size_t t, Int& x) { return !__builtin_sub_overflow(a[t], b[t], &x); });
    case Op::mul:
      return checked(out, count, [&](std::size_t t, Int& x) { return !__builtin_mul_overflow(a[t], b[t], &x); });
    case Op::floordiv:
      return checked(out, count, [&](std::size_t t, Int& x) { return divided(a[t], b[t], x, ignored); });
    case Op::mod:
      return checked(out, count, [&](std::size_t t, Int& x) {
        if (b[t] == -1) return x = 0, true;
        return divided(a[t], b[t], ignored, x);
      });
    case Op::pow:
      return checked(out, count, [&](std::size_t t, Int& x) { return raised(a[t], b[t], x); });
    case Op::equal:
      return whole(out, count, [&](std::size_t t) { return a[t] == b[t]; });
    case Op::not_equal:
      return whole(out, count, [&](std::size_t t) { return a[t] != b[t]; });
    case Op::less:
      return whole(out, count, [&](std::size_t t) { return a[t] < b[t]; });
    case Op::less_equal:
      return whole(out, count, [&](std::size_t t) { return a[t] <= b[t]; });
    case Op::greater:
      return whole(out, count, [&](std::size_t t) { return a[t] > b[t]; });
    case Op::greater_equal:
      return whole(out, count, [&](std::size_t t) { return a[t] >= b[t]; });
    case Op::bit_and:
      return whole(out, count, [&](std::size_t t) { return a[t] & b[t]; });
    case Op::bit_or:
      return whole(out, count, [&](std::size_t t) { return a[t] | b[t]; });
    case Op::bit_xor:
      return whole(out, count, [&](std::size_t t) { return a[t] ^ b[t]; });
    case Op::neg:
      return checked(out, count, [&](std::size_t t, Int& x) { return !__builtin_sub_overflow(Int{0}, a[t], &x); });
    case Op::abs:
      return checked(out, count, [&](std::size_t t, Int& x) {
        return a[t] < 0 ? !__builtin_sub_overflow(Int{0}, a[t], &x) : (x = a[t], true);
      });
    case Op::invert:
      return whole(out, count, [&](std::size_t t) { return ~a[t]; });
    case Op::logical_not:
      return whole(out, count, [&](std::size_t t) { return a[t] == 0; });
    case Op::truth:
      return whole(out, count, [&](std::size_t t) { return a[t] != 0; });
    case Op::where:
      return whole(out, count, [&](std::size_t t) { return a[t] != 0 ? b[t] : c[t]; });
    case Op::real:
      return whole(out, count, [&](std::size_t t) { return bits(static_cast<double>(a[t])); });
    case Op::exact:
      return checked(out, count, [&](std::size_t t, Int& x) {
        x = bits(static_cast<double>(a[t]));
        return a[t] >= -kExact && a[t] <= kExact;
      });
    case Op::integer:
      return checked(out, count, [&](std::size_t t, Int& x) {
        const double r = std::trunc(ra(t));
        const bool fits = r >= -0x1p63 && r < 0x1p63;
        x = fits ? static_cast<Int>(r) : 0;
        return fits;
      });
    case Op::real_add:
      return whole(out, count, [&](std::size_t t) { return bits(ra(t) + rb(t)); });
    case Op::real_sub:
      return whole(out, count, [&](std::size_t t) { return bits(ra(t) - rb(t)); });
    case Op::real_mul:
      return whole(out, count, [&](std::size_t t) { return bits(ra(t) * rb(t)); });
    case Op::real_div:
      return checked(out, count, [&](std::size_t t, Int& x) { return x = bits(ra(t) / rb(t)), rb(t) != 0; });
    case Op::real_equal:
      return whole(out, count, [&](std::size_t t) { return ra(t) == rb(t); });
    case Op::real_not_equal:
      return whole(out, count, [&](std::size_t t) { return ra(t) != rb(t); });
    case Op::real_less:
      return whole(out, count, [&](std::size_t t) { return ra(t) < rb(t); });
    case Op::real_less_equal:
      return whole(out, count, [&](std::size_t t) { return ra(t) <= rb(t); });
    case Op::real_greater:
      return whole(out, count, [&](std::size_t t) { return ra(t) > rb(t); });
    case Op::real_greater_equal:
      return whole(out, count, [&](std::size_t t) { return ra(t) >= rb(t); });
    case Op::real_neg:
      return whole(out, count, [&](std::size_t t) { return bits(-ra(t)); });
    case Op::real_abs:
      return whole(out, count, [&](std::size_t t) { return bits(std::abs(ra(t))); });
    case Op::real_truth:
      return whole(out, count, [&](std::size_t t) { return ra(t) != 0; });
    case Op::aggregate:
      return does.aggregate->run(columns, count, out);
  }
  return false;
}

std::size_t stream_memory_size(Words program, std::size_t capacity) noexcept {
  Arena arena;
  Stream stream;
  stream.capacity = capacity;
  arena.take<Stream>(1);
  return stream.lay_out(program, arena) ? arena.size() : 0;
}

Stream* create_stream(Words program, std::size_t capacity, std::span<std::byte> memory) noexcept {
  if (!is_enough(memory, stream_memory_size(program, capacity))) return nullptr;
  Arena arena(memory);
  Stream* stream = arena.take<Stream>(1);
  *stream = Stream{};
  stream->capacity = capacity;
  stream->lay_out(program, arena);
  stream->clear();
  return stream;
}

void reset(Stream& stream) noexcept { stream.clear(); }

std::span<const Int> tokens_of(const Stream& stream) noexcept { return {stream.history, stream.length}; }

std::size_t capacity_of(const Stream& stream) noexcept { return stream.capacity; }

bool gives_real(const Stream& stream) noexcept { return stream.gives_real; }

Status push(Stream& stream, std::span<const Int> tokens, std::span<Int> out) noexcept {
  if (out.size() != tokens.size()) return Status::invalid_argument;
  if (tokens.size() > stream.capacity - stream.length) return Status::workspace_too_small;
  if (stream.failed) return Status::numerical_trouble;
  for (std::size_t begin = 0; begin < tokens.size(); begin += kChunk) {
    if (begin > 0 && cancelled()) return Status::cancelled;
    const std::size_t count = std::min(kChunk, tokens.size() - begin);
    if (!stream.run(tokens.data() + begin, count, out.data() + begin)) {
      stream.failed = true;
      return Status::numerical_trouble;
    }
  }
  return Status::ok;
}

Status generate(Stream& stream, Int token, const Int* stop, std::span<Int> out, std::size_t& written) noexcept {
  constexpr std::size_t kStretch = 1024;
  written = 0;
  if (stream.gives_real) return Status::invalid_argument;
  for (std::size_t end = 0; goes_on(written, end, out.size(), kStretch);) {
    while (written < end) {
      const Status status = push(stream, {&token, 1}, out.subspan(written, 1));
      if (status != Status::ok) return status;
      token = out[written++];
      if (stop != nullptr && token == *stop) return Status::ok;
    }
  }
  return outcome();
}

}  // namespace legato::rasp
