// Rewards of rollouts into the sums of their groups. Compiled once per ISA region by rollouts.cpp.
#include "core/packs-inl.h"

#undef LEGATO_MATH_MOMENTS_H
#include "legato/math/moments.h"

namespace legato::LEGATO_REGION {

using math::Doubles;
using math::kPack;
using math::Pack;
using math::PowerSums;

/// The end of the run of equal values that begins at i.
template <class T>
std::size_t end_of_run(const T* x, std::size_t i, std::size_t n) {
  constexpr std::size_t kStep = 16;
  const T value = x[i];
  for (++i; i + kStep <= n && x[i] == value; i += kStep) {
    T differs = 0;
    for (std::size_t j = 0; j < kStep; ++j) differs |= x[i + j] ^ value;
    if (differs != 0) break;
  }
  while (i < n && x[i] == value) ++i;
  return i;
}

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

/// The first group that has no sum, or the number of groups.
inline std::size_t first_beyond(const std::uint32_t* groups, std::size_t n, std::size_t sums) {
  constexpr std::size_t kStep = 256;
  if (sums > ~std::uint32_t{0}) return n;
  const auto most = static_cast<std::uint32_t>(sums);
  for (std::size_t i = 0; i < n; i += kStep) {
    const std::size_t stop = n - i < kStep ? n : i + kStep;
    int bad = 0;
    for (std::size_t j = i; j < stop; ++j) bad |= groups[j] >= most;
    for (std::size_t j = i; bad != 0; ++j) {
      if (groups[j] >= most) return j;
    }
  }
  return n;
}

/// The lanes as a tree: i and i + 8 by registers, then 4, 2 and 1 apart.
LEGATO_HD void add_lanes(const math::Doubled<Doubles>& lanes, math::Doubled<double>& total) {
  constexpr int kHalf = Doubles::kParts / 2;
  double high[kPack / 2], low[kPack / 2];
  for (int i = 0; i < kHalf; ++i) {
    const auto sum = math::exact_sum(lanes.high.part[i], lanes.high.part[i + kHalf]);
    const auto rest = sum.low + (lanes.low.part[i] + lanes.low.part[i + kHalf]);
    __builtin_memcpy(high + i * Doubles::kWide, &sum.high, sizeof sum.high);
    __builtin_memcpy(low + i * Doubles::kWide, &rest, sizeof rest);
  }
  for (int width = kPack / 4; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) {
      const math::Doubled<double> sum = math::exact_sum(high[i], high[i + width]);
      high[i] = sum.high;
      low[i] = sum.low + (low[i] + low[i + width]);
    }
  }
  math::add(total, high[0]);
  total.low += low[0];
}

/// Rewards of 0 and 1, the commonest, are their own squares, and float32 counts them exactly. Adds none and returns 0
/// if there are others, but for those after the last whole pack.
template <class Real>
LEGATO_HD std::size_t add_zeros_and_ones(const Real* rewards, std::size_t count, PowerSums<double>& sums, double& least,
                                         double& largest) {
  Pack<Real> ones{}, above{}, below{};
  std::size_t i = 0;
  for (; i + kPack <= count; i += kPack) {
    const Pack<Real> x = math::load_pack(rewards + i), rest = x * x - x;
    ones = ones + x;
    above = math::larger(rest, above);
    below = math::smaller(rest, below);
    if (i == 0 && math::any_less(below, above)) return 0;
  }
  if (math::any_less(below, above)) return 0;
  const double total = static_cast<double>(math::sum(ones));
  math::add(sums.sum, total);
  math::add(sums.squares, total);
  const double low = total < static_cast<double>(i) ? 0.0 : 1.0, high = total > 0.0 ? 1.0 : 0.0;
  least = low < least ? low : least;
  largest = high > largest ? high : largest;
  return i;
}

