#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "core/core.h"
#include "legato/rft.hpp"

#define LEGATO_REGION_FILE "rft/rollouts-inl.h"
#include "core/isa_region.h"

#undef LEGATO_MATH_HD_H
#undef LEGATO_MATH_MOMENTS_H
#include "legato/math/moments.h"

namespace legato::rft {
namespace {

bool sound(const NameTable& table, std::size_t capacity) {
  return std::has_single_bit(table.slots.size()) && table.slots.size() > capacity && table.count <= capacity;
}

/// A table of strings with room for an end, whose names lie in its text; the offsets before are of its own making.
bool sound_strings(const NameTable& table) {
  return !table.offsets.empty() && sound(table, table.offsets.size() - 1) &&
         table.offsets[table.count] <= table.text.size();
}

template <class Real>
Status add(std::span<const Real> rewards, std::span<const std::uint32_t> groups, double low, double high,
           std::span<RewardSums> sums, std::span<WideSums> wide, std::size_t& first_bad) noexcept {
  const std::size_t n = rewards.size();
  first_bad = n;
  if (groups.size() != n || (!wide.empty() && wide.size() < sums.size())) return Status::invalid_argument;
  first_bad = LEGATO_DISPATCH(first_beyond, groups.data(), n, sums.size());
  if (first_bad < n) return Status::invalid_argument;
  low = std::max(low, -kLargestReward);
  high = std::min(high, kLargestReward);
  bool some_wide = false;
  first_bad = LEGATO_DISPATCH(first_outside, rewards.data(), n, low, high, some_wide);
  if (first_bad < n) return Status::not_finite;
  if (some_wide && wide.empty()) return Status::workspace_too_small;
  LEGATO_DISPATCH(add_all, rewards.data(), groups.data(), n, sums.data(), wide.empty() ? nullptr : wide.data());
  return Status::ok;
}

using Sums = math::PowerSums<double>;

/// x * 2^exponent, in two halves that are exact.
void add_integer(std::int64_t x, int exponent, math::Doubled<double>& total) {
  math::add(total, std::ldexp(static_cast<double>(x >> 32), exponent + 32));
  math::add(total, std::ldexp(static_cast<double>(x & 0xffffffff), exponent));
}

/// Bins of 32 bits from the largest weight on, 2^exponent, to the sum of them all.
void add_bins(std::span<const std::int64_t> bins, std::int64_t exponent, math::Doubled<double>& total) {
  for (std::size_t k = bins.size(); k-- > 0;) {
    add_integer(bins[k], static_cast<int>(exponent) - 32 * static_cast<int>(k), total);
  }
}

Sums sums_of(const RewardSums& group, const WideSums* wide) {
  constexpr int kSmallest = -1074, kGrid = -RewardSums::kGridBits;  // powers of two
  Sums sums{};
  if (wide != nullptr && wide->level > 0) {
    const std::int64_t level = wide->level - 1;
    add_bins(wide->sum, 32 * (level / 2 + 2) + kSmallest, sums.sum);
    add_bins(wide->squares, 32 * (level + 4) + 2 * kSmallest, sums.squares);
  }
  add_integer(group.sum, kGrid, sums.sum);
  for (const auto& [half, exponent] : {std::pair{group.squares_low, 2 * kGrid}, {group.squares_high, 2 * kGrid + 64}}) {
    math::add(sums.squares, std::ldexp(static_cast<double>(half & 0xffffffffU), exponent));
    math::add(sums.squares, std::ldexp(static_cast<double>(half >> 32), exponent + 32));
  }
  return sums;
}

}  // namespace

Status number_names(std::span<const std::int64_t> names, NameTable& table, std::span<std::uint32_t> numbers,
                    std::size_t& done) noexcept {
  done = 0;
  if (numbers.size() != names.size() || !sound(table, table.integers.size())) {
    return Status::invalid_argument;
  }
  done = LEGATO_DISPATCH(number_integers, names, table, numbers.data());
  return done < numbers.size() ? Status::workspace_too_small : Status::ok;
}

Status number_names(std::span<const std::int32_t> offsets, std::span<const std::byte> text, NameTable& table,
                    std::span<std::uint32_t> numbers, std::size_t& done) noexcept {
  done = 0;
  if (offsets.size() != numbers.size() + 1 || offsets.front() < 0 ||
      static_cast<std::size_t>(offsets.back()) > text.size() || !std::ranges::is_sorted(offsets) ||
      !sound_strings(table)) {
    return Status::invalid_argument;
  }
  done = LEGATO_DISPATCH(number_strings, offsets, text.data(), table, numbers.data());
  return done < numbers.size() ? Status::workspace_too_small : Status::ok;
}

Status rebuild_slots(NameTable& table) noexcept {
  if (!(table.integers.empty() ? sound_strings(table) : sound(table, table.integers.size()))) {
    return Status::invalid_argument;
  }
  LEGATO_DISPATCH(rebuild, table);
  return Status::ok;
}

Status add_rewards(std::span<const float> rewards, std::span<const std::uint32_t> groups, double low, double high,
                   std::span<RewardSums> sums, std::span<WideSums> wide, std::size_t& first_bad) noexcept {
  return add(rewards, groups, low, high, sums, wide, first_bad);
}

Status add_rewards(std::span<const double> rewards, std::span<const std::uint32_t> groups, double low, double high,
                   std::span<RewardSums> sums, std::span<WideSums> wide, std::size_t& first_bad) noexcept {
  return add(rewards, groups, low, high, sums, wide, first_bad);
}

Status merge_rewards(std::span<const RewardSums> from, std::span<const WideSums> from_wide,
                     std::span<const std::uint32_t> groups, std::span<RewardSums> into,
                     std::span<WideSums> into_wide) noexcept {
  if (groups.size() != from.size() || (!from_wide.empty() && from_wide.size() < from.size()) ||
      (!into_wide.empty() && into_wide.size() < into.size()) ||
      LEGATO_DISPATCH(first_beyond, groups.data(), groups.size(), into.size()) < groups.size()) {
    return Status::invalid_argument;
  }
  if (into_wide.empty() && !from_wide.empty()) return Status::workspace_too_small;
  const WideSums* wide = from_wide.empty() ? nullptr : from_wide.data();
  LEGATO_DISPATCH(merge_all, from.data(), wide, groups.data(), from.size(), into.data(), into_wide.data());
  return Status::ok;
}

Status reward_moments(std::span<const RewardSums> sums, std::span<const WideSums> wide, std::span<double> mean,
                      std::span<double> m2) noexcept {
  if (mean.size() != sums.size() || m2.size() != sums.size() || (!wide.empty() && wide.size() < sums.size())) {
    return Status::invalid_argument;
  }
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const RewardSums& group = sums[i];
    math::Moments found{group.n > 0 ? group.least : 0.0, 0.0};
    if (group.n > 0 && group.least != group.largest) {
      found = math::moments_of(sums_of(group, wide.empty() ? nullptr : &wide[i]), static_cast<double>(group.n));
    }
    mean[i] = found.mean;
    m2[i] = found.m2;
  }
  return Status::ok;
}

}  // namespace legato::rft
