// Internal side of select-aggregate: results, and what is kept for a set of keys.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "core/core.h"
#include "legato/rasp.hpp"

namespace legato::rasp {

__extension__ typedef __int128 Int128;
using Int = std::int64_t;
using Id = std::int32_t;

constexpr Int kNone = std::numeric_limits<Int>::min();  // "no key yet" of max and min

/// Lays out, one over the other, what is needed one after the other: each layout takes from an arena.
template <class... Layouts>
void overlay(Arena& arena, const Layouts&... layouts) noexcept {
  std::size_t size = 0;
  bool fit = true;
  const auto measure = [&](const auto& layout) {
    Arena sizes;
    layout(sizes);
    size = std::max(size, sizes.size());
    fit = fit && sizes.size() > 0;
  };
  (measure(layouts), ...);
  const std::span<std::byte> memory = arena.take_workspace(fit ? size : 0);
  const auto place = [&](const auto& layout) {
    Arena own(memory);
    layout(own);
  };
  (place(layouts), ...);
}

// --- Results --------------------------------------------------------------------------------------------------------

/// Writes the result of token i of one row: finished, or into the totals.
struct Emit {
  Aggregation how;
  Sink sink;            // moved to the row
  bool totals = false;  // into them

  static Emit at(const Aggregation& how, const Sink& sink, std::size_t offset) noexcept {
    Emit emit{how, sink};
    const auto move = [](auto& numbers, std::size_t by) {
      if (!numbers.empty()) numbers = numbers.subspan(by);
    };
    move(emit.sink.out, offset);
    move(emit.sink.real, offset);
    move(emit.sink.count, offset);
    move(emit.sink.sum, 2 * offset);
    move(emit.sink.best, offset);
    emit.totals = !sink.count.empty();
    return emit;
  }

  void operator()(std::size_t i, Int count, Int128 sum) const noexcept {
    if (totals) {
      sink.count[i] += sink.sign * count;
      if (!sink.sum.empty()) store(i, load(i) + (sink.sign > 0 ? sum : -sum));
    } else {
      finished(i, count, sum, kNone);
    }
  }
  /// count: how many, or at least whether there is one.
  void best(std::size_t i, Int count, Int encoded) const noexcept {
    if (totals) {
      sink.count[i] = std::max(sink.count[i], count);
      sink.best[i] = std::max(sink.best[i], encoded);
    } else {
      finished(i, count, 0, encoded);
    }
  }
  void finished(std::size_t i, Int count, Int128 sum, Int encoded) const noexcept {
    if (how.reduction == Reduction::width) {
      sink.out[i] = count;
    } else if (how.rounding == Rounding::real && how.reduction == Reduction::mean) {
      sink.real[i] = count == 0 ? how.real_fallback : static_cast<double>(sum) / static_cast<double>(count);
    } else if (count == 0) {
      sink.out[i] = how.fallback;
    } else if (how.reduction == Reduction::mean) {
      sink.out[i] = mean(sum, count);
    } else {
      sink.out[i] = how.reduction == Reduction::min ? ~encoded : encoded;
    }
  }
  Int128 load(std::size_t i) const noexcept {
    return static_cast<Int128>(static_cast<std::uint64_t>(sink.sum[2 * i])) +
           (static_cast<Int128>(sink.sum[2 * i + 1]) * (Int128{1} << 64));
  }
  void store(std::size_t i, Int128 x) const noexcept {
    sink.sum[2 * i] = static_cast<Int>(static_cast<std::uint64_t>(x));
    sink.sum[2 * i + 1] = static_cast<Int>(x >> 64);
  }