/// `count` rewards of one group. Long runs go by lanes, which are added up at the end.
template <class Real>
LEGATO_HD void add_run(const Real* rewards, std::size_t count, rft::RewardSums& group) {
  constexpr bool kWide = sizeof(Real) > sizeof(float);
  PowerSums<double> sums{{group.sum, group.sum_low}, {group.squares, group.squares_low}};
  const double start = static_cast<double>(rewards[0]);
  double least = group.n > 0 ? group.least : start, largest = group.n > 0 ? group.largest : start;
  std::size_t i = 0;
  if (count >= 3 * kPack && (i = add_zeros_and_ones(rewards, count, sums, least, largest)) == 0) {
    PowerSums<Doubles> lanes{};
    Pack<Real> low = math::load_pack(rewards), high = low;
    for (; i + kPack <= count; i += kPack) {
      const Pack<Real> x = math::load_pack(rewards + i);
      low = math::smaller(x, low);
      high = math::larger(x, high);
      lanes.template append<kWide>(math::to_double(x));
    }
    add_lanes(lanes.sum, sums.sum);
    add_lanes(lanes.squares, sums.squares);
    for (int j = 0; j < kPack; ++j) {
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
    const std::size_t stop = end_of_run(groups, i, n);
    add_run(rewards + i, stop - i, sums[groups[i]]);
    i = stop;
  }
  return n;
}

/// A full slot holds the upper half of the name's hash, and the name's number plus one below.
constexpr std::uint64_t kNumber = 0xffffffffU;
LEGATO_HD std::size_t number_of(std::uint64_t slot) { return static_cast<std::size_t>((slot & kNumber) - 1); }
/// Where a hash belongs among a power of two of slots.
LEGATO_HD std::size_t place_of(std::uint64_t hash, std::size_t mask) { return static_cast<std::size_t>(hash) & mask; }

LEGATO_HD std::uint64_t scramble(std::uint64_t x) {
  x = (x ^ (x >> 32)) * 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 29)) * 0xd6e8feb86659fd93U;
  return x ^ (x >> 32);
}

struct Integers {
  std::span<const std::int64_t> names;

  std::size_t size() const { return names.size(); }
  std::size_t run_end(std::size_t i) const { return end_of_run(names.data(), i, names.size()); }
  std::uint64_t hash(std::size_t i) const { return scramble(static_cast<std::uint64_t>(names[i])); }
  bool is(std::size_t i, const rft::NameTable& table, std::size_t number) const {
    return table.integers[number] == names[i];
  }
  static void fetch(const rft::NameTable& table, std::size_t number) { __builtin_prefetch(&table.integers[number]); }
  static void fetch_text(const rft::NameTable&, std::size_t) {}
  bool fits(std::size_t, const rft::NameTable&) const { return true; }
  void append(std::size_t i, rft::NameTable& table) const { table.integers[table.count] = names[i]; }
};

template <class Offset>
struct Strings {
  std::span<const Offset> offsets;
  const std::byte* text;

