// What a stream keeps for each aggregation: groups and their totals, sorted blocks of keys, or every key so far.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "core/core.h"
#include "rasp/rasp.h"

namespace legato::rasp {

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

constexpr std::size_t kChunk = 64;      // tokens that pass an instruction together
constexpr std::size_t kTail = 256;      // newest keys of an ordering, looked at one by one
constexpr std::size_t kMostFields = 8;  // equalities that make a group
constexpr int kMostLevels = 32;
constexpr Int kExact = Int{1} << 53;  // integers up to this are doubles

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

  void lay_out(Arena& arena, std::size_t capacity) noexcept;
  void clear() noexcept;
  /// The slot of a tuple, or the free one where it belongs.
  Id& find(const Int* tuple) const noexcept;
  /// The group of a new key.
  Id of_key(const Int* columns, std::size_t t) noexcept;
  /// The group that a query asks for, or -1.
  Id of_query(const Int* columns, std::size_t t) const noexcept;
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
  void add(Id group, Int value) noexcept;
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

  void lay_out(Arena& arena, std::size_t capacity, bool grouped) noexcept;
  void clear() noexcept {
    tail = blocks = 0;
    start[0] = 0;
    wide = false;
  }
  Int128 joined(Int128 total, Int value) const noexcept {
    return extreme ? std::max(total, Int128{value}) : total + value;
  }

  void add(Id group, const Int* columns, std::size_t t, Int value) noexcept;
  void flush() noexcept;
  void add_up(std::size_t begin, std::size_t end) noexcept;
  void sort_runs(std::size_t begin, std::size_t end) noexcept;

  void ask(Id group, const Int* columns, std::size_t t, Found& found) const noexcept;
  /// Items [x, y) of the block at `base`, whose second key is at most `bound`: whole runs, as large as they may be.
  void ask_runs(std::size_t base, std::size_t x, std::size_t y, Int bound, Found& found) const noexcept;
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

  void lay_out(Arena& arena, std::size_t capacity, bool valued) noexcept;
  void add(const Int* columns, std::size_t t, Int x) noexcept;
  void ask(const Int* columns, std::size_t t, bool extreme, Found& found) noexcept;
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

  void clear() noexcept;

  void add(Part& to, const Int* columns, std::size_t t, Int x) const noexcept;
  void ask(Part& of, const Int* columns, std::size_t t, Found& found) const noexcept;

  /// False where a double would not be the quotient rounded once, or a sum leaves 64 bits.
  bool finished(const Found& found, Int& out) const noexcept;

  bool run(const Int* columns, std::size_t count, Int* out) const noexcept;
};

}  // namespace legato::rasp
