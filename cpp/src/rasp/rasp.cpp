#include "legato/rasp.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "core/core.h"
#include "rasp/rasp.h"
#include "rasp/rows.h"

#define LEGATO_REGION_FILE "rasp/rasp-inl.h"
#include "core/isa_region.h"

namespace legato::rasp {

bool valid(const Shape& shape, const Aggregation& how, const Sink& sink, bool valued) noexcept {
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

Extremes extremes_of(const Aggregation& how, const Int* value, std::size_t n) noexcept {
  Extremes out;
  if (how.reduction == Reduction::width || n == 0) return out;
  const auto [low, high] = std::minmax_element(value, value + n);
  const Int limit = std::numeric_limits<Int>::max() / static_cast<Int>(n);
  out.wide = *high > limit || *low < -limit;
  out.shown = how.reduction == Reduction::max ? *low == kNone : how.reduction == Reduction::min && *high == ~kNone;
  return out;
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
  for (int worker = 0; worker < std::clamp(threads, 1, kMostWorkers); ++worker) table_cells(arena, table);
  return arena.size();
}

Status aggregate_table(const Shape& shape, const Table& table, const Aggregation& aggregation,
                       std::span<std::byte> workspace, const Sink& sink, int threads) noexcept {
  if (!valid(shape, aggregation, sink) || !valid(shape, table)) return Status::invalid_argument;
  std::byte* cells[kMostWorkers];
  Arena arena(workspace);
  for (int worker = 0; worker < team(shape, threads); ++worker) cells[worker] = table_cells(arena, table);
  if (arena.overflowed()) return Status::workspace_too_small;
  if (tokens_of(shape).is(0)) return Status::ok;  // of any number of rows
  for_rows(shape, sink, threads, kTokenNs, [&](std::size_t offset, std::size_t n, std::size_t worker) {
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
    shape.causal ? with_values<true>(aggregation, value, extremes, run)
                 : with_values<false>(aggregation, value, extremes, run);
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
  constexpr double kPairNs = 0.2;
  for_rows(shape, sink, threads, kPairNs * static_cast<double>(shape.length),
           [&](std::size_t offset, std::size_t n, std::size_t) {
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
