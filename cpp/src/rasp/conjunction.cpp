// Select-aggregate over a conjunction of comparisons: which route a row takes, and the routes that need no buckets.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "core/core.h"
#include "rasp/rasp.h"
#include "rasp/rows.h"

namespace legato::rasp {
namespace {

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
  Int first = 0;  // the best key
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
          best_second = best_first;
          two = one;
          first = key;
          best_first.clear();
          best_first.add(x);
          one = true;
        } else if (!two || x > best_second.best) {
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
  Room rooms[kMostWorkers];
  Arena arena(workspace);
  for (int worker = 0; worker < team(shape, threads); ++worker) rooms[worker] = lay_out(arena, shape.length, plan);
  if (arena.overflowed()) return Status::workspace_too_small;
  if (tokens_of(shape).is(0)) return Status::ok;  // of any number of rows
  const double token_ns = kTokenNs * static_cast<double>(1 + plan.orders);
  for_rows(shape, sink, threads, token_ns, [&](std::size_t offset, std::size_t n, std::size_t worker) {
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
    shape.causal ? with_values<true>(aggregation, value, extremes, run)
                 : with_values<false>(aggregation, value, extremes, run);
  });
  return outcome();
}

}  // namespace legato::rasp
