#include "legato/rasp.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "core/core.h"
#include "rasp/rasp.h"

#define LEGATO_REGION_FILE "rasp/rasp-inl.h"
#include "core/isa_region.h"

namespace legato::rasp {
namespace {

/// Of one row. No array of a layout, none above 64 bytes a token, wraps on the way to the arena.
constexpr std::size_t kMostTokens =
    std::min<std::size_t>(static_cast<std::size_t>(std::numeric_limits<Id>::max() - 1), Size::kMost / 64);

bool is_order(Compare compare) noexcept {
  return compare == Compare::less || compare == Compare::less_equal || compare == Compare::greater ||
         compare == Compare::greater_equal;
}

// --- The parts of a row ---------------------------------------------------------------------------------------------

/// Memory of one thread.
struct Room {
  Int *pair_key, *pair_query, *more_key, *more_query;  // n each, of several equalities
  std::uint64_t* unique;                               // n, of several equalities
  Id* slots;                                           // hash, of several equalities
  std::byte* cells;                                    // n + 2, of equalities alone
  BucketRoom buckets;
  DominanceRoom dominance;
};

struct Plan {
  std::size_t equals = 0, orders = 0, cell = 0;
  bool not_equal = false;
  Reduction reduction = Reduction::width;
};

std::size_t slots_of(std::size_t n) noexcept {
  std::size_t slots = 16;
  while (slots < 2 * n) slots *= 2;
  return slots;
}

Room lay_out(Arena& arena, std::size_t n, const Plan& plan) noexcept {
  Room room{};
  if (plan.orders == 2) {
    room.dominance = lay_out_dominance(arena, n, plan.reduction);
    return room;
  }
  const bool grouped = plan.equals > 0 || plan.not_equal, ordered = plan.orders == 1, several = plan.equals > 1;
  room.pair_key = several ? arena.take<Int>(n) : nullptr;
  room.pair_query = several ? arena.take<Int>(n) : nullptr;
  overlay(
      arena,
      [&](Arena& own) {
        if (!several) return;
        room.more_key = own.take<Int>(n);
        room.more_query = own.take<Int>(n);
        room.unique = own.take<std::uint64_t>(n);
        room.slots = own.take<Id>(slots_of(n));
      },
      [&](Arena& own) {
        if (!ordered) room.cells = own.take<std::byte>((n + 2) * plan.cell);
      },
      [&](Arena& own) {
        if (ordered || grouped) room.buckets = lay_out_buckets(own, n, {grouped, ordered, plan.reduction});
      });
  return room;
}

std::uint64_t mixed(std::uint64_t x) noexcept {
  x ^= x >> 32;
  x *= 0x9E3779B97F4A7C15u;
  return x ^ (x >> 29);
}

/// Replaces every distinct key by a number in order of appearance; queries that are no key become -1.
void number_keys(std::size_t n, Int* key, Int* query, Room& room) noexcept {
  Id* slots = room.slots;
  const std::size_t size = slots_of(n);
  std::fill_n(slots, size, Id{-1});
  const auto find = [&](Int x) -> Id& {
    std::size_t at = mixed(static_cast<std::uint64_t>(x)) & (size - 1);
    while (slots[at] >= 0 && room.unique[slots[at]] != static_cast<std::uint64_t>(x)) at = (at + 1) & (size - 1);
    return slots[at];
  };
  Id numbers = 0;
  for (std::size_t j = 0; j < n; ++j) {
    Id& number = find(key[j]);
    if (number < 0) {
      room.unique[numbers] = static_cast<std::uint64_t>(key[j]);
      number = numbers++;
    }
    key[j] = number;
  }
  for (std::size_t i = 0; i < n; ++i) query[i] = find(query[i]);
}

/// Folds one more equality into the pairs so far, as digits of one number: of the value where 32 bits hold its range
/// and else of its number. A query that is out of the keys' range gets a digit that no key has.
void fold_equality(std::size_t n, const Term& term, bool first, Room& room) noexcept {
  std::copy_n(term.key.data(), n, first ? room.pair_key : room.more_key);
  std::copy_n(term.query.data(), n, first ? room.pair_query : room.more_query);
  if (first) return;
  std::uint64_t low[2], span[2];
  Int* keys[2] = {room.pair_key, room.more_key};
  Int* queries[2] = {room.pair_query, room.more_query};
  for (int part = 0; part < 2; ++part) {
    constexpr std::uint64_t kMost = 0xFFFFFFFEu;
    for (bool numbered = false;; numbered = true) {
      const auto [least, most] = std::minmax_element(keys[part], keys[part] + n);
      low[part] = static_cast<std::uint64_t>(*least);
      span[part] = static_cast<std::uint64_t>(*most) - low[part];
      if (numbered || span[part] <= kMost) break;
      number_keys(n, keys[part], queries[part], room);
    }
  }
  const auto code = [&](int part, Int x) {
    return std::min(static_cast<std::uint64_t>(x) - low[part], span[part] + 1);
  };
  const std::uint64_t digits = span[1] + 2;
  for (std::size_t t = 0; t < n; ++t) {
    room.pair_key[t] = static_cast<Int>(code(0, room.pair_key[t]) * digits + code(1, room.more_key[t]));
    room.pair_query[t] = static_cast<Int>(code(0, room.pair_query[t]) * digits + code(1, room.more_query[t]));
  }
}

// --- Routes ---------------------------------------------------------------------------------------------------------

/// Calls insert(j) and ask(i) so that ask(i) sees the keys it may: j <= i, or all.
template <bool causal, class Insert, class Ask>
void in_order(std::size_t n, const Insert& insert, const Ask& ask) {
  constexpr std::size_t kStretch = 512;  // a table's keys take long
  const auto all = [&](const auto& each) {
    for (std::size_t i = 0, end = 0; goes_on(i, end, n, kStretch);) {
      for (; i < end; ++i) each(i);
    }
  };
  if constexpr (causal) {
    all([&](std::size_t i) {
      insert(i);
      ask(i);
    });
  } else {
    all(insert);
    all(ask);
  }
}

template <class Cell, bool causal, class Value>
void every_key(std::size_t n, const Value& value, const Emit& emit) {
  Cell total;
  total.clear();
  in_order<causal>(n, [&](std::size_t j) { total.add(value(j)); }, [&](std::size_t i) { total.emit(emit, i); });
}

/// Equality in a narrow range, or with `rest` every other key: the value is the cell.
template <class Cell, bool causal, bool rest, class Value>
void by_value(std::size_t n, const Term& term, Int low, std::uint64_t span, const Value& value, const Emit& emit,
              const Room& room) {
  Cell* cell = reinterpret_cast<Cell*>(room.cells);
  for (std::uint64_t x = 0; x <= span; ++x) cell[x].clear();
  Cell none, total;
  none.clear();
  total.clear();
  const auto at = [&](Int x) { return static_cast<std::uint64_t>(x) - static_cast<std::uint64_t>(low); };
  in_order<causal>(
      n,
      [&](std::size_t j) {
        const Int x = value(j);
        cell[at(term.key[j])].add(x);
        if constexpr (rest) total.add(x);
      },
      [&](std::size_t i) {
        const std::uint64_t x = at(term.query[i]);
        const Cell& own = x <= span ? cell[x] : none;
        if constexpr (rest) {
          Cell others = total;
          others.remove(own);
          others.emit(emit, i);
        } else {
          own.emit(emit, i);
        }
      });
}

/// Keys are the indices 0 .. n-1 and the comparison is equality: a gather.
template <class Cell, bool causal, class Value>
void by_index(std::size_t n, const Int* query, const Value& value, const Emit& emit) {
  for (std::size_t i = 0, end = 0; goes_on(i, end, n);) {
    for (; i < end; ++i) {
      Cell cell;
      cell.clear();
      const auto j = static_cast<std::uint64_t>(query[i]);
      if (j <= (causal ? i : n - 1)) cell.add(value(static_cast<std::size_t>(j)));
      cell.emit(emit, i);
    }
  }
}

/// The best of the keys that differ from the query: the best key, and the best among keys other than that one.
template <class Cell, bool causal, class Value>
void best_other(std::size_t n, const Term& term, const Value& value, const Emit& emit) {
  Int first = 0, second = 0;  // keys
  Cell best_first, best_second;
  best_first.clear();
  best_second.clear();
  bool one = false, two = false;  // whether there are such keys
  in_order<causal>(
      n,
      [&](std::size_t j) {
        const Int key = term.key[j], x = value(j);
        if (one && key == first) {
          best_first.add(x);
        } else if (!one || x > best_first.best) {
          second = first;
          best_second = best_first;
          two = one;
          first = key;
          best_first.clear();
          best_first.add(x);
          one = true;
        } else if (!two || x > best_second.best) {
          second = key;
          best_second.clear();
          best_second.add(x);
          two = true;
        }
      },
      [&](std::size_t i) { (one && first == term.query[i] ? best_second : best_first).emit(emit, i); });
}

bool counts_up(const Int* key, std::size_t n) noexcept {
  for (std::size_t j = 0; j < n; ++j) {
    if (key[j] != static_cast<Int>(j)) return false;
  }
  return true;
}

struct Extremes {
  bool wide = false;   ///< 64 bits may not hold the sum
  bool shown = false;  ///< a value is encoded as kNone, so that emptiness needs a count
};

/// `whole` holds the row's length, values and direction.
template <class Cell, bool causal, class Value>
void conjunction_row(const Row& whole, std::span<const Term> terms, const Plan& plan, const Aggregation& how,
                     const Extremes& extremes, const Value& value, const Emit& emit, Room& room) {
  const std::size_t n = whole.n;
  for (const Term& term : terms) {
    if (term.compare == Compare::never) {
      Cell none;
      none.clear();
      for (std::size_t i = 0; i < n; ++i) none.emit(emit, i);
      return;
    }
  }
  if (terms.empty()) {
    every_key<Cell, causal>(n, value, emit);
    return;
  }
  if (plan.orders == 2) {
    by_dominance(whole, terms[0], terms[1], how.reduction, extremes.wide, extremes.shown, emit, room.dominance);
    return;
  }
  Term group, order;  // always: there is none
  bool first = true;
  for (const Term& term : terms) {
    if (is_order(term.compare)) {
      order = term;
    } else {
      group = term;
      if (plan.equals > 1) fold_equality(n, term, first, room);
      first = false;
    }
  }
  if (plan.equals > 1) group = {{room.pair_key, n}, {room.pair_query, n}, Compare::equal};
  if (order.compare == Compare::always) {
    const bool equal = group.compare == Compare::equal;
    if (equal && counts_up(group.key.data(), n)) {
      by_index<Cell, causal>(n, group.query.data(), value, emit);
      return;
    }
    constexpr bool removes = requires(Cell a, Cell b) { a.remove(b); };
    if constexpr (!removes) {
      if (!equal) {
        best_other<Cell, causal>(n, group, value, emit);
        return;
      }
    }
    const auto [low, high] = std::minmax_element(group.key.begin(), group.key.end());
    const std::uint64_t span = static_cast<std::uint64_t>(*high) - static_cast<std::uint64_t>(*low);
    if (span < n) {
      if constexpr (removes) {
        if (!equal) {
          by_value<Cell, causal, true>(n, group, *low, span, value, emit, room);
          return;
        }
      }
      by_value<Cell, causal, false>(n, group, *low, span, value, emit, room);
      return;
    }
  }
  Row row = whole;
  row.group_key = group.compare == Compare::always ? nullptr : group.key.data();
  row.group_query = group.query.data();
  row.rest = group.compare == Compare::not_equal;
  row.key = order.compare == Compare::always ? nullptr : order.key.data();
  row.query = order.query.data();
  row.compare = order.compare;
  by_buckets(row, how.reduction, extremes.wide, extremes.shown, emit, room.buckets);
}

Extremes extremes_of(const Aggregation& how, const Int* value, std::size_t n) noexcept {
  Extremes out;
  if (how.reduction == Reduction::width || n == 0) return out;
  const auto [low, high] = std::minmax_element(value, value + n);
  const Int limit = std::numeric_limits<Int>::max() / static_cast<Int>(n);
  out.wide = *high > limit || *low < -limit;
  out.shown = how.reduction == Reduction::max ? *low == kNone : how.reduction == Reduction::min && *high == ~kNone;
  return out;
}

template <bool causal, class Row>
void with_cell(const Aggregation& how, const Int* value, const Extremes& extremes, const Row& row) {
  const auto best = [&](const auto& encoded) {
    extremes.shown ? row.template operator()<CountedBest, causal>(encoded)
                   : row.template operator()<Best, causal>(encoded);
  };
  switch (how.reduction) {
    case Reduction::width:
      row.template operator()<Width, causal>([](std::size_t) { return Int{0}; });
      break;
    case Reduction::mean:
      if (extremes.wide) {
        row.template operator()<Sum<Int128>, causal>([value](std::size_t j) { return value[j]; });
      } else {
        row.template operator()<Sum<Int>, causal>([value](std::size_t j) { return value[j]; });
      }
      break;
    case Reduction::max:
      best([value](std::size_t j) { return value[j]; });
      break;
    case Reduction::min:
      best([value](std::size_t j) { return ~value[j]; });
      break;
  }
}

std::size_t cell_size(Reduction reduction) noexcept {
  switch (reduction) {
    case Reduction::width:
      return sizeof(Width);
    case Reduction::mean:
      return sizeof(Sum<Int128>);
    default:
      return sizeof(CountedBest);
  }
}

bool plan_of(std::span<const Compare> conjunction, Reduction reduction, Plan& plan) noexcept {
  plan = {};
  for (const Compare compare : conjunction) {
    if (static_cast<int>(compare) < 0 || compare > Compare::never) return false;
    if (compare == Compare::equal) ++plan.equals;
    if (compare == Compare::not_equal) plan.not_equal = true;
    if (is_order(compare)) ++plan.orders;
  }
  plan.cell = cell_size(reduction);
  plan.reduction = reduction;
  if (plan.not_equal && conjunction.size() > 1) return false;
  return plan.orders + (plan.equals > 0) <= 2;
}

/// The numbers of tokens, but for a product that no span has.
Size tokens_of(const Shape& shape) noexcept { return Size{shape.rows} * shape.length; }

/// `valued`: where the values are not in the totals already.
bool valid(const Shape& shape, const Aggregation& how, const Sink& sink, bool valued = true) noexcept {
  if (shape.length > kMostTokens) return false;
  if (how.reduction < Reduction::width || how.reduction > Reduction::min) return false;
  if (how.rounding < Rounding::truncate || how.rounding > Rounding::real) return false;
  const Size tokens = tokens_of(shape);
  if (!tokens.fits()) return false;
  if (valued && how.reduction != Reduction::width && !tokens.is(how.value.size())) return false;
  if (!shape.lengths.empty() && shape.lengths.size() != shape.rows) return false;
  for (const std::int64_t length : shape.lengths) {
    if (length < 0 || static_cast<std::uint64_t>(length) > shape.length) return false;
  }
  const auto optional = [&](auto numbers) { return numbers.empty() || tokens.is(numbers.size()); };
  if (!optional(sink.out) || !optional(sink.real) || !optional(sink.count) || !optional(sink.best)) return false;
  if (!sink.sum.empty() && !(2 * tokens).is(sink.sum.size())) return false;
  if (tokens.is(0)) return true;
  if (!sink.count.empty()) {
    if (how.reduction == Reduction::mean) return !sink.sum.empty();
    return how.reduction == Reduction::width || !sink.best.empty();
  }
  const bool real = how.rounding == Rounding::real && how.reduction == Reduction::mean;
  return real ? !sink.real.empty() : !sink.out.empty();
}

bool valid(const Shape& shape, const Term& term) noexcept {
  if (static_cast<int>(term.compare) < 0 || term.compare > Compare::called) return false;
  if (term.compare == Compare::called && term.predicate == nullptr) return false;
  const bool bare = term.compare == Compare::always || term.compare == Compare::never;
  return bare || (tokens_of(shape).is(term.key.size()) && tokens_of(shape).is(term.query.size()));
}

std::size_t length_of(const Shape& shape, std::size_t row) noexcept {
  return shape.lengths.empty() ? shape.length : static_cast<std::size_t>(shape.lengths[row]);
}

int team(const Shape& shape, int threads) noexcept {
  constexpr int kMost = 64;
  return static_cast<int>(std::min<std::size_t>(static_cast<std::size_t>(std::clamp(threads, 1, kMost)),
                                                std::max<std::size_t>(shape.rows, 1)));
}

/// Calls work(row, worker) for each row; rows are shared by stride, and each worker has its own number.
template <class Work>
void for_rows(const Shape& shape, int threads, const Work& work) noexcept {
  const auto workers = static_cast<std::size_t>(team(shape, threads));
  for_chunks(workers, 1, static_cast<int>(workers), [&](std::size_t begin, std::size_t end) {
    for (std::size_t worker = begin; worker < end; ++worker) {
      for (std::size_t row = worker; row < shape.rows && !cancelled(); row += workers) work(row, worker);
    }
  });
}

}  // namespace

bool has_fast_route(std::span<const Compare> conjunction) noexcept {
  Plan plan;
  return plan_of(conjunction, Reduction::width, plan);
}

std::size_t conjunction_workspace_size(const Shape& shape, std::span<const Compare> conjunction, Reduction reduction,
                                       int threads) noexcept {
  Plan plan;
  if (shape.length > kMostTokens || !plan_of(conjunction, reduction, plan)) return 0;
  Arena arena;
  for (int worker = 0; worker < team(shape, threads); ++worker) lay_out(arena, shape.length, plan);
  return arena.size();
}

Status aggregate_conjunction(const Shape& shape, std::span<const Term> terms, const Aggregation& aggregation,
                             std::span<std::byte> workspace, const Sink& sink, int threads) noexcept {
  constexpr std::size_t kMostTerms = 16;
  Compare compares[kMostTerms];
  if (terms.size() > kMostTerms) return Status::invalid_argument;
  for (std::size_t t = 0; t < terms.size(); ++t) {
    compares[t] = terms[t].compare;
    if (!valid(shape, terms[t])) return Status::invalid_argument;
  }
  Plan plan;
  if (!plan_of({compares, terms.size()}, aggregation.reduction, plan)) return Status::invalid_argument;
  if (!valid(shape, aggregation, sink)) return Status::invalid_argument;
  constexpr int kMost = 64;
  Room rooms[kMost];
  Arena arena(workspace);
  for (int worker = 0; worker < team(shape, threads); ++worker) rooms[worker] = lay_out(arena, shape.length, plan);
  if (arena.overflowed()) return Status::workspace_too_small;
  if (tokens_of(shape).is(0)) return Status::ok;  // of any number of rows
  for_rows(shape, threads, [&](std::size_t row, std::size_t worker) {
    const std::size_t n = length_of(shape, row), offset = row * shape.length;
    if (sink.count.empty()) clear_tail(sink, offset + n, offset + shape.length);
    if (n == 0) return;
    Term moved[kMostTerms];
    std::size_t count = 0;
    for (const Term& term : terms) {
      if (term.compare == Compare::always) continue;
      moved[count] = term;
      if (term.compare != Compare::never) {
        moved[count].key = term.key.subspan(offset, n);
        moved[count].query = term.query.subspan(offset, n);
      }
      ++count;
    }
    const Int* value = aggregation.value.empty() ? nullptr : aggregation.value.data() + offset;
    const Extremes extremes = extremes_of(aggregation, value, n);
    const Emit emit = Emit::at(aggregation, sink, offset);
    const std::span<const Term> own{moved, count};
    Row whole;
    whole.n = n;
    whole.causal = shape.causal;
    whole.value = aggregation.reduction == Reduction::width ? nullptr : value;
    whole.flip = aggregation.reduction == Reduction::min ? -1 : 0;
    const auto run = [&]<class Cell, bool causal>(const auto& x) {
      conjunction_row<Cell, causal>(whole, own, plan, aggregation, extremes, x, emit, rooms[worker]);
    };
    shape.causal ? with_cell<true>(aggregation, value, extremes, run)
                 : with_cell<false>(aggregation, value, extremes, run);
  });
  return outcome();
}

namespace {

/// By key: each new key is added to the totals of every query that selects it.
template <class Cell, bool causal, class Value>
void table_by_key(std::size_t n, const Table& table, const Value& value, const Emit& emit, std::byte* memory) {
  Cell* cell = reinterpret_cast<Cell*>(memory);
  for (std::size_t q = 0; q < table.queries; ++q) cell[q].clear();
  in_order<causal>(
      n,
      [&](std::size_t j) {
        const std::uint8_t* truth = table.truth.data() + static_cast<std::size_t>(table.key[j]) * table.queries;
        const Int x = value(j);
        for (std::size_t q = 0; q < table.queries; ++q) {
          if (truth[q] != 0) cell[q].add(x);
        }
      },
      [&](std::size_t i) {
        if (table.query[i] >= 0) cell[table.query[i]].emit(emit, i);
      });
}

/// By query: the totals of every key that it selects are put together.
template <class Cell, bool causal, class Value>
void table_by_query(std::size_t n, const Table& table, const Value& value, const Emit& emit, std::byte* memory) {
  Cell* cell = reinterpret_cast<Cell*>(memory);
  for (std::size_t k = 0; k < table.keys; ++k) cell[k].clear();
  in_order<causal>(
      n, [&](std::size_t j) { cell[table.key[j]].add(value(j)); },
      [&](std::size_t i) {
        if (table.query[i] < 0) return;
        Cell found;
        found.clear();
        const std::uint8_t* truth = table.truth.data() + table.query[i];
        for (std::size_t k = 0; k < table.keys; ++k) {
          if (truth[k * table.queries] != 0) found.merge(cell[k]);
        }
        found.emit(emit, i);
      });
}

bool valid(const Shape& shape, const Table& table) noexcept {
  const Size tokens = tokens_of(shape);
  if (!tokens.is(table.key.size()) || !tokens.is(table.query.size())) return false;
  if (!(Size{table.keys} * table.queries).is(table.truth.size())) return false;
  for (std::size_t t = 0; t < table.key.size(); ++t) {
    if (table.key[t] < 0 || static_cast<std::size_t>(table.key[t]) >= table.keys) return false;
    if (table.query[t] >= 0 && static_cast<std::size_t>(table.query[t]) >= table.queries) return false;
  }
  return true;
}

std::byte* table_cells(Arena& arena, const Table& table) noexcept {
  return arena.take<std::byte>(std::max<std::size_t>(std::min(table.keys, table.queries), 1) *
                               Size{sizeof(Sum<Int128>)});
}

}  // namespace

std::size_t table_workspace_size(const Table& table, int threads) noexcept {
  Arena arena;
  constexpr int kMost = 64;
  for (int worker = 0; worker < std::clamp(threads, 1, kMost); ++worker) table_cells(arena, table);
  return arena.size();
}

Status aggregate_table(const Shape& shape, const Table& table, const Aggregation& aggregation,
                       std::span<std::byte> workspace, const Sink& sink, int threads) noexcept {
  if (!valid(shape, aggregation, sink) || !valid(shape, table)) return Status::invalid_argument;
  constexpr int kMost = 64;
  std::byte* cells[kMost];
  Arena arena(workspace);
  for (int worker = 0; worker < team(shape, threads); ++worker) cells[worker] = table_cells(arena, table);
  if (arena.overflowed()) return Status::workspace_too_small;
  if (tokens_of(shape).is(0)) return Status::ok;  // of any number of rows
  for_rows(shape, threads, [&](std::size_t row, std::size_t worker) {
    const std::size_t n = length_of(shape, row), offset = row * shape.length;
    if (sink.count.empty()) clear_tail(sink, offset + n, offset + shape.length);
    if (n == 0) return;
    Table moved = table;
    moved.key = table.key.subspan(offset, n);
    moved.query = table.query.subspan(offset, n);
    const Int* value = aggregation.value.empty() ? nullptr : aggregation.value.data() + offset;
    const Emit emit = Emit::at(aggregation, sink, offset);
    const auto run = [&]<class Cell, bool causal>(const auto& x) {
      table.queries <= table.keys ? table_by_key<Cell, causal>(n, moved, x, emit, cells[worker])
                                  : table_by_query<Cell, causal>(n, moved, x, emit, cells[worker]);
    };
    const Extremes extremes = extremes_of(aggregation, value, n);
    shape.causal ? with_cell<true>(aggregation, value, extremes, run)
                 : with_cell<false>(aggregation, value, extremes, run);
  });
  return outcome();
}

Status aggregate_formula(const Shape& shape, std::span<const Term> terms, std::span<const Table> tables,
                         std::span<const int> formula, const Aggregation& aggregation, const Sink& sink,
                         int threads) noexcept {
  if (!valid(shape, aggregation, sink)) return Status::invalid_argument;
  for (const Table& table : tables) {
    if (!valid(shape, table)) return Status::invalid_argument;
  }
  for (const Term& term : terms) {
    if (!valid(shape, term)) return Status::invalid_argument;
  }
  std::size_t depth = 0;
  for (const int code : formula) {
    if (code >= 0) {
      if (static_cast<std::size_t>(code) >= terms.size() + tables.size() || ++depth > kFormulaDepth) {
        return Status::invalid_argument;
      }
    } else if (code == kNot) {
      if (depth < 1) return Status::invalid_argument;
    } else if ((code != kAnd && code != kOr) || depth-- < 2) {
      return Status::invalid_argument;
    }
  }
  if (depth != 1) return Status::invalid_argument;
  if (tokens_of(shape).is(0)) return Status::ok;
  std::atomic<bool> failed{false};
  for_rows(shape, threads, [&](std::size_t row, std::size_t) {
    const std::size_t n = length_of(shape, row), offset = row * shape.length;
    if (sink.count.empty()) clear_tail(sink, offset + n, offset + shape.length);
    if (n == 0) return;
    const Int* value = aggregation.value.empty() ? nullptr : aggregation.value.data() + offset;
    const bool wide = extremes_of(aggregation, value, n).wide;
    const bool sound =
        LEGATO_DISPATCH(formula_row, n, shape.causal, offset, terms, tables, formula, aggregation.value.data(),
                        static_cast<int>(aggregation.reduction), wide, Emit::at(aggregation, sink, offset));
    if (!sound) failed = true;
  });
  return failed ? Status::call_failed : outcome();
}

Status fill_truth(Called predicate, std::span<const Int> keys, std::span<const Int> queries,
                  std::span<std::uint8_t> truth, std::size_t& first_bad) noexcept {
  first_bad = truth.size();
  if (predicate == nullptr || !(Size{keys.size()} * queries.size()).is(truth.size())) return Status::invalid_argument;
  std::size_t at = 0;
  for (const Int key : keys) {
    if (cancelled()) return Status::cancelled;
    for (const Int query : queries) {
      truth[at] = predicate(key, query);
      if (truth[at] > 1) {
        first_bad = at;
        return Status::call_failed;
      }
      ++at;
    }
  }
  return Status::ok;
}

Status finish(const Shape& shape, const Aggregation& aggregation, const Sink& totals, const Sink& sink) noexcept {
  if (!sink.count.empty() || !tokens_of(shape).is(totals.count.size())) return Status::invalid_argument;
  if (!valid(shape, aggregation, totals, false) || !valid(shape, aggregation, sink, false)) {
    return Status::invalid_argument;
  }
  if (tokens_of(shape).is(0)) return Status::ok;
  const Emit read{aggregation, totals}, write{aggregation, sink};
  for (std::size_t row = 0; row < shape.rows; ++row) {
    const std::size_t offset = row * shape.length, n = length_of(shape, row);
    for (std::size_t t = 0, end = 0; goes_on(t, end, n);) {
      for (; t < end; ++t) {
        const std::size_t i = offset + t;
        write.finished(i, totals.count[i], totals.sum.empty() ? 0 : read.load(i),
                       totals.best.empty() ? kNone : totals.best[i]);
      }
    }
    clear_tail(sink, offset + n, offset + shape.length);
  }
  return outcome();
}

}  // namespace legato::rasp
