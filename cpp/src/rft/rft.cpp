#include "legato/rft.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "core/core.h"

#define LEGATO_REGION_FILE "rft/rft-inl.h"
#include "core/isa_region.h"

namespace legato::rft {
namespace {

/// The chunks of rows depend on the number of columns alone.
constexpr std::size_t kLogitsPerChunk = std::size_t{1} << 18;
constexpr double kLogitNs = 0.2;

bool holds(std::size_t bytes, const Logits& logits) noexcept {
  const std::size_t each = logits.type == FloatType::f32 ? 4 : 2;
  return (Size{logits.rows} * logits.columns * each).is(bytes);
}

/// Of one number a row, or where they may be missing none.
template <class Number>
bool is_column(std::span<Number> column, const Logits& logits, bool optional = false) noexcept {
  return column.size() == logits.rows || (optional && column.empty());
}

Status check_rows(const Logits& logits, std::span<const std::int64_t> ids, double temperature,
                  std::span<const std::uint8_t> mask, std::size_t& first_bad) noexcept {
  first_bad = logits.rows;
  const bool typed = logits.type >= FloatType::f32 && logits.type <= FloatType::f16;
  const bool shaped = typed && is_column(ids, logits) && is_column(mask, logits, true) &&
                      holds(logits.data.size(), logits) && (logits.rows == 0 || logits.columns > 0) &&
                      temperature >= kMinTemperature && temperature <= kMaxTemperature;
  if (!shaped) return Status::invalid_argument;
  for (std::size_t n = 0; n < logits.rows; ++n) {
    if (!mask.empty() && mask[n] == 0) continue;
    if (ids[n] < 0 || static_cast<std::uint64_t>(ids[n]) >= logits.columns) {
      first_bad = n;
      return Status::invalid_argument;
    }
  }
  return Status::ok;
}

template <class Work>
void for_rows(const Logits& logits, int threads, Work&& work) noexcept {
  for_chunks(logits.rows, kLogitsPerChunk / std::max<std::size_t>(logits.columns, 1), threads,
             kLogitNs * static_cast<double>(logits.columns),
             [&](std::size_t begin, std::size_t end, std::size_t) { work(begin, end); });
  note_isa(active_isa());  // for this thread, where helpers did the work
}

constexpr std::size_t kStepsToAsk = 4096;  // from one question to the next

/// Rows first, ..., first + kRows - 1 side by side: each is a chain of operations that wait for one another.
template <std::size_t kRows, class Real>
void estimate_rows(const Real* rewards, const Real* values, const std::uint8_t* mask, const Real* bootstrap,
                   std::size_t columns, std::size_t first, double gamma, double decay, Real* advantages,
                   Real* returns) noexcept {
  double next_value[kRows], last[kRows];
  for (std::size_t k = 0; k < kRows; ++k) {
    next_value[k] = bootstrap == nullptr ? 0.0 : static_cast<double>(bootstrap[first + k]);
    last[k] = 0.0;
  }
  for (std::size_t done = 0; done < columns;) {  // no question before short rows: their caller asks
    if (done > 0 && cancelled()) return;
    for (const std::size_t end = std::min(columns, done + kStepsToAsk); done < end; ++done) {
      const std::size_t t = columns - 1 - done;
      for (std::size_t k = 0; k < kRows; ++k) {
        const std::size_t at = (first + k) * columns + t;
        if (mask != nullptr && mask[at] == 0) {
          advantages[at] = returns[at] = Real{0};
          continue;
        }
        const double value = static_cast<double>(values[at]);
        last[k] = static_cast<double>(rewards[at]) + gamma * next_value[k] - value + decay * last[k];
        next_value[k] = value;
        advantages[at] = static_cast<Real>(last[k]);
        returns[at] = static_cast<Real>(last[k] + value);
      }
    }
  }
}

/// NaN is not.
bool usable(double reward) { return std::abs(reward) <= kLargestReward; }

template <class Real>
Status estimate(std::span<const Real> rewards, std::span<const Real> values, std::span<const std::uint8_t> mask,
                std::span<const Real> bootstrap, std::size_t rows, double gamma, double lambda,
                std::span<Real> advantages, std::span<Real> returns) noexcept {
  const std::size_t total = rewards.size(), columns = rows > 0 ? total / rows : 0;
  const bool shaped = rows * columns == total && values.size() == total && (mask.empty() || mask.size() == total) &&
                      (bootstrap.empty() || bootstrap.size() == rows) && advantages.size() == total &&
                      returns.size() == total;
  if (!shaped || !std::isfinite(gamma) || !std::isfinite(lambda)) return Status::invalid_argument;
  if (total == 0) return Status::ok;  // of any number of rows
  const std::uint8_t* kept = mask.empty() ? nullptr : mask.data();
  const Real* ends = bootstrap.empty() ? nullptr : bootstrap.data();
  constexpr std::size_t kTogether = 2;
  const auto run = [&]<std::size_t kRows>(std::size_t first) {
    estimate_rows<kRows>(rewards.data(), values.data(), kept, ends, columns, first, gamma, gamma * lambda,
                         advantages.data(), returns.data());
  };
  std::size_t n = 0;
  const std::size_t stretch = kTogether * (kStepsToAsk / columns + 1);
  for (std::size_t end = 0; goes_on(n, end, rows / kTogether * kTogether, stretch);) {
    for (; n < end; n += kTogether) run.template operator()<kTogether>(n);
  }
  for (; n < rows && !cancelled(); ++n) run.template operator()<1>(n);
  return outcome();
}

}  // namespace

Status token_stats(const Logits& logits, std::span<const std::int64_t> ids, double temperature,
                   std::span<const std::uint8_t> mask, const TokenStats& out, std::size_t& first_bad,
                   int threads) noexcept {
  const Status status = check_rows(logits, ids, temperature, mask, first_bad);
  if (status != Status::ok || logits.rows == 0) return status;
  const bool shaped = is_column(out.logp, logits) && is_column(out.lse, logits) && is_column(out.largest, logits) &&
                      is_column(out.log_sum, logits) && is_column(out.entropy, logits, true) &&
                      out.sum_p2.size() == out.entropy.size();
  if (!shaped) return Status::invalid_argument;
  const std::uint8_t* kept = mask.empty() ? nullptr : mask.data();
  for_rows(logits, threads, [&](std::size_t begin, std::size_t end) {
    LEGATO_DISPATCH(stats_rows, logits, ids.data(), temperature, kept, out, begin, end);
  });
  return outcome();
}

Status token_stats_backward(const Logits& logits, std::span<const std::int64_t> ids, double temperature,
                            std::span<const std::uint8_t> mask, const GivenStats& stats,
                            std::span<const float> grad_logp, std::span<const float> grad_entropy,
                            std::span<std::byte> gradient, std::size_t& first_bad, int threads) noexcept {
  const Status status = check_rows(logits, ids, temperature, mask, first_bad);
  if (status != Status::ok || logits.rows == 0) return status;
  const bool shaped = is_column(grad_logp, logits) && is_column(grad_entropy, logits, true) &&
                      is_column(stats.entropy, logits, grad_entropy.empty()) && is_column(stats.largest, logits) &&
                      is_column(stats.log_sum, logits) && holds(gradient.size(), logits);
  if (!shaped) return Status::invalid_argument;
  const std::uint8_t* kept = mask.empty() ? nullptr : mask.data();
  const float* weights = grad_entropy.empty() ? nullptr : grad_entropy.data();
  for_rows(logits, threads, [&](std::size_t begin, std::size_t end) {
    LEGATO_DISPATCH(gradient_rows, logits, ids.data(), temperature, kept, stats, grad_logp.data(), weights,
                    gradient.data(), begin, end);
  });
  return outcome();
}

Status gae(std::span<const float> rewards, std::span<const float> values, std::span<const std::uint8_t> mask,
           std::span<const float> bootstrap, std::size_t rows, double gamma, double lambda, std::span<float> advantages,
           std::span<float> returns) noexcept {
  return estimate(rewards, values, mask, bootstrap, rows, gamma, lambda, advantages, returns);
}

Status gae(std::span<const double> rewards, std::span<const double> values, std::span<const std::uint8_t> mask,
           std::span<const double> bootstrap, std::size_t rows, double gamma, double lambda,
           std::span<double> advantages, std::span<double> returns) noexcept {
  return estimate(rewards, values, mask, bootstrap, rows, gamma, lambda, advantages, returns);
}

Status group_moments(std::span<const double> rewards, std::span<const std::int64_t> groups,
                     std::span<std::int64_t> count, std::span<double> least, std::span<double> largest,
                     std::span<double> mean, std::span<double> m2, std::size_t& first_bad) noexcept {
  const std::size_t n = rewards.size(), g = count.size();
  first_bad = n;
  if (groups.size() != n || least.size() != g || largest.size() != g || mean.size() != g || m2.size() != g) {
    return Status::invalid_argument;
  }
  std::fill(count.begin(), count.end(), 0);
  std::fill(least.begin(), least.end(), std::numeric_limits<double>::infinity());
  std::fill(largest.begin(), largest.end(), -std::numeric_limits<double>::infinity());
  std::fill(mean.begin(), mean.end(), 0.0);
  std::fill(m2.begin(), m2.end(), 0.0);
  for (std::size_t i = 0, end = 0; goes_on(i, end, n);) {
    for (; i < end; ++i) {
      const bool known = groups[i] >= 0 && static_cast<std::uint64_t>(groups[i]) < g;
      if (!known || !usable(rewards[i])) {
        first_bad = i;
        return known ? Status::not_finite : Status::invalid_argument;
      }
      const auto at = static_cast<std::size_t>(groups[i]);
      ++count[at];
      least[at] = std::min(least[at], rewards[i]);
      largest[at] = std::max(largest[at], rewards[i]);
    }
  }
  for (std::size_t i = 0, end = 0; goes_on(i, end, n);) {
    for (; i < end; ++i) {
      const auto at = static_cast<std::size_t>(groups[i]);
      mean[at] += rewards[i] - least[at];
    }
  }
  for (std::size_t at = 0; at < g; ++at) {
    if (count[at] > 0) mean[at] /= static_cast<double>(count[at]);  // still relative to the least
  }
  for (std::size_t i = 0, end = 0; goes_on(i, end, n);) {
    for (; i < end; ++i) {
      const auto at = static_cast<std::size_t>(groups[i]);
      const double d = (rewards[i] - least[at]) - mean[at];
      m2[at] += d * d;
    }
  }
  for (std::size_t at = 0; at < g; ++at) {
    if (count[at] > 0) mean[at] += least[at];
  }
  return outcome();
}

std::size_t group_count(std::span<const std::int64_t> groups) noexcept {
  std::int64_t most = -1;
  for (const std::int64_t g : groups) most = std::max(most, g);
  return static_cast<std::size_t>(std::min<std::uint64_t>(static_cast<std::uint64_t>(most) + 1, Size::kMost));
}

Status group_advantages(std::span<const double> rewards, std::span<const std::int64_t> groups,
                        const AdvantageRule& rule, std::span<GroupWork> work, std::span<double> advantages,
                        std::size_t& first_bad) noexcept {
  const std::size_t n = rewards.size();
  first_bad = n;
  const bool known_scale = rule.scale >= GroupScale::deviation && rule.scale <= GroupScale::all_rewards;
  if (groups.size() != n || advantages.size() != n || !known_scale) return Status::invalid_argument;
  std::fill(work.begin(), work.end(), GroupWork{0, 0.0, 0.0, 0.0});
  for (std::size_t i = 0, end = 0; goes_on(i, end, n);) {
    for (; i < end; ++i) {
      const bool known = static_cast<std::uint64_t>(groups[i]) < work.size();  // a negative one is not
      if (!known || !usable(rewards[i])) {
        first_bad = i;
        return known ? Status::not_finite : Status::invalid_argument;
      }
      GroupWork& group = work[static_cast<std::size_t>(groups[i])];
      group.first = group.count == 0 ? rewards[i] : group.first;
      group.mean += rewards[i] - group.first;
      ++group.count;
    }
  }
  const auto at_least_one = [](std::int64_t x) { return static_cast<double>(x > 1 ? x : 1); };
  for (GroupWork& group : work) {
    group.mean /= at_least_one(group.count);
    if (rule.scale != GroupScale::deviation) group.scale = 1.0;
    if (rule.scale == GroupScale::leave_one_out)
      group.scale = at_least_one(group.count - 1) / at_least_one(group.count);
  }
  const auto centered = [&](std::size_t i, const GroupWork& group) { return (rewards[i] - group.first) - group.mean; };
  if (rule.scale == GroupScale::deviation) {
    for (std::size_t i = 0, end = 0; goes_on(i, end, n);) {
      for (; i < end; ++i) {
        GroupWork& group = work[static_cast<std::size_t>(groups[i])];
        const double d = centered(i, group);
        group.scale += d * d;
      }
    }
    for (GroupWork& group : work) {
      const double scale = std::sqrt(group.scale / at_least_one(group.count - rule.ddof)) + rule.eps;
      group.scale = scale == 0 ? 1.0 : scale;
    }
  }
  for (std::size_t i = 0, end = 0; goes_on(i, end, n);) {
    for (; i < end; ++i) {
      const GroupWork& group = work[static_cast<std::size_t>(groups[i])];
      advantages[i] = centered(i, group) / group.scale;
    }
  }
  if (rule.scale == GroupScale::all_centered || rule.scale == GroupScale::all_rewards) {
    double mean = 0.0, m2 = 0.0;  // relative to the first reward
    if (rule.scale == GroupScale::all_centered) {
      for (const double d : advantages) m2 += d * d;
    } else {
      for (const double r : rewards) mean += (r - rewards[0]) / static_cast<double>(n);
      for (const double r : rewards) m2 += ((r - rewards[0]) - mean) * ((r - rewards[0]) - mean);
    }
    const double spread = std::sqrt(m2 / at_least_one(static_cast<std::int64_t>(n) - rule.ddof)) + rule.eps;
    for (double& d : advantages) d /= spread == 0 ? 1.0 : spread;
  }
  for (std::size_t i = 0; i < n && rule.raw_singletons; ++i) {
    if (work[static_cast<std::size_t>(groups[i])].count == 1) advantages[i] = rewards[i];
  }
  return outcome();
}

}  // namespace legato::rft