  std::size_t size() const { return offsets.size() - 1; }
  /// Of a name in the table's text, so that it fits.
  static std::size_t offset(const rft::NameTable& table, std::size_t number) {
    return static_cast<std::size_t>(table.offsets[number]);
  }
  const std::byte* begin(std::size_t i) const { return text + static_cast<std::size_t>(offsets[i]); }
  std::size_t length(std::size_t i) const { return static_cast<std::size_t>(offsets[i + 1] - offsets[i]); }
  std::size_t run_end(std::size_t i) const {
    const std::size_t bytes = length(i);
    std::size_t stop = i + 1;
    while (stop < size() && length(stop) == bytes && std::memcmp(begin(i), begin(stop), bytes) == 0) ++stop;
    return stop;
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
  bool is(std::size_t i, const rft::NameTable& table, std::size_t number) const {
    const std::size_t first = offset(table, number), bytes = offset(table, number + 1) - first;
    return bytes == length(i) && std::memcmp(&table.text[first], begin(i), bytes) == 0;
  }
  static void fetch(const rft::NameTable& table, std::size_t number) { __builtin_prefetch(&table.offsets[number]); }
  static void fetch_text(const rft::NameTable& table, std::size_t number) {
    __builtin_prefetch(&table.text[offset(table, number)]);
  }
  bool fits(std::size_t i, const rft::NameTable& table) const {
    return length(i) <= table.text.size() - table.offsets[table.count];
  }
  void append(std::size_t i, rft::NameTable& table) const {
    const std::size_t first = offset(table, table.count);
    std::memcpy(table.text.data() + first, begin(i), length(i));
    table.offsets[table.count + 1] = first + length(i);
  }
};

/// The slot of the i-th name: where it is, or the free one where it belongs.
template <class Names>
std::size_t find_slot(const Names& names, std::size_t i, std::uint64_t hash, const rft::NameTable& table) {
  const std::size_t mask = table.slots.size() - 1;
  for (std::size_t at = place_of(hash, mask);; at = (at + 1) & mask) {
    const std::uint64_t slot = table.slots[at];
    if (slot == 0 || (((slot ^ hash) & ~kNumber) == 0 && names.is(i, table, number_of(slot)))) return at;
  }
}

/// Numbers of names until the table is full; returns how many. Blocks of runs: first their hashes, then what their
/// slots point at, then the numbers; each step finds in the cache what the one before has asked for.
template <class Names>
std::size_t number_all(const Names& names, std::size_t capacity, rft::NameTable& table, std::uint32_t* numbers) {
  constexpr std::size_t kBlock = 64;
  std::size_t first[kBlock + 1];
  std::uint64_t hashes[kBlock];
  note_isa(LEGATO_REGION_ISA);
  const std::size_t n = names.size(), mask = table.slots.size() - 1;
  for (std::size_t i = 0; i < n;) {
    std::size_t runs = 0;
    for (; runs < kBlock && i < n; ++runs, i = names.run_end(i)) {
      first[runs] = i;
      hashes[runs] = names.hash(i);
      __builtin_prefetch(&table.slots[place_of(hashes[runs], mask)]);
    }
    first[runs] = i;
    for (std::size_t run = 0; run < runs; ++run) {
      if (const std::uint64_t slot = table.slots[place_of(hashes[run], mask)]) names.fetch(table, number_of(slot));
    }
    for (std::size_t run = 0; run < runs; ++run) {
      if (const std::uint64_t slot = table.slots[place_of(hashes[run], mask)]) names.fetch_text(table, number_of(slot));
    }
    for (std::size_t run = 0; run < runs; ++run) {
      std::uint64_t& slot = table.slots[find_slot(names, first[run], hashes[run], table)];
      if (slot == 0) {
        if (table.count == capacity || !names.fits(first[run], table)) return first[run];
        names.append(first[run], table);
        slot = (hashes[run] & ~kNumber) | ++table.count;
      }
      const auto number = static_cast<std::uint32_t>(number_of(slot));
      for (std::size_t j = first[run]; j < first[run + 1]; ++j) numbers[j] = number;
    }
  }
  return n;
}

template <class Names>
void fill_slots(const Names& names, rft::NameTable& table) {
  for (std::size_t i = 0; i < table.count; ++i) {
    const std::uint64_t hash = names.hash(i);
    table.slots[find_slot(names, i, hash, table)] = (hash & ~kNumber) | (i + 1);
  }
}

inline std::size_t number_integers(std::span<const std::int64_t> names, rft::NameTable& table, std::uint32_t* numbers) {
  return number_all(Integers{names}, table.integers.size(), table, numbers);
}

inline std::size_t number_strings(std::span<const std::int32_t> offsets, const std::byte* text, rft::NameTable& table,
                                  std::uint32_t* numbers) {
  return number_all(Strings<std::int32_t>{offsets, text}, table.offsets.size() - 1, table, numbers);
}

inline void rebuild(rft::NameTable& table) {
  if (!table.integers.empty()) {
    fill_slots(Integers{table.integers.first(table.count)}, table);
  } else {
    fill_slots(Strings<std::uint64_t>{table.offsets.first(table.count + 1), table.text.data()}, table);
  }
}

}  // namespace legato::LEGATO_REGION
