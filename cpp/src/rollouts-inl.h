// Rewards of rollouts into the sums of their groups. Compiled once per ISA region by rollouts.cpp.
#include "packs-inl.h"

#undef LEGATO_MATH_MOMENTS_H
#include "legato/math/moments.h"

namespace legato::LEGATO_REGION {

using math::Doubles;
using math::kPack;
using math::Pack;
using math::PowerSums;

/// The first reward that is not in [low, high] (NaN is not), or the number of rewards.
template <class Real>
std::size_t first_outside(const Real* rewards, std::size_t n, double low, double high) {
  const auto outside = [=](Real reward) {
    const double x = static_cast<double>(reward);
    return !(x >= low) | !(x <= high);
  };
  constexpr std::size_t kStep = 256;
  for (std::size_t i = 0; i < n; i += kStep) {
    const std::size_t stop = n - i < kStep ? n : i + kStep;
    int bad = 0;
    for (std::size_t j = i; j < stop; ++j) bad |= outside(rewards[j]);
    for (std::size_t j = i; bad != 0; ++j) {
      if (outside(rewards[j])) return j;
    }
  }
  return n;
}

/// `count` rewards of one group. Long runs go by lanes, which are added up at the end.
template <class Real>
LEGATO_HD void add_run(const Real* rewards, std::size_t count, rft::RewardSums& group) {
  constexpr bool kWide = sizeof(Real) > sizeof(float);
  PowerSums<double> sums{{group.sum, group.sum_low}, {group.squares, group.squares_low}};
  const double start = static_cast<double>(rewards[0]);
  double least = group.n > 0 ? group.least : start, largest = group.n > 0 ? group.largest : start;
  std::size_t i = 0;
  if (count >= 3 * kPack) {
    PowerSums<Doubles> lanes{};
    Pack<Real> low = math::load_pack(rewards), high = low;
    for (; i + kPack <= count; i += kPack) {
      const Pack<Real> x = math::load_pack(rewards + i);
      low = math::smaller(x, low);
      high = math::larger(x, high);
      lanes.template append<kWide>(math::to_double(x));
    }
    for (int j = 0; j < kPack; ++j) {
      math::add(sums.sum, lanes.sum.high[j]);
      math::add(sums.squares, lanes.squares.high[j]);
      sums.sum.low += lanes.sum.low[j];
      sums.squares.low += lanes.squares.low[j];
      least = static_cast<double>(low[j]) < least ? static_cast<double>(low[j]) : least;
      largest = static_cast<double>(high[j]) > largest ? static_cast<double>(high[j]) : largest;
    }
  }
  for (; i < count; ++i) {
    const double x = static_cast<double>(rewards[i]);
    sums.template append<kWide>(x);
    least = x < least ? x : least;
    largest = x > largest ? x : largest;
  }
  group = {group.n + static_cast<std::int64_t>(count),
           least,
           largest,
           sums.sum.high,
           sums.sum.low,
           sums.squares.high,
           sums.squares.low};
}

template <class Real>
std::size_t add_all(const Real* rewards, const std::uint32_t* groups, std::size_t n, double low, double high,
                    rft::RewardSums* sums) {
  note_isa(LEGATO_REGION_ISA);
  const std::size_t bad = first_outside(rewards, n, low, high);
  if (bad < n) return bad;
  constexpr std::size_t kAhead = 16;
  for (std::size_t i = 0; i < n;) {
    if (i + kAhead < n) __builtin_prefetch(&sums[groups[i + kAhead]], 1);
    std::size_t stop = i + 1;
    while (stop < n && groups[stop] == groups[i]) ++stop;
    add_run(rewards + i, stop - i, sums[groups[i]]);
    i = stop;
  }
  return n;
}

}  // namespace legato::LEGATO_REGION
