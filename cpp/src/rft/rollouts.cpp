#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

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
           std::span<RewardSums> sums, std::size_t& first_bad) noexcept {
  const std::size_t n = rewards.size();
  first_bad = n;
  if (groups.size() != n) return Status::invalid_argument;
  first_bad = LEGATO_DISPATCH(first_beyond, groups.data(), n, sums.size());
  if (first_bad < n) return Status::invalid_argument;
  low = std::max(low, -kLargestReward);
  high = std::min(high, kLargestReward);
  first_bad = LEGATO_DISPATCH(add_all, rewards.data(), groups.data(), n, low, high, sums.data());
  return first_bad < n ? Status::not_finite : Status::ok;
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
                   std::span<RewardSums> sums, std::size_t& first_bad) noexcept {
  return add(rewards, groups, low, high, sums, first_bad);
}

Status add_rewards(std::span<const double> rewards, std::span<const std::uint32_t> groups, double low, double high,
                   std::span<RewardSums> sums, std::size_t& first_bad) noexcept {
  return add(rewards, groups, low, high, sums, first_bad);
}

Status reward_moments(std::span<const RewardSums> sums, std::span<double> mean, std::span<double> m2) noexcept {
  if (mean.size() != sums.size() || m2.size() != sums.size()) return Status::invalid_argument;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const RewardSums& group = sums[i];
    math::Moments found{group.n > 0 ? group.least : 0.0, 0.0};
    if (group.n > 0 && group.least != group.largest) {
      found = math::moments_of({{group.sum, group.sum_low}, {group.squares, group.squares_low}},
                               static_cast<double>(group.n));
    }
    mean[i] = found.mean;
    m2[i] = found.m2;
  }
  return Status::ok;
}

}  // namespace legato::rft
