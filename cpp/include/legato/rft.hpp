// Reinforcement fine-tuning: the tensor kernels of a policy-gradient step.
//
// Conventions. Logits are row-major, one row a generated token, one column an entry of the vocabulary. Logarithms are
// natural, results in nats. "n x m" beside a span gives its shape. Rows are independent: a result does not depend on
// the batch, the chunking, the thread count or the instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "legato/core.hpp"

LEGATO_SURFACE_BEGIN

namespace legato::rft {

/// Storage of the logits; all arithmetic is in float32 with float64 sums of blocks.
enum class FloatType : int { f32 = 0, bf16 = 1, f16 = 2 };

struct Logits {
  std::span<const std::byte> data = {};  ///< of rows x columns, contiguous, aligned for their type
  FloatType type = FloatType::f32;
  std::size_t rows = 0, columns = 0;  ///< columns >= 1 where rows >= 1
};

/// Statistics of each row's distribution softmax(z / T); `rows` numbers each, the caller's.
struct TokenStats {
  std::span<float> logp = {};     ///< log p(id), nats
  std::span<float> entropy = {};  ///< nats; may be empty together with sum_p2: then neither is worked out
  std::span<float> sum_p2 = {};   ///< sum of the squared probabilities
  std::span<float> lse = {};      ///< log sum exp(z / T)
  std::span<float> largest = {};  ///< max z
  std::span<float> log_sum = {};  ///< lse - largest / T, with all its digits; the gradient needs it
};

/// What token_stats_backward needs of them.
struct GivenStats {
  std::span<const float> entropy = {};  ///< empty where no gradient of the entropy is asked for
  std::span<const float> largest = {}, log_sum = {};
};

/// Temperatures outside are refused: beyond them z / T leaves the range of float32.
constexpr double kMinTemperature = 1e-6, kMaxTemperature = 1e6;

/// Minus infinity is a logit like any other (0 log 0 = 0). A row that holds NaN or plus infinity, or minus infinity
/// only, gives NaN throughout. Rows whose `mask` is zero are not read and give 0 (empty mask: all rows count). One pass
/// over memory; no temporary. ids: rows, in [0, columns) where the mask is set; otherwise invalid_argument with
/// `first_bad` the row. Absolute error against float64: logp 2e-5, entropy 5e-5, sum_p2 1e-6; relative error of lse
/// 1e-6. The AVX2 and AVX-512 copies give the same bits; the baseline copy has no fused products and may differ in the
/// last ones.
Status token_stats(const Logits& logits, std::span<const std::int64_t> ids, double temperature,
                   std::span<const std::uint8_t> mask, const TokenStats& out, std::size_t& first_bad,
                   int threads = 1) noexcept;

/// d/dz of sum_n grad_logp[n] log p_n(id_n) + grad_entropy[n] H_n, from the largest and log_sum of token_stats, and
/// its entropy where grad_entropy is given: (grad_logp (onehot - p) - grad_entropy p (log p + H)) / T. grad_logp: rows.
/// grad_entropy: rows, or empty. gradient: rows x columns of the type of the logits; may be the same memory. Masked
/// rows give 0.
Status token_stats_backward(const Logits& logits, std::span<const std::int64_t> ids, double temperature,
                            std::span<const std::uint8_t> mask, const GivenStats& stats,
                            std::span<const float> grad_logp, std::span<const float> grad_entropy,
                            std::span<std::byte> gradient, std::size_t& first_bad, int threads = 1) noexcept;

/// Generalized advantage estimation over n x m steps. Masked steps are skipped: the next value and the next advantage
/// are carried across them (empty mask: every step counts). bootstrap: n values after the last step, or empty for zero.
/// advantages, returns: n x m, 0 where masked. The recurrence runs in float64 whatever the storage.
Status gae(std::span<const float> rewards, std::span<const float> values, std::span<const std::uint8_t> mask,
           std::span<const float> bootstrap, std::size_t rows, double gamma, double lambda, std::span<float> advantages,
           std::span<float> returns) noexcept;
Status gae(std::span<const double> rewards, std::span<const double> values, std::span<const std::uint8_t> mask,
           std::span<const double> bootstrap, std::size_t rows, double gamma, double lambda,
           std::span<double> advantages, std::span<double> returns) noexcept;

/// The largest reward, of either sign: squares must not overflow.
constexpr double kLargestReward = 1e150;

/// Moments of the rewards of each group: count, least, largest, mean and sum of squared deviations (m2), shifted by the
/// least first, so that a constant group has m2 exactly 0. groups: n, in [0, g), else invalid_argument with
/// `first_bad`. Rewards that are not finite or beyond kLargestReward: not_finite. An empty group: count 0, least +inf,
/// largest -inf, mean and m2 0.
Status group_moments(std::span<const double> rewards, std::span<const std::int64_t> groups,
                     std::span<std::int64_t> count, std::span<double> least, std::span<double> largest,
                     std::span<double> mean, std::span<double> m2, std::size_t& first_bad) noexcept;

/// What a centered reward is divided by: sqrt(m2 / (count - ddof)) + eps of its group; (count - 1) / count, as if the
/// mean were that of the others; 1; or the deviation + eps of all centered rewards together, or of all rewards.
enum class GroupScale { deviation, leave_one_out, one, all_centered, all_rewards };

struct AdvantageRule {
  GroupScale scale = GroupScale::deviation;
  int ddof = 1;
  double eps = 1e-4;
  bool raw_singletons = false;  ///< a group of one has its reward for an advantage, not 0
};

/// A group's part of the work of `group_advantages`.
struct GroupWork {
  std::int64_t count;
  double first, mean, scale;  // the mean relative to the first reward
};

/// The largest of the groups plus one; 0 where there is none.
std::size_t group_count(std::span<const std::int64_t> groups) noexcept;

/// advantages[i] = (rewards[i] - mean of its group) / scale, relative to the first reward of each group, so that
/// constant groups give exactly 0. A scale of 0 counts as 1. work: one a group, of any content. Errors as
/// `group_moments`; a `GroupScale` that is none is an invalid argument.
Status group_advantages(std::span<const double> rewards, std::span<const std::int64_t> groups,
                        const AdvantageRule& rule, std::span<GroupWork> work, std::span<double> advantages,
                        std::size_t& first_bad) noexcept;

// Rollouts as they stream in: number the prompts of a batch, then add its rewards to the sums of the prompts. The
// tables are the caller's and grow between calls. Memory goes with the prompts.

/// Names met so far, numbered from 0 on. slots: a power of two of them, more than there is room for names, zero at
/// first; a quarter or more should stay free. Names are integers, or strings in `text`, the i-th from offsets[i] to
/// offsets[i + 1] (offsets: one more than names, the first 0).
struct NameTable {
  std::span<std::uint64_t> slots = {};
  std::size_t count = 0;
  std::span<std::int64_t> integers = {};
  std::span<std::uint64_t> offsets = {};
  std::span<std::byte> text = {};
};

/// The number of each name, new ones at the end of the table, until one has no room there: then workspace_too_small,
/// and `done` says how many have their numbers.
Status number_names(std::span<const std::int64_t> names, NameTable& table, std::span<std::uint32_t> numbers,
                    std::size_t& done) noexcept;
/// offsets: one more than names, into `text`; invalid_argument where they fall.
Status number_names(std::span<const std::int32_t> offsets, std::span<const std::byte> text, NameTable& table,
                    std::span<std::uint32_t> numbers, std::size_t& done) noexcept;
/// Fills `slots`, all zero, from the names of a table whose slots were too few.
Status rebuild_slots(NameTable& table) noexcept;

/// Exact sums over a prompt's rewards: any order, any split, the same bits. All zero before the first.
struct alignas(64) RewardSums {
  static constexpr int kGridBits = 20;
  std::int64_t n = 0;
  double least = 0, largest = 0;
  std::uint32_t least_count = 0, largest_count = 0;
  std::int64_t sum = 0;                             // of rewards on the grid: multiples of 2^-20 up to 2^11
  std::uint64_t squares_low = 0, squares_high = 0;  // of theirs, in multiples of 2^-40
};

/// Sums of the rewards off the grid, in bins of 32 bits that carry nothing over, the largest weight first. The bins
/// reach at least 64 bits below the last digit of the largest reward; less is cut off each reward, whatever its turn.
struct WideSums {
  static constexpr int kSumBins = 5, kSquareBins = 7;
  std::int64_t level = 0;  // of the largest reward: its exponent in steps of 16
  std::int64_t sum[kSumBins] = {}, squares[kSquareBins] = {};
};

/// Adds rewards[i] to sums[groups[i]]. A group beyond the sums: invalid_argument; a reward outside of [low, high] (NaN
/// is): not_finite; both with `first_bad`. Rewards off the grid need `wide`, as many as sums; if it is empty:
/// workspace_too_small. Nothing is added then.
Status add_rewards(std::span<const float> rewards, std::span<const std::uint32_t> groups, double low, double high,
                   std::span<RewardSums> sums, std::span<WideSums> wide, std::size_t& first_bad) noexcept;
Status add_rewards(std::span<const double> rewards, std::span<const std::uint32_t> groups, double low, double high,
                   std::span<RewardSums> sums, std::span<WideSums> wide, std::size_t& first_bad) noexcept;

/// Adds from[i] to into[groups[i]]. A group beyond `into`: invalid_argument and nothing added. into_wide may be empty
/// if from_wide is: else workspace_too_small.
Status merge_rewards(std::span<const RewardSums> from, std::span<const WideSums> from_wide,
                     std::span<const std::uint32_t> groups, std::span<RewardSums> into,
                     std::span<WideSums> into_wide) noexcept;

/// Mean and sum of squared deviations of each; of equal rewards exactly that reward and 0, of none 0 and 0.
Status reward_moments(std::span<const RewardSums> sums, std::span<const WideSums> wide, std::span<double> mean,
                      std::span<double> m2) noexcept;

/// Keys from the outermost object inwards, as they are written (an escape in a key is not undone).
using JsonPath = std::span<const std::string_view>;

enum class JsonKind : std::int64_t {
  missing = 0,
  null = 1,
  number = 2,  ///< or NaN, Infinity, -Infinity; only its letters are checked
  text = 3,
  escaped = 4,  ///< text with backslashes
  boolean = 5,
  array = 6,
  object = 7,
};

/// Where a value is in the text, without the quotes of a string.
struct JsonField {
  std::int64_t begin, end;
  JsonKind kind;
};

/// Values of JSON objects, one a line, blank lines left out: fields is n x paths (at most 32). Inside of values that no
/// path leads to only strings and brackets are looked at. A line that is no closed object: not_finite, with its place
/// in `bad`. More lines than fields have room for: workspace_too_small, with those done in `rows`.
Status find_json_fields(std::string_view text, std::span<const JsonPath> paths, std::span<JsonField> fields,
                        std::size_t& rows, std::size_t& bad) noexcept;

}  // namespace legato::rft

LEGATO_SURFACE_END
