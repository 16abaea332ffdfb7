// Programs token by token: the instructions, and for each aggregation the state from which a query is answered.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>

#include "core/core.h"
#include "rasp/rasp.h"

namespace legato::rasp {
namespace {

/// Keys of one term so far, and what they are compared with.
struct Column {
  const Int* key;
  Int query;
  Compare compare;
};

/// Of the keys that are selected: how many, the sum of their values, or the largest.
struct Found {
  Int count = 0;
  Int128 sum = 0;
  Int best = kNone;

  void add(Int n, Int128 total, bool extreme) noexcept {
    if (n == 0) return;
    count += n;
    if (extreme) {
      best = std::max(best, static_cast<Int>(total));
    } else {
      sum += total;
    }
  }
};

}  // namespace
}  // namespace legato::rasp

#define LEGATO_REGION_FILE "rasp/stream-inl.h"
#include "core/isa_region.h"

namespace legato::rasp {
namespace {

constexpr Int kVersion = 1;
constexpr std::size_t kChunk = 64;      // tokens that pass an instruction together
constexpr std::size_t kTail = 256;      // newest keys of an ordering, looked at one by one
constexpr std::size_t kRun = 16;        // items of a block that are looked at one by one
constexpr std::size_t kMostFields = 8;  // equalities that make a group
constexpr int kMostLevels = 32;
constexpr Int kExact = Int{1} << 53;  // integers up to this are doubles
constexpr Int kSmall = Int{1} << 54;  // kTail of them add up in 64 bits

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

// --- Groups: tuples of keys, numbered as they appear ----------------------------------------------------------------

struct Field {
  std::size_t key, query;  // columns
};

struct Groups {
  std::size_t fields = 0;
  Field field[kMostFields];
  Int* keys = nullptr;  // of each group
  Id* slots = nullptr;  // hash table of groups, -1: free
  std::size_t size = 0;
  Id number = 0;

  void lay_out(Arena& arena, std::size_t capacity) noexcept {
    if (fields == 0) return;
    size = std::bit_ceil(2 * std::max<std::size_t>(capacity, 8));
    keys = arena.take<Int>(Size{fields} * capacity);
    slots = arena.take<Id>(size);
  }
  void clear() noexcept {
    number = 0;
    if (fields > 0) std::fill_n(slots, size, Id{-1});
  }
  /// The slot of a tuple, or the free one where it belongs.
  Id& find(const Int* tuple) const noexcept {
    std::uint64_t hash = 0;
    for (std::size_t f = 0; f < fields; ++f) {
      hash = (hash ^ static_cast<std::uint64_t>(tuple[f])) * 0x9E3779B97F4A7C15u;
      hash ^= hash >> 29;
    }
    std::size_t at = hash & (size - 1);
    while (slots[at] >= 0 && !std::equal(tuple, tuple + fields, keys + static_cast<std::size_t>(slots[at]) * fields)) {
      at = (at + 1) & (size - 1);
    }
    return slots[at];
  }
  /// The group of a new key.
  Id of_key(const Int* columns, std::size_t t) noexcept {
    if (fields == 0) return number = 0;
    Int tuple[kMostFields];
    for (std::size_t f = 0; f < fields; ++f) tuple[f] = columns[field[f].key * kChunk + t];
    Id& slot = find(tuple);
    if (slot < 0) {
      slot = number++;
      std::copy_n(tuple, fields, keys + static_cast<std::size_t>(slot) * fields);
    }
    return slot;
  }
  /// The group that a query asks for, or -1.
  Id of_query(const Int* columns, std::size_t t) const noexcept {
    if (fields == 0) return 0;
    Int tuple[kMostFields];
    for (std::size_t f = 0; f < fields; ++f) tuple[f] = columns[field[f].query * kChunk + t];
    return find(tuple);
  }
};

// --- Totals: always, equal, not_equal ------------------------------------------------------------------------------

struct Cell {
  Int count;
  Int128 total;

  void clear(bool extreme) noexcept { count = 0, total = extreme ? Int128{kNone} : 0; }
  void add(Int value, bool extreme) noexcept {
    ++count;
    total = extreme ? std::max(total, Int128{value}) : total + value;
  }
};

/// Every key but those of one group: all totals less its own; of an extreme, the best of the best group, or of the
/// rest.
struct Others {
  Cell every, first, second;
  Id first_group = -1;

