// Rewards of rollouts into the sums of their groups. Compiled once per ISA region by rollouts.cpp.
#include "core/packs-inl.h"

namespace legato::LEGATO_REGION {

using math::kPack;
using math::Pack;

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

/// Whether x is a multiple of 2^-20 of at most 2^11: its sums fit integers. Other than by a cast, in all packs.
constexpr double kGrid = std::int64_t{1} << rft::RewardSums::kGridBits;

LEGATO_HD bool on_grid(double x) {
  constexpr double kRound = 6755399441055744.0, kLargest = 2147483648.0;  // 1.5 * 2^52: adding it rounds to integers
  const double y = x * kGrid;
  return ((y + kRound) - kRound == y) & (y <= kLargest) & (y >= -kLargest);
}

/// The first reward that is not in [low, high] (NaN is not), or the number of rewards; and whether some are off the
/// grid, of those looked at.
template <class Real>
std::size_t first_outside(const Real* rewards, std::size_t n, double low, double high, bool& wide) {
  note_isa(LEGATO_REGION_ISA);
  const auto outside = [=](Real reward) {
    const double x = static_cast<double>(reward);
    return !(x >= low) | !(x <= high);
  };
  constexpr std::size_t kStep = 256;
  int off = 0;
  for (std::size_t i = 0; i < n; i += kStep) {
    const std::size_t stop = n - i < kStep ? n : i + kStep;
    int bad = 0;
    for (std::size_t j = i; j < stop; ++j) {
      bad |= outside(rewards[j]);
      off |= !on_grid(static_cast<double>(rewards[j]));
    }
    for (std::size_t j = i; bad != 0; ++j) {
      if (outside(rewards[j])) return j;
    }
  }
  wide = off != 0;
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

__extension__ typedef unsigned __int128 Uint128;  // ISO C++ has none

/// The upper and the lower part of m * 2^shift, m < 2^106, shift < 32.
struct Wide256 {
  Uint128 low, high;
};

LEGATO_HD Wide256 shifted(Uint128 m, int shift) { return {m << shift, shift == 0 ? 0 : m >> (128 - shift)}; }

/// Moves bins towards lower weights by `by`; what falls off the end is below what is kept.
LEGATO_HD void lower_bins(std::int64_t* bins, int count, std::int64_t by) {
  for (int k = count; k-- > 0;) bins[k] = k >= by ? bins[k - by] : 0;
}

/// Makes room for rewards of this level.
LEGATO_HD void raise(rft::WideSums& sums, std::int64_t level) {
  if (sums.level > 0) {
    lower_bins(sums.sum, rft::WideSums::kSumBins, (level - 1) / 2 - (sums.level - 1) / 2);
    lower_bins(sums.squares, rft::WideSums::kSquareBins, level - sums.level);
  }
  sums.level = level;
}

LEGATO_HD void add_wide(double x, rft::WideSums& sums) {
  std::uint64_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  const auto exponent = static_cast<int>(bits >> 52 & 0x7ff);
  const std::uint64_t mantissa = (bits & 0xfffffffffffffU) | (exponent > 0 ? std::uint64_t{1} << 52 : 0);
  const int place = exponent > 0 ? exponent - 1 : 0;  // |x| is mantissa * 2^place of the smallest double
  const std::int64_t level = place / 16 + 1, sign = bits >> 63 != 0 ? -1 : 1;
  if (level > sums.level) raise(sums, level);
  const Uint128 once = static_cast<Uint128>(mantissa) << place % 32;
  std::int64_t at = (sums.level - 1) / 2 - place / 32 + 2;  // bin 0 has the largest weight
  for (int k = 0; k < 3; ++k, --at) {
    if (at < rft::WideSums::kSumBins) sums.sum[at] += sign * static_cast<std::int64_t>(once >> 32 * k & 0xffffffffU);
  }
  const Wide256 twice = shifted(static_cast<Uint128>(mantissa) * mantissa, 2 * place % 32);
  at = sums.level - 1 - place / 16 + 4;
  for (int k = 0; k < 5; ++k, --at) {
    const Uint128 part = k < 4 ? twice.low >> 32 * k : twice.high;
    if (at < rft::WideSums::kSquareBins) sums.squares[at] += static_cast<std::int64_t>(part & 0xffffffffU);
  }
}

/// `count` more rewards of value x, for all but the sums.
LEGATO_HD void count_rewards(double x, std::int64_t count, rft::RewardSums& group) {
  if (group.n == 0 || x < group.least) {
    group.least = x;
    group.least_count = 0;
  }
  if (group.n == 0 || x > group.largest) {
    group.largest = x;
    group.largest_count = 0;
  }
  group.n += count;
  group.least_count += x == group.least ? static_cast<std::uint32_t>(count) : 0;
  group.largest_count += x == group.largest ? static_cast<std::uint32_t>(count) : 0;
}

LEGATO_HD void add_squares(std::uint64_t low, std::uint64_t high, rft::RewardSums& group) {
  group.squares_low += low;
  group.squares_high += high + (group.squares_low < low ? 1 : 0);
}

/// Rewards of 0 and 1, the commonest, are their own squares, and float32 counts them exactly. Adds none and returns 0
/// if there are others, but for those after the last whole pack.
template <class Real>
LEGATO_HD std::size_t add_zeros_and_ones(const Real* rewards, std::size_t count, rft::RewardSums& group) {
  Pack<Real> ones{}, above{}, below{};
  std::size_t i = 0;
  for (; i + kPack <= count && i < (1U << 24); i += kPack) {
    const Pack<Real> x = math::load_pack(rewards + i), rest = x * x - x;
    ones = ones + x;
    above = math::larger(rest, above);
    below = math::smaller(rest, below);
    if (i == 0 && math::any_less(below, above)) return 0;
  }
  if (math::any_less(below, above)) return 0;
  const auto total = static_cast<std::int64_t>(math::sum(ones)), zeros = static_cast<std::int64_t>(i) - total;
  if (zeros > 0) count_rewards(0.0, zeros, group);
  if (total > 0) count_rewards(1.0, total, group);
  group.sum += total << rft::RewardSums::kGridBits;
  add_squares(static_cast<std::uint64_t>(total) << 2 * rft::RewardSums::kGridBits, 0, group);
  return i;
}

/// `count` rewards of one group; `wide` may be null if all are on the grid.
template <class Real>
LEGATO_HD void add_run(const Real* rewards, std::size_t count, rft::RewardSums& group, rft::WideSums* wide) {
  std::size_t i = 0;
  while (count - i >= 3 * kPack) {
    const std::size_t done = add_zeros_and_ones(rewards + i, count - i, group);
    if (done == 0) break;
    i += done;
  }
  for (; i < count; ++i) {
    const double x = static_cast<double>(rewards[i]) + 0.0;  // no -0
    count_rewards(x, 1, group);
    if (on_grid(x)) {
      const auto m = static_cast<std::int64_t>(x * kGrid);
      group.sum += m;
      add_squares(static_cast<std::uint64_t>(m * m), 0, group);
    } else {
      add_wide(x, *wide);
    }
  }
}

template <class Real>
std::size_t add_all(const Real* rewards, const std::uint32_t* groups, std::size_t n, rft::RewardSums* sums,
                    rft::WideSums* wide) {
  note_isa(LEGATO_REGION_ISA);
  constexpr std::size_t kAhead = 16;
  for (std::size_t i = 0; i < n;) {
    if (i + kAhead < n) __builtin_prefetch(&sums[groups[i + kAhead]], 1);
    const std::size_t stop = end_of_run(groups, i, n);
    add_run(rewards + i, stop - i, sums[groups[i]], wide == nullptr ? nullptr : wide + groups[i]);
    i = stop;
  }
  return n;
}

/// Sums of some groups into those of others.
inline std::size_t merge_all(const rft::RewardSums* from, const rft::WideSums* from_wide, const std::uint32_t* groups,
                             std::size_t n, rft::RewardSums* into, rft::WideSums* into_wide) {
  note_isa(LEGATO_REGION_ISA);
  for (std::size_t i = 0; i < n; ++i) {
    const rft::RewardSums& part = from[i];
    if (part.n == 0) continue;
    rft::RewardSums& group = into[groups[i]];
    const std::int64_t n_both = group.n + part.n;
    count_rewards(part.least, part.least_count, group);
    count_rewards(part.largest, part.least == part.largest ? 0 : part.largest_count, group);
    group.n = n_both;
    group.sum += part.sum;
    add_squares(part.squares_low, part.squares_high, group);
    if (from_wide == nullptr || from_wide[i].level == 0) continue;
    rft::WideSums more = from_wide[i], &wide = into_wide[groups[i]];
    if (more.level > wide.level) raise(wide, more.level);
    if (more.level < wide.level) raise(more, wide.level);
    for (int k = 0; k < rft::WideSums::kSumBins; ++k) wide.sum[k] += more.sum[k];
    for (int k = 0; k < rft::WideSums::kSquareBins; ++k) wide.squares[k] += more.squares[k];
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

/// Slots of a table's own names, in blocks as number_all.
template <class Names>
void fill_slots(const Names& names, rft::NameTable& table) {
  constexpr std::size_t kBlock = 64;
  std::uint64_t hashes[kBlock];
  const std::size_t mask = table.slots.size() - 1;
  for (std::size_t first = 0; first < table.count; first += kBlock) {
    const std::size_t count = std::min(kBlock, table.count - first);
    for (std::size_t k = 0; k < count; ++k) {
      hashes[k] = names.hash(first + k);
      __builtin_prefetch(&table.slots[place_of(hashes[k], mask)], 1);
    }
    for (std::size_t k = 0; k < count; ++k) {
      const std::size_t number = first + k;
      table.slots[find_slot(names, number, hashes[k], table)] = (hashes[k] & ~kNumber) | (number + 1);
    }
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
