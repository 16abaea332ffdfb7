#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "core.h"
#include "legato/rft.hpp"

#define LEGATO_REGION_FILE "rollouts-inl.h"
#include "isa_region.h"

#undef LEGATO_MATH_HD_H
#undef LEGATO_MATH_MOMENTS_H
#include "legato/math/moments.h"

namespace legato::rft {
namespace {

/// A full slot holds the upper half of the name's hash, and the name's number plus one below.
constexpr std::uint64_t kNumber = 0xffffffffU;

constexpr std::uint64_t scramble(std::uint64_t x) {
  x = (x ^ (x >> 32)) * 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 29)) * 0xd6e8feb86659fd93U;
  return x ^ (x >> 32);
}

struct Integers {
  std::span<const std::int64_t> names;

  std::size_t size() const { return names.size(); }
  bool same(std::size_t i, std::size_t j) const { return names[i] == names[j]; }
  std::uint64_t hash(std::size_t i) const { return scramble(static_cast<std::uint64_t>(names[i])); }
  bool is(std::size_t i, const NameTable& table, std::size_t number) const {
    return table.integers[number] == names[i];
  }
  static const void* where(const NameTable& table, std::size_t number) { return &table.integers[number]; }
  void append(std::size_t i, NameTable& table) const { table.integers[table.count] = names[i]; }
};

template <class Offset>
struct Strings {
  std::span<const Offset> offsets;
  const std::byte* text;

  std::size_t size() const { return offsets.size() - 1; }
  const std::byte* begin(std::size_t i) const { return text + static_cast<std::size_t>(offsets[i]); }
  std::size_t length(std::size_t i) const { return static_cast<std::size_t>(offsets[i + 1] - offsets[i]); }
  bool same(std::size_t i, std::size_t j) const {
    return length(i) == length(j) && std::memcmp(begin(i), begin(j), length(i)) == 0;
  }
  std::uint64_t hash(std::size_t i) const {
    const std::byte* at = begin(i);
    std::size_t left = length(i);
    std::uint64_t hash = left, word = 0;
    for (; left > 8; left -= 8, at += 8) {
      std::memcpy(&word, at, 8);
      hash = std::rotl(hash ^ word, 29) * 0x9e3779b97f4a7c15U;
    }
    word = 0;
    std::memcpy(&word, at, left);
    return scramble(std::rotl(hash, 29) ^ word);
  }
  bool is(std::size_t i, const NameTable& table, std::size_t number) const {
    const std::uint64_t first = table.offsets[number], bytes = table.offsets[number + 1] - first;
    return bytes == length(i) && std::memcmp(&table.text[first], begin(i), bytes) == 0;
  }
  static const void* where(const NameTable& table, std::size_t number) { return &table.offsets[number]; }
  void append(std::size_t i, NameTable& table) const {
    const std::uint64_t first = table.offsets[table.count];
    std::memcpy(table.text.data() + first, begin(i), length(i));
    table.offsets[table.count + 1] = first + length(i);
  }
};

/// The slot of the i-th name: where it is, or the free one where it belongs.
template <class Names>
std::size_t find_slot(const Names& names, std::size_t i, std::uint64_t hash, const NameTable& table) {
  const std::size_t mask = table.slots.size() - 1;
  for (std::size_t at = hash & mask;; at = (at + 1) & mask) {
    const std::uint64_t slot = table.slots[at];
    if (slot == 0 || (((slot ^ hash) & ~kNumber) == 0 && names.is(i, table, (slot & kNumber) - 1))) return at;
  }
}

