// Select-aggregate: the one operation of RASP (Weiss, Goldberg, Yahav 2021) and of RASP-L (Zhou et al. 2023).
//
// Row i of a selector holds the keys j with predicate(key_j, query_i), and with j <= i when it is causal. An
// aggregation reduces the values of the selected keys. Nothing here builds the n x n matrix. Everything is integer
// arithmetic, with sums of 128 bits where 64 could overflow, so results are the same on every route, instruction set
// and thread count.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "legato/core.hpp"

namespace legato::rasp {

enum class Compare : int {
  equal = 0,
  not_equal = 1,
  less = 2,  ///< key < query
  less_equal = 3,
  greater = 4,
  greater_equal = 5,
  always = 6,
  never = 7,
  called = 8  ///< a predicate of the caller; aggregate_formula alone takes it
};
enum class Reduction : int { width = 0, mean = 1, max = 2, min = 3 };
enum class Rounding : int { truncate = 0, floor = 1, real = 2 };

/// A predicate of the caller, compiled: 1 where the key is selected, 0 where it is not; anything else says that it
/// failed, and the call that asked returns call_failed. Called once for each pair, on any thread.
using Called = std::uint8_t (*)(std::int64_t key, std::int64_t query);

/// One comparison of a selector: rows x n keys and queries, row-major. Not read for always and never.
struct Term {
  std::span<const std::int64_t> key = {};
  std::span<const std::int64_t> query = {};
  Compare compare = Compare::always;
  Called predicate = nullptr;  ///< of Compare::called
};

/// An arbitrary predicate over small alphabets: key ids in [0, keys), query ids in [0, queries) or -1 for "not asked".
struct Table {
  std::span<const std::int32_t> key = {};    ///< rows x n
  std::span<const std::int32_t> query = {};  ///< rows x n
  std::span<const std::uint8_t> truth = {};  ///< keys x queries, 0 or 1
  std::size_t keys = 0, queries = 0;
};

struct Shape {
  std::size_t rows = 1;
  std::size_t length = 0;                      ///< n < 2^31 - 1
  std::span<const std::int64_t> lengths = {};  ///< rows, 0 <= lengths <= n; empty: all n. Outputs beyond are 0
  bool causal = true;
};

struct Aggregation {
  std::span<const std::int64_t> value = {};  ///< rows x n; ignored by width
  Reduction reduction = Reduction::width;
  Rounding rounding = Rounding::truncate;  ///< of the mean
  std::int64_t fallback = 0;               ///< output where nothing is selected
  double real_fallback = 0;                ///< the same for Rounding::real
};

/// Where results go: finished (`out`, or `real` with Rounding::real), or added into totals, from which finish() makes
/// the outputs of a union of selectors by inclusion and exclusion.
struct Sink {
  std::span<std::int64_t> out = {};    ///< rows x n
  std::span<double> real = {};         ///< rows x n
  std::span<std::int64_t> count = {};  ///< rows x n, totals
  std::span<std::int64_t> sum = {};    ///< rows x n x 2: low and high halves of 128 bits; needed by mean
  std::span<std::int64_t> best = {};   ///< rows x n, needed by max and min; starts at the smallest int64
  int sign = 1;                        ///< +1 or -1, on count and sum
};

/// What a conjunction can hold on the fast routes: any number of `equal`, and beside them at most two of the orderings,
/// or one `equal` with one ordering; or a single `not_equal`.
bool has_fast_route(std::span<const Compare> conjunction) noexcept;

/// Bytes for aggregate_conjunction; 0 where it refuses or no memory has so many.
std::size_t conjunction_workspace_size(const Shape& shape, std::span<const Compare> conjunction, Reduction reduction,
                                       int threads) noexcept;

/// Aggregates over the conjunction of `terms` (none: every key): running totals for always, totals by key for equal,
/// total minus equal or the best two for not_equal, a tree of prefix totals over key ranks for an ordering (one for
/// each group with an equal beside it), grids of totals over the digits of two ranks for two orderings. Keys in a wide
/// range are handled in parts that stay in the cache. O(n), O(n log n), O(n log^2 n).
Status aggregate_conjunction(const Shape& shape, std::span<const Term> terms, const Aggregation& aggregation,
                             std::span<std::byte> workspace, const Sink& sink, int threads) noexcept;

/// Bytes for aggregate_table; 0 where no memory has so many.
std::size_t table_workspace_size(const Table& table, int threads) noexcept;

/// Aggregates over a truth table in O(n min(keys, queries)). Tokens whose query id is -1 are left alone.
Status aggregate_table(const Shape& shape, const Table& table, const Aggregation& aggregation,
                       std::span<std::byte> workspace, const Sink& sink, int threads) noexcept;

/// A formula over terms and tables in postfix form: operand t >= 0 is terms[t], then tables[t - terms.size()];
/// kAnd and kOr take two operands, kNot one. At most kFormulaDepth operands wait at once.
constexpr int kAnd = -1, kOr = -2, kNot = -3;
constexpr std::size_t kFormulaDepth = 16;

/// Aggregates over any formula by looking at every pair, in blocks, without an n x n array. O(n^2).
Status aggregate_formula(const Shape& shape, std::span<const Term> terms, std::span<const Table> tables,
                         std::span<const int> formula, const Aggregation& aggregation, const Sink& sink,
                         int threads) noexcept;

/// Truth table of a compiled predicate: keys x queries. call_failed: `first_bad` is the index in it of the first pair
/// for which the predicate failed.
Status fill_truth(Called predicate, std::span<const std::int64_t> keys, std::span<const std::int64_t> queries,
                  std::span<std::uint8_t> truth, std::size_t& first_bad) noexcept;

/// Turns totals into outputs.
Status finish(const Shape& shape, const Aggregation& aggregation, const Sink& totals, const Sink& sink) noexcept;

}  // namespace legato::rasp