  void clear(bool extreme) noexcept {
    every.clear(extreme), first.clear(extreme), second.clear(extreme);
    first_group = -1;
  }
  void add(Id group, Int value) noexcept {
    if (group == first_group) return first.add(value, true);
    if (first_group < 0 || value > first.total) {
      second = std::exchange(first, Cell{1, value});
      first_group = group;
    } else {
      second.add(value, true);
    }
  }
};

// --- Orderings: sorted blocks of doubling size, and the newest keys -------------------------------------------------

struct Order {
  std::size_t key, query;  // columns
  bool flip, inclusive;    // keys are complemented where the greater ones are selected

  Int key_of(const Int* columns, std::size_t t) const noexcept {
    const Int x = columns[key * kChunk + t];
    return flip ? ~x : x;
  }
  /// The largest key that is selected; false where none is.
  bool bound_of(const Int* columns, std::size_t t, Int& bound) const noexcept {
    const Int x = columns[query * kChunk + t];
    bound = flip ? ~x : x;
    if (inclusive) return true;
    if (bound == kNone) return false;
    --bound;
    return true;
  }
};

struct Item {
  Int group, key, other, value;  // other: the key of a second ordering
};

bool before(const Item& a, const Item& b) noexcept {
  return a.group < b.group || (a.group == b.group && a.key < b.key);
}

struct Pair {
  Int other, value;
};

/// The runs of kRun << level items of every block, each sorted by the second key, with totals from its start.
struct Level {
  Int* other;
  Int128* total;
};

struct Ordered {
  std::size_t orders = 0;
  Order order[2];
  bool valued = false, extreme = false;
  Int *tail_group = nullptr, *tail_key = nullptr, *tail_other = nullptr, *tail_value = nullptr;
  Item *items = nullptr, *spare = nullptr;
  Int128* totals = nullptr;  // of one ordering: from the start of the item's group in its block
  Pair *pairs = nullptr, *spare_pairs = nullptr;
  Level level[kMostLevels];
  std::size_t tail = 0, blocks = 0;
  std::size_t start[kMostLevels + 2];  // of each block, and the end
  bool wide = false;

  void lay_out(Arena& arena, std::size_t capacity, bool grouped) noexcept {
    const std::size_t n = capacity / kTail * kTail;
    const std::size_t newest = std::min(kTail, std::max<std::size_t>(capacity, 1));
    if (grouped) tail_group = arena.take<Int>(newest);
    tail_key = arena.take<Int>(newest);
    if (orders == 2) tail_other = arena.take<Int>(newest);
    if (valued) tail_value = arena.take<Int>(newest);
    if (n == 0) return;
    items = arena.take<Item>(n);
    spare = arena.take<Item>(n);
    if (orders == 1) {
      totals = arena.take<Int128>(n);
      return;
    }
    pairs = arena.take<Pair>(n);
    spare_pairs = arena.take<Pair>(n);
    for (int l = 0; l < kMostLevels && (kRun << l) <= n; ++l) level[l] = {arena.take<Int>(n), arena.take<Int128>(n)};
  }
  void clear() noexcept {
    tail = blocks = 0;
    start[0] = 0;
    wide = false;
  }
  Int128 joined(Int128 total, Int value) const noexcept {
    return extreme ? std::max(total, Int128{value}) : total + value;
  }

  void add(Id group, const Int* columns, std::size_t t, Int value) noexcept {
    if (tail_group != nullptr) tail_group[tail] = group;
    tail_key[tail] = order[0].key_of(columns, t);
    if (orders == 2) tail_other[tail] = order[1].key_of(columns, t);
    if (valued) tail_value[tail] = value;
    wide = wide || value >= kSmall || value <= -kSmall;
    if (++tail == kTail) flush();
  }
  void flush() noexcept {
    const std::size_t at = start[blocks];
    for (std::size_t j = 0; j < kTail; ++j) {
      items[at + j] = {tail_group != nullptr ? tail_group[j] : 0, tail_key[j], orders == 2 ? tail_other[j] : 0,
                       valued ? tail_value[j] : 0};
    }
    tail = 0;
    std::sort(items + at, items + at + kTail, before);
    start[++blocks] = at + kTail;
    while (blocks > 1 && start[blocks] - start[blocks - 1] == start[blocks - 1] - start[blocks - 2]) {
      const std::size_t a = start[blocks - 2], b = start[blocks - 1], c = start[blocks];
      std::merge(items + a, items + b, items + b, items + c, spare, before);
      std::copy_n(spare, c - a, items + a);
      start[--blocks] = c;
    }
    orders == 2 ? sort_runs(start[blocks - 1], start[blocks]) : add_up(start[blocks - 1], start[blocks]);
  }
  void add_up(std::size_t begin, std::size_t end) noexcept {
    for (std::size_t i = begin; i < end; ++i) {
      const bool first = i == begin || items[i].group != items[i - 1].group;
      totals[i] = first ? Int128{items[i].value} : joined(totals[i - 1], items[i].value);
    }
  }
  void sort_runs(std::size_t begin, std::size_t end) noexcept {
    const auto by_other = [](const Pair& a, const Pair& b) { return a.other < b.other; };
    for (std::size_t i = begin; i < end; ++i) pairs[i] = {items[i].other, items[i].value};
    for (int l = 0; (kRun << l) <= end - begin; ++l) {
      const std::size_t size = kRun << l;
      for (std::size_t i = begin; i < end; i += size) {
        if (l == 0) {
          std::sort(pairs + i, pairs + i + size, by_other);
        } else {
          std::merge(pairs + i, pairs + i + size / 2, pairs + i + size / 2, pairs + i + size, spare_pairs + i,
                     by_other);
        }
      }
      if (l > 0) std::swap(pairs, spare_pairs);
      for (std::size_t i = begin; i < end; ++i) {
        level[l].other[i] = pairs[i].other;
        const bool first = (i - begin) % size == 0;
        level[l].total[i] = first ? Int128{pairs[i].value} : joined(level[l].total[i - 1], pairs[i].value);
      }
    }
  }