/// Blocks of runs: first their hashes, then what their slots point at, then the numbers; each step finds in the cache
/// what the one before has asked for.
template <class Names>
void number_all(const Names& names, NameTable& table, std::span<std::uint32_t> numbers) {
  constexpr std::size_t kBlock = 32;
  std::size_t first[kBlock + 1];
  std::uint64_t hashes[kBlock];
  const std::size_t n = names.size(), mask = table.slots.size() - 1;
  for (std::size_t i = 0; i < n;) {
    std::size_t runs = 0;
    while (runs < kBlock && i < n) {
      first[runs] = i;
      hashes[runs] = names.hash(i);
      __builtin_prefetch(&table.slots[hashes[runs] & mask]);
      ++runs;
      for (++i; i < n && names.same(i, i - 1);) ++i;
    }
    first[runs] = i;
    for (std::size_t run = 0; run < runs; ++run) {
      const std::uint64_t slot = table.slots[hashes[run] & mask];
      if (slot != 0) __builtin_prefetch(Names::where(table, (slot & kNumber) - 1));
    }
    for (std::size_t run = 0; run < runs; ++run) {
      std::uint64_t& slot = table.slots[find_slot(names, first[run], hashes[run], table)];
      if (slot == 0) {
        names.append(first[run], table);
        slot = (hashes[run] & ~kNumber) | ++table.count;
      }
      std::fill(numbers.begin() + static_cast<std::ptrdiff_t>(first[run]),
                numbers.begin() + static_cast<std::ptrdiff_t>(first[run + 1]),
                static_cast<std::uint32_t>((slot & kNumber) - 1));
    }
  }
}

bool has_room(const NameTable& table, std::size_t more, std::size_t capacity) {
  const std::size_t wanted = table.count + more;
  return wanted <= capacity && wanted < table.slots.size() && wanted < kNumber &&
         std::has_single_bit(table.slots.size());
}

template <class Names>
void fill_slots(const Names& names, NameTable& table) {
  for (std::size_t i = 0; i < table.count; ++i) {
    const std::uint64_t hash = names.hash(i);
    table.slots[find_slot(names, i, hash, table)] = (hash & ~kNumber) | (i + 1);
  }
}

template <class Real>
Status add(std::span<const Real> rewards, std::span<const std::uint32_t> groups, double low, double high,
           std::span<RewardSums> sums, std::size_t& first_bad) noexcept {
  const std::size_t n = rewards.size();
  first_bad = n;
  if (groups.size() != n) return Status::invalid_argument;
  low = std::max(low, -kLargestReward);
  high = std::min(high, kLargestReward);
  first_bad = LEGATO_DISPATCH(add_all, rewards.data(), groups.data(), n, low, high, sums.data());
  return first_bad < n ? Status::not_finite : Status::ok;
}

}  // namespace

Status number_names(std::span<const std::int64_t> names, NameTable& table, std::span<std::uint32_t> numbers) noexcept {
  if (numbers.size() != names.size()) return Status::invalid_argument;
  if (!has_room(table, names.size(), table.integers.size())) return Status::workspace_too_small;
  number_all(Integers{names}, table, numbers);
  return Status::ok;
}

Status number_names(std::span<const std::int32_t> offsets, std::span<const std::byte> text, NameTable& table,
                    std::span<std::uint32_t> numbers) noexcept {
  if (offsets.size() != numbers.size() + 1 || offsets.front() < 0 ||
      static_cast<std::size_t>(offsets.back()) > text.size()) {
    return Status::invalid_argument;
  }
  const std::size_t bytes = static_cast<std::size_t>(offsets.back() - offsets.front());
  if (table.offsets.empty() || !has_room(table, numbers.size(), table.offsets.size() - 1) ||
      table.text.size() - table.offsets[table.count] < bytes) {
    return Status::workspace_too_small;
  }
  number_all(Strings<std::int32_t>{offsets, text.data()}, table, numbers);
  return Status::ok;
}

Status rebuild_slots(NameTable& table) noexcept {
  const std::size_t capacity = std::max(table.integers.size(), table.offsets.size());
  if (!has_room(table, 0, capacity)) return Status::workspace_too_small;
  if (table.offsets.empty()) {
    fill_slots(Integers{table.integers.first(table.count)}, table);
  } else {
    fill_slots(Strings<std::uint64_t>{table.offsets.first(table.count + 1), table.text.data()}, table);
  }
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
