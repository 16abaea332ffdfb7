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

LEGATO_SURFACE_BEGIN

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
enum class Reduction : int {
  width = 0,
  mean = 1,
  max = 2,
  min = 3,
  sum = 4  ///< of streams; elsewhere the totals of a mean hold it
};
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

// --- Programs token by token ----------------------------------------------------------------------------------------

/// What one instruction of a program does with the elements of earlier ones. `real_` operations work on the bits of
/// doubles, all others on integers, with truth values as 0 and 1.
enum class Op : std::int64_t {
  tokens = 0,
  indices = 1,
  constant = 2,  ///< its 64 bits
  add = 3,
  sub = 4,
  mul = 5,
  floordiv = 6,
  mod = 7,
  pow = 8,
  equal = 9,
  not_equal = 10,
  less = 11,
  less_equal = 12,
  greater = 13,
  greater_equal = 14,
  bit_and = 15,
  bit_or = 16,
  bit_xor = 17,
  neg = 18,
  abs = 19,
  invert = 20,
  logical_not = 21,
  truth = 22,
  where = 23,    ///< a, b, c: b where a is not 0, else c; of either kind
  real = 24,     ///< the nearest double
  exact = 25,    ///< the same; fails beyond 2^53
  integer = 26,  ///< of a double, toward zero
  real_add = 27,
  real_sub = 28,
  real_mul = 29,
  real_div = 30,
  real_equal = 31,
  real_not_equal = 32,
  real_less = 33,
  real_less_equal = 34,
  real_greater = 35,
  real_greater_equal = 36,
  real_neg = 37,
  real_abs = 38,
  real_truth = 39,
  aggregate = 40
};

/// The words of a program: 1 (the version), the number of instructions, 1 where the last one gives doubles and else 0;
/// then each instruction, its operation and what that needs. Operands are numbers of earlier instructions.
///
///   constant    bits
///   aggregate   value (-1: none), reduction, rounding, fallback (an integer, or the bits of a double), form, and
///     form 0    the number of conjunctions; each: 1 or -1, the number of terms, and key, query, compare of each
///     form 1    the number of terms, key, query, compare of each; the number of codes, a formula as above
///   others      one to three operands
using Words = std::span<const std::int64_t>;

/// The state of a causal program between tokens: for each aggregation, totals by key, or blocks of doubling size that
/// are sorted by the keys of an ordering, and within each, for a second ordering, sorted runs of every size. A token
/// costs O(1) for always, equal and not_equal, O(log^2 n) for an ordering, O(log^3 n) for two, each with any equality
/// beside it, and O(n) for other formulas; amortized, because blocks are merged. Lives in the caller's memory, for up
/// to a number of tokens that is fixed when it is made. No call allocates. Needs no destruction.
class Stream;
/// Bytes for so many tokens; 0 where the words are no program or no memory has so many.
std::size_t stream_memory_size(Words program, std::size_t capacity) noexcept;
/// Null where the words are no program or the memory is too small. The words are copied.
Stream* create_stream(Words program, std::size_t capacity, std::span<std::byte> memory) noexcept;
/// Forgets all tokens.
void reset(Stream& stream) noexcept;
/// The tokens so far.
std::span<const std::int64_t> tokens_of(const Stream& stream) noexcept;
std::size_t capacity_of(const Stream& stream) noexcept;
bool gives_real(const Stream& stream) noexcept;
/// Appends tokens; `out` (as many) gets the program's output at each, doubles as their bits. workspace_too_small:
/// beyond the capacity, and nothing is done. numerical_trouble: an integer left 64 bits, a division by zero, or
/// something else that these instructions do not compute exactly as Python does; the stream must be reset.
Status push(Stream& stream, std::span<const std::int64_t> tokens, std::span<std::int64_t> out) noexcept;
/// Greedy generation: appends `token`, then each output in turn, until `out` is full or holds `stop` (null: never).
/// `written`: the outputs, the first of which is that at `token`.
Status generate(Stream& stream, std::int64_t token, const std::int64_t* stop, std::span<std::int64_t> out,
                std::size_t& written) noexcept;

}  // namespace legato::rasp

LEGATO_SURFACE_END