  void ask(Id group, const Int* columns, std::size_t t, Found& found) const noexcept {
    Int bound = 0, other = 0;
    if (!order[0].bound_of(columns, t, bound)) return;
    if (orders == 2 && !order[1].bound_of(columns, t, other)) return;
    for (std::size_t b = 0; b < blocks; ++b) {
      const Item *begin = items + start[b], *end = items + start[b + 1];
      if (tail_group != nullptr) begin = std::lower_bound(begin, end, Item{group, kNone, 0, 0}, before);
      end = std::upper_bound(begin, end, Item{group, bound, 0, 0}, before);
      if (begin == end) continue;
      if (orders == 1) {
        found.add(end - begin, totals[end - items - 1], extreme);
      } else {
        ask_runs(start[b], static_cast<std::size_t>(begin - items) - start[b],
                 static_cast<std::size_t>(end - items) - start[b], other, found);
      }
    }
    static constexpr int kTerms[] = {0, 1, kAnd, 2, kAnd};
    Column terms[3];
    std::size_t n = 0;
    terms[n++] = {tail_key, bound, Compare::less_equal};
    if (orders == 2) terms[n++] = {tail_other, other, Compare::less_equal};
    if (tail_group != nullptr) terms[n++] = {tail_group, group, Compare::equal};
    LEGATO_DISPATCH(scan, {terms, n}, {kTerms, 2 * n - 1}, tail, tail_value, extreme, wide, found);
  }
  /// Items [x, y) of the block at `base`, whose second key is at most `bound`: whole runs, as large as they may be.
  void ask_runs(std::size_t base, std::size_t x, std::size_t y, Int bound, Found& found) const noexcept {
    while (x < y) {
      if (x % kRun != 0 || y - x < kRun) {
        for (const std::size_t end = std::min(y, x / kRun * kRun + kRun); x < end; ++x) {
          const Item& item = items[base + x];
          if (item.other <= bound) found.add(1, item.value, extreme);
        }
        continue;
      }
      const int aligned = x == 0 ? kMostLevels : std::countr_zero(x / kRun);
      const int l = std::min(aligned, static_cast<int>(std::bit_width((y - x) / kRun)) - 1);
      const Int *begin = level[l].other + base + x, *end = std::upper_bound(begin, begin + (kRun << l), bound);
      if (begin != end) found.add(end - begin, level[l].total[end - level[l].other - 1], extreme);
      x += kRun << l;
    }
  }
};

// --- Aggregations --------------------------------------------------------------------------------------------------

struct StreamTerm {
  std::size_t key, query;
  Compare compare;
};

/// Any formula: every key so far.
struct Scan {
  std::size_t terms = 0, codes = 0;
  StreamTerm* term = nullptr;
  Column* column = nullptr;
  Int** keys = nullptr;  // terms x capacity
  int* code = nullptr;
  Int* value = nullptr;
  std::size_t seen = 0;