 private:
  Int mean(Int128 sum, Int count) const noexcept {
    if (sum >= kNone && sum <= std::numeric_limits<Int>::max() && !(sum == kNone && count == 1)) {
      return quotient<Int>(static_cast<Int>(sum), count);
    }
    return static_cast<Int>(quotient<Int128>(sum, count));
  }
  template <class T>
  T quotient(T sum, T count) const noexcept {
    const T q = sum / count;  // toward zero
    return how.rounding == Rounding::floor && sum % count < 0 ? q - 1 : q;
  }
};

inline void clear_tail(const Sink& sink, std::size_t begin, std::size_t end) noexcept {
  if (!sink.out.empty()) std::ranges::fill(sink.out.subspan(begin, end - begin), Int{0});
  if (!sink.real.empty()) std::ranges::fill(sink.real.subspan(begin, end - begin), 0.0);
}

// --- What is kept for a set of keys ---------------------------------------------------------------------------------

struct Width {
  Id count;
  void clear() { count = 0; }
  void add(Int) { ++count; }
  void merge(const Width& x) { count += x.count; }
  void remove(const Width& x) { count -= x.count; }
  void emit(const Emit& out, std::size_t i) const { out(i, count, 0); }
};

template <class S>
struct Sum {
  S sum;
  Int count;
  void clear() { sum = 0, count = 0; }
  void add(Int v) { sum += v, ++count; }
  void merge(const Sum& x) { sum += x.sum, count += x.count; }
  void remove(const Sum& x) { sum -= x.sum, count -= x.count; }
  void emit(const Emit& out, std::size_t i) const { out(i, count, sum); }
};

struct Best {
  Int best;
  void clear() { best = kNone; }
  void add(Int v) { best = std::max(best, v); }
  void merge(const Best& x) { add(x.best); }
  void emit(const Emit& out, std::size_t i) const { out.best(i, best != kNone, best); }
};

/// For values among which kNone itself appears.
struct CountedBest {
  Int best, count;
  void clear() { best = kNone, count = 0; }
  void add(Int v) { best = std::max(best, v), ++count; }
  void merge(const CountedBest& x) { best = std::max(best, x.best), count += x.count; }
  void emit(const Emit& out, std::size_t i) const { out.best(i, count, best); }
};

/// What a cell is made of.
template <class Cell>
struct Parts {
  using Total = Int;  // of the sum or the best
  static constexpr bool counts = true, sums = false, extremes = false;
};
template <class S>
struct Parts<Sum<S>> {
  using Total = S;
  static constexpr bool counts = true, sums = true, extremes = false;
};
template <>
struct Parts<Best> {
  using Total = Int;
  static constexpr bool counts = false, sums = false, extremes = true;
};
template <>
struct Parts<CountedBest> {
  using Total = Int;
  static constexpr bool counts = true, sums = false, extremes = true;
};

// --- One row of an equality, an ordering, or both -------------------------------------------------------------------

/// Key j is selected by query i when group_key[j] == group_query[i] and key[j] `compare` query[i].
struct Row {
  std::size_t n = 0;
  bool causal = true;
  const Int *group_key = nullptr, *group_query = nullptr;  // null: no equality
  const Int *key = nullptr, *query = nullptr;              // null: no ordering
  Compare compare = Compare::always;                       // of the ordering
  const Int* value = nullptr;                              // null for the width
  Int flip = 0;                                            // -1: values are complemented, so that max finds the min
  bool rest = false;                                       // the keys of every other group; not for max and min
};

constexpr int kMostDepth = 12;                 // of the split into buckets: 4096
constexpr std::size_t kBucketKeys = 4096;      // aimed at: their tree and their hash table stay in the second cache
constexpr std::size_t kDirectSpan = 1u << 12;  // ordered keys in a range this narrow need no ranks

/// Memory of by_buckets for n tokens: the keys and queries bucket by bucket, in time order within each. The result of
/// a query replaces it.
struct BucketRoom {
  std::uint16_t *key_bucket, *query_bucket;
  std::uint64_t *group, *asked;     // equality
  std::uint64_t *key, *query;       // ordering, as unsigned numbers that ascend where the selected keys come first
  Int *value, *high;                // high: upper halves of 128-bit results
  Id* upto;                         // a query sees the keys of its bucket before this one
  Id *key_start, *query_start;      // of each bucket
  Id *key_next, *query_next;        // cursors
  std::uint64_t *splitter, *spare;  // sorting, samples, the distinct groups of a bucket
  Id *index, *spare_index;          // sorting
  std::byte* scratch;               // trees, hash slots, totals of the groups of a bucket
  std::size_t scratch_size;
};

struct BucketPlan {
  bool grouped = false, ordered = false;
  Reduction reduction = Reduction::width;
};

BucketRoom lay_out_buckets(Arena& arena, std::size_t n, const BucketPlan& plan) noexcept;

/// Cuts the keys by value (an ordering) or by hash (an equality) into buckets that stay in the cache and handles each
/// by itself; a bucket below the one of a query enters as a total. O(n log n) for an ordering, O(n) for an equality.
/// `wide`: 64 bits may not hold a sum; `shown`: a value is kNone.
void by_buckets(const Row& row, Reduction reduction, bool wide, bool shown, const Emit& emit,
                const BucketRoom& room) noexcept;

// --- One row of two orderings ---------------------------------------------------------------------------------------

constexpr int kDigitBits = 6;  // ranks are cut into digits of this many bits
constexpr std::size_t kDigits = std::size_t{1} << kDigitBits;
constexpr std::size_t kFew = 256;    // so many keys are looked at one by one
constexpr std::size_t kBatch = 128;  // so many are, before they enter a grid

/// Memory of by_dominance for n tokens. Bounds and ranks are pairs of 32 bits, the first ordering's above.
struct DominanceRoom {
  struct Level {  // the parts of a node
    std::uint64_t *key, *bound;
    Int* value;
    Id *upto, *slot;
    std::size_t queries;  // at most so many at a time
  };
  static constexpr int kMostLevels = 5;
  std::uint64_t *key, *bound;  // n: key j is selected where both ranks are below the bounds
  // Sorting: items, and all of a sorted number of the keys. The rest lies over it.
  std::uint64_t *item, *spare_item, *number;
  Id* count;          // n, results
  Int *total, *high;  // n, results: high is the upper part of a sum of 128 bits
  Level level[kMostLevels];
  std::uint64_t* seen;  // a bit for each rank
  Id* seen_before;      // and the number of bits before each word
  Id *row_count, *all_count;
  Int *row_total, *all_total, *row_high, *all_high;  // grids of digits
};

DominanceRoom lay_out_dominance(Arena& arena, std::size_t n, Reduction reduction) noexcept;

/// Two orderings, on the row's values. Recursion over the digits of the ranks in both: of the keys that share the
/// query's digits so far, those whose next digits are both below are a prefix of a grid of totals, and the others share
/// one more digit. O(n log^2 n) with logarithms to the base of 64, in sequential passes and grids that stay in the
/// second cache.
void by_dominance(const Row& row, const Term& first, const Term& second, Reduction reduction, bool wide, bool shown,
                  const Emit& emit, const DominanceRoom& room) noexcept;

}  // namespace legato::rasp