  void lay_out(Arena& arena, std::size_t capacity, bool valued) noexcept {
    term = arena.take<StreamTerm>(terms);
    column = arena.take<Column>(terms);
    keys = arena.take<Int*>(terms);
    code = arena.take<int>(codes);
    for (std::size_t k = 0; k < terms; ++k) {
      Int* of_term = arena.take<Int>(capacity);
      if (of_term != nullptr) keys[k] = of_term;
    }
    if (valued) value = arena.take<Int>(capacity);
  }
  void add(const Int* columns, std::size_t t, Int x) noexcept {
    for (std::size_t k = 0; k < terms; ++k) keys[k][seen] = columns[term[k].key * kChunk + t];
    if (value != nullptr) value[seen] = x;
    ++seen;
  }
  void ask(const Int* columns, std::size_t t, bool extreme, Found& found) noexcept {
    for (std::size_t k = 0; k < terms; ++k) {
      column[k] = {keys[k], columns[term[k].query * kChunk + t], term[k].compare};
    }
    LEGATO_DISPATCH(scan, {column, terms}, {code, codes}, seen, value, extreme, true, found);
  }
};

enum class Kind { totals, others, ordered, scan };

/// One signed conjunction of an aggregation, or its formula.
struct Part {
  Kind kind = Kind::totals;
  int sign = 1;
  Groups groups;
  Cell* cells = nullptr;  // of each group
  Others others;
  Ordered ordered;
  Scan scan;
};

struct Aggregate {
  std::size_t value = 0;
  bool valued = false, extreme = false;
  Int flip = 0;  // -1: values are complemented, so that max finds the min
  Reduction reduction = Reduction::width;
  Rounding rounding = Rounding::truncate;
  Int fallback = 0;
  std::size_t parts = 0;
  Part* part = nullptr;

  void clear() noexcept {
    for (std::size_t p = 0; p < parts; ++p) {
      part[p].groups.clear();
      part[p].others.clear(extreme);
      part[p].ordered.clear();
      part[p].scan.seen = 0;
      if (part[p].kind == Kind::totals && part[p].groups.fields == 0) part[p].cells[0].clear(extreme);
    }
  }

  void add(Part& to, const Int* columns, std::size_t t, Int x) const noexcept {
    if (to.kind == Kind::scan) return to.scan.add(columns, t, x);
    const Id before = to.groups.number, group = to.groups.of_key(columns, t);
    if (to.kind == Kind::ordered) return to.ordered.add(group, columns, t, x);
    if (to.groups.number != before) to.cells[group].clear(extreme);
    to.cells[group].add(x, extreme);
    if (to.kind == Kind::others) {
      to.others.every.add(x, extreme);
      if (extreme) to.others.add(group, x);
    }
  }
  void ask(Part& of, const Int* columns, std::size_t t, Found& found) const noexcept {
    if (of.kind == Kind::scan) return of.scan.ask(columns, t, extreme, found);
    const Id group = of.groups.of_query(columns, t);
    if (of.kind == Kind::others) {
      if (extreme) {
        const Cell& best = group >= 0 && group == of.others.first_group ? of.others.second : of.others.first;
        found.add(best.count, best.total, true);
        return;
      }
      found.add(of.others.every.count, of.others.every.total, false);
      if (group >= 0) found.count -= of.cells[group].count, found.sum -= of.cells[group].total;
      return;
    }
    if (group < 0) return;
    if (of.kind == Kind::ordered) return of.ordered.ask(group, columns, t, found);
    found.add(of.cells[group].count, of.cells[group].total, extreme);
  }

  /// False where a double would not be the quotient rounded once, or a sum leaves 64 bits.
  bool finished(const Found& found, Int& out) const noexcept {
    if (reduction == Reduction::width) {
      out = found.count;
    } else if (found.count == 0) {
      out = fallback;
    } else if (extreme) {
      out = found.best ^ flip;
    } else if (reduction == Reduction::sum) {
      if (found.sum < kNone || found.sum > ~kNone) return false;
      out = static_cast<Int>(found.sum);
    } else if (rounding == Rounding::real) {
      if (found.sum < -kExact || found.sum > kExact) return false;
      out = std::bit_cast<Int>(static_cast<double>(found.sum) / static_cast<double>(found.count));
    } else {
      const Int128 mean = found.sum / found.count;
      const bool down = rounding == Rounding::floor && found.sum % found.count < 0;
      out = static_cast<Int>(down ? mean - 1 : mean);
    }
    return true;
  }

  bool run(const Int* columns, std::size_t count, Int* out) const noexcept {
    for (std::size_t t = 0; t < count; ++t) {
      const Int x = valued ? columns[value * kChunk + t] ^ flip : 0;
      Found all;
      for (std::size_t p = 0; p < parts; ++p) {
        add(part[p], columns, t, x);
        Found found;
        ask(part[p], columns, t, found);
        all.count += part[p].sign * found.count;
        all.sum += part[p].sign > 0 ? found.sum : -found.sum;
        all.best = std::max(all.best, found.best);
      }
      if (!finished(all, out[t])) return false;
    }
    return true;
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
