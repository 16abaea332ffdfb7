// Select-aggregate of two orderings (rasp.h), compiled once for each instruction set: eight queries look at a key at
// once. Integers only, so the bits do not depend on the width.
#include "rasp/eight-inl.h"

namespace legato::LEGATO_REGION {

using legato::rasp::DominanceRoom;
using legato::rasp::Emit;
using legato::rasp::Id;
using legato::rasp::Int;
using legato::rasp::Int128;
using legato::rasp::kDigits;
using legato::rasp::kNone;
using legato::rasp::Parts;
using legato::rasp::Row;

/// Keys in time order and the queries begin .. end - 1, each of which sees the keys before its `upto`. Ranks and bounds
/// are pairs of 32 bits, the first ordering's above; ranks are all different within an ordering.
struct Node {
  const std::uint64_t *key, *bound;
  const Int* value;  // null for the width
  Int flip;          // -1: values are complemented
  std::size_t keys, begin, end;
  const Id *upto, *slot;  // null in the whole row: the queries' own times
  bool causal;
  std::size_t first_reach, second_reach;  // ranks are below
  std::size_t seen_by(std::size_t q) const {
    return upto != nullptr ? static_cast<std::size_t>(upto[q]) : causal ? q + 1 : keys;
  }
};

inline constexpr std::uint64_t kGuards = 0x8000000080000000u;  // above each of a pair

inline int shift_of(std::size_t reach) noexcept {
  const int bits = static_cast<int>(std::bit_width(reach - 1));
  return bits > rasp::kDigitBits ? bits - rasp::kDigitBits : 0;
}

/// Totals of eight queries. Sums of 128 bits are kept in halves of the values: no half of 2^31 values overflows.
template <class Cell>
struct Lanes {
  using P = Parts<Cell>;
  static constexpr bool kWide = sizeof(typename P::Total) > sizeof(Int);
  Eight count = {}, total = {}, high = {};
  Lanes() {
    if constexpr (P::extremes) total += kNone;
  }
  void add(const Eight& chosen, const Eight& x) noexcept {
    if constexpr (P::counts) count = chosen ? count + 1 : count;
    if constexpr (P::sums) {
      total = chosen ? total + (kWide ? x & 0xFFFFFFFF : x) : total;
      if constexpr (kWide) high += chosen & (x >> 32);
    }
    if constexpr (P::extremes) {
      const Eight better = total > x ? total : x;
      total = chosen ? better : total;
    }
  }
};

/// The keys from .. end - 1 against eight queries; those from `all` on are not seen by all of them.
template <class Cell>
Lanes<Cell> look_at(const Node& node, std::size_t from, std::size_t all, std::size_t end, const EightPairs& bound,
                    const Eight& upto) noexcept {
  const EightPairs guards = EightPairs{} + kGuards, over = guards - bound;
  const Eight seen = upto;
  const std::uint64_t* key = node.key;
  const Int* value = node.value;
  const Eight flip = Eight{} + node.flip, nothing = {};
  using P = Parts<Cell>;
  Lanes<Cell> found;  // in registers
  for (std::size_t j = from; j < all; ++j) {
    const Eight chosen = ((over + key[j]) & guards) == 0;
    found.add(chosen, P::extremes ? (Eight{} + value[j]) ^ flip : P::sums ? Eight{} + value[j] : nothing);
  }
  for (std::size_t j = std::max(from, all); j < end; ++j) {
    const Eight chosen = (((over + key[j]) & guards) == 0) & (seen > static_cast<Int>(j));
    found.add(chosen, P::extremes ? (Eight{} + value[j]) ^ flip : P::sums ? Eight{} + value[j] : nothing);
  }
  return found;
}

/// Totals of the keys below a pair of digits. A key enters its row at once (`row`: the columns up to each); the rows up
/// to each (`all`) follow when a batch of keys is in.
template <class Cell>
class Grid {
  using P = Parts<Cell>;
  static constexpr bool kWide = Lanes<Cell>::kWide, kTotals = P::sums || P::extremes;
  static constexpr Int kNothing = P::extremes ? kNone : 0;

 public:
  Grid(const DominanceRoom& room, const Node& node, int first_shift, int second_shift) noexcept
      : room_(room), first_shift_(first_shift), second_shift_(second_shift) {
    rows_ = ((node.first_reach - 1) >> first_shift) + 1;
    columns_ = (((node.second_reach - 1) >> second_shift) / 8 + 1) * 8;
    for (std::size_t r = 0; r < rows_; ++r) {
      for (Id* count : {room.row_count, room.all_count}) {
        if constexpr (P::counts) std::fill_n(count + r * kDigits, columns_, Id{0});
      }
      for (Int* total : {room.row_total, room.all_total}) {
        if constexpr (kTotals) std::fill_n(total + r * kDigits, columns_, kNothing);
      }
      for (Int* high : {room.row_high, room.all_high}) {
        if constexpr (kWide) std::fill_n(high + r * kDigits, columns_, Int{0});
      }
    }
  }

  void add(const Node& node, std::size_t from, std::size_t end) noexcept {
    for (std::size_t j = from; j < end; ++j) {
      const std::uint64_t rank = node.key[j];
      const std::size_t row = (rank >> 32 >> first_shift_) * kDigits;
      const std::size_t column = (rank & 0xFFFFFFFF) >> second_shift_;
      const Int x = node.value != nullptr ? node.value[j] ^ node.flip : 0;
      std::size_t at = column / 8 * 8;
      enter(row + at, *reinterpret_cast<const Eight*>(kFrom.wide[column % 8]),
            *reinterpret_cast<const EightIds*>(kFrom.narrow[column % 8]), x);
      for (at += 8; at < columns_; at += 8) enter(row + at, Eight{} - 1, EightIds{} - 1, x);
    }
    for (std::size_t r = 0; r < rows_; ++r) {
      const std::size_t row = r * kDigits, before = r == 0 ? row : row - kDigits;
      if constexpr (P::counts) put_together<EightIds>(room_.row_count, room_.all_count, row, before);
      if constexpr (kTotals) put_together<Eight>(room_.row_total, room_.all_total, row, before);
      if constexpr (kWide) put_together<Eight>(room_.row_high, room_.all_high, row, before);
    }
  }

  /// Adds what is below the digits of eight bounds.
  void below(const std::uint64_t* bound, Lanes<Cell>& found) const noexcept {
    for (int lane = 0; lane < 8; ++lane) {
      const std::size_t row = bound[lane] >> 32 >> first_shift_, column = (bound[lane] & 0xFFFFFFFF) >> second_shift_;
      const bool some = row > 0 && column > 0;
      const std::size_t at = some ? (row - 1) * kDigits + column - 1 : 0;
      if constexpr (P::counts) found.count[lane] += some ? room_.all_count[at] : 0;
      if constexpr (P::sums) found.total[lane] += some ? room_.all_total[at] : 0;
      if constexpr (kWide) found.high[lane] += some ? room_.all_high[at] : 0;
      if constexpr (P::extremes) {
        const Int best = some ? room_.all_total[at] : kNone;
        found.total[lane] = found.total[lane] > best ? found.total[lane] : best;
      }
    }
  }

 private:
  void enter(std::size_t at, const Eight& wide, const EightIds& narrow, Int x) noexcept {
    if constexpr (P::counts) *reinterpret_cast<EightIds*>(room_.row_count + at) -= narrow;
    auto* total = reinterpret_cast<Eight*>(room_.row_total + at);
    if constexpr (P::sums) *total += wide & (kWide ? x & 0xFFFFFFFF : x);
    if constexpr (kWide) *reinterpret_cast<Eight*>(room_.row_high + at) += wide & (x >> 32);
    if constexpr (P::extremes) {
      const Eight y = wide ? Eight{} + x : *total;
      *total = *total > y ? *total : y;
    }
  }
  template <class Vector, class T>
  void put_together(const T* rows, T* all, std::size_t row, std::size_t before) noexcept {
    for (std::size_t c = 0; c < columns_; c += 8) {
      const auto own = *reinterpret_cast<const Vector*>(rows + row + c);
      if (before == row) {
        *reinterpret_cast<Vector*>(all + row + c) = own;
        continue;
      }
      const auto others = *reinterpret_cast<const Vector*>(all + before + c);
      *reinterpret_cast<Vector*>(all + row + c) =
          P::extremes && sizeof(T) == sizeof(Int) ? (others > own ? others : own) : others + own;
    }
  }

  const DominanceRoom& room_;
  int first_shift_, second_shift_;
  std::size_t rows_, columns_;
};

/// Each query against keys that it sees: all of them one by one, or those before the last batch through the grid, by
/// digits, and the others one by one. `cut` leaves of a bound what is looked at.
template <class Cell>
void ask(const Node& node, std::uint64_t cut, Grid<Cell>* grid, const DominanceRoom& room) noexcept {
  using P = Parts<Cell>;
  constexpr std::size_t kAhead = 32;
  std::size_t entered = 0;
  for (std::size_t q = node.begin; q < node.end; q += 8) {
    if ((q - node.begin) % 4096 == 0 && cancelled()) return;
    const std::size_t together = std::min<std::size_t>(8, node.end - q);
    alignas(64) std::uint64_t bound[8] = {};  // lanes beyond the end select nothing
    alignas(64) Int upto[8] = {};
    for (std::size_t lane = 0; lane < together; ++lane) {
      bound[lane] = node.bound[q + lane] & cut;
      upto[lane] = static_cast<Int>(node.seen_by(q + lane));
    }
    const auto all = static_cast<std::size_t>(upto[0]), end = static_cast<std::size_t>(upto[together - 1]);
    if (node.slot != nullptr && q + kAhead + 8 <= node.end) {
      for (std::size_t lane = 0; lane < 8; ++lane) {
        const Id slot = node.slot[q + kAhead + lane];
        if constexpr (P::counts) __builtin_prefetch(room.count + slot, 1);
        if constexpr (P::sums || P::extremes) __builtin_prefetch(room.total + slot, 1);
      }
    }
    if (grid != nullptr && all - entered >= rasp::kBatch) {
      grid->add(node, entered, all);
      entered = all;
    }
    Lanes<Cell> found = look_at<Cell>(node, entered, all, end, *reinterpret_cast<const EightPairs*>(bound),
                                      *reinterpret_cast<const Eight*>(upto));
    if (grid != nullptr) grid->below(bound, found);
    for (std::size_t lane = 0; lane < together; ++lane) {
      const std::size_t slot = node.slot != nullptr ? static_cast<std::size_t>(node.slot[q + lane]) : q + lane;
      if constexpr (P::counts) room.count[slot] += static_cast<Id>(found.count[lane]);
      if constexpr (P::sums) room.total[slot] += found.total[lane];
      if constexpr (Lanes<Cell>::kWide) room.high[slot] += found.high[lane];
      if constexpr (P::extremes) {
        room.total[slot] = room.total[slot] > found.total[lane] ? room.total[slot] : found.total[lane];
      }
    }
  }
}

/// Where each part of a node begins.
struct Parted {
  Id keys[kDigits + 1], queries[kDigits + 1];
};

inline constexpr std::size_t kAsked = 16384;  // items from one question to the next

/// Cuts a node by the digits of one ordering, the one at bit `field`, in time order within each part. Queries for which
/// nothing is left are dropped; `cut` leaves of their other bound what is looked at.
inline void part(const Node& node, int field, int shift, std::uint64_t cut, const DominanceRoom::Level& level,
                 Parted& parted) noexcept {
  const std::uint64_t rest = ~((~std::uint64_t{0} >> 32 >> shift << shift) << field);  // without the digit
  const std::uint64_t own = (std::uint64_t{0xFFFFFFFF} << field) & rest, other = ~(std::uint64_t{0xFFFFFFFF} << field);
  const auto digit = [&](std::uint64_t x) { return static_cast<std::size_t>((x >> field & 0xFFFFFFFF) >> shift); };
  const auto left = [&](std::uint64_t x) { return (x & own) != 0 && (x & other & cut) != 0; };
  Id next_key[kDigits + 1] = {}, next_query[kDigits + 1] = {};
  for (std::size_t j = 0; j < node.keys; ++j) ++next_key[digit(node.key[j])];
  for (std::size_t q = node.begin; q < node.end; ++q) next_query[digit(node.bound[q])] += left(node.bound[q]);
  Id keys = 0, queries = 0;
  for (std::size_t d = 0; d <= kDigits; ++d) {
    parted.keys[d] = keys;
    parted.queries[d] = queries;
    keys += std::exchange(next_key[d], keys);
    queries += std::exchange(next_query[d], queries);
  }
  std::size_t j = 0;
  const auto move_keys = [&](std::size_t end) {
    for (; j < end; ++j) {
      if (j % kAsked == 0 && cancelled()) return;
      const Id to = next_key[digit(node.key[j])]++;
      level.key[to] = node.key[j] & rest;
      if (node.value != nullptr) level.value[to] = node.value[j] ^ node.flip;
    }
  };
  for (std::size_t q = node.begin; q < node.end; ++q) {
    if (q % kAsked == 0 && cancelled()) return;
    move_keys(node.seen_by(q));
    const std::uint64_t bound = node.bound[q];
    if (!left(bound)) continue;
    const std::size_t d = digit(bound);
    const Id to = next_query[d]++;
    level.bound[to] = bound & rest;
    level.upto[to] = next_key[d] - parted.keys[d];
    level.slot[to] = node.slot != nullptr ? node.slot[q] : static_cast<Id>(q);
  }
  move_keys(node.keys);
}

inline Node part_of(const Node& node, const DominanceRoom::Level& level, const Parted& parted, std::size_t d) noexcept {
  Node out = node;
  out.key = level.key + parted.keys[d];
  out.value = node.value != nullptr ? level.value + parted.keys[d] : nullptr;
  out.flip = 0;
  out.keys = static_cast<std::size_t>(parted.keys[d + 1] - parted.keys[d]);
  out.bound = level.bound + parted.queries[d];
  out.upto = level.upto + parted.queries[d];
  out.slot = level.slot + parted.queries[d];
  out.begin = 0;
  out.end = static_cast<std::size_t>(parted.queries[d + 1] - parted.queries[d]);
  return out;
}

/// Calls work(part) for at most `most` queries at a time, with the keys that they see.
template <class Work>
void in_chunks(const Node& node, std::size_t most, const Work& work) noexcept {
  for (std::size_t begin = node.begin; begin < node.end && !cancelled(); begin += most) {
    Node chunk = node;
    chunk.begin = begin;
    chunk.end = std::min(node.end, begin + most);
    chunk.keys = node.seen_by(chunk.end - 1);
    work(chunk);
  }
}

/// The keys whose digit of the first ordering is below the query's, and whose rank in the second is.
template <class Cell>
void across(const Node& whole, int first_shift, int depth, const DominanceRoom& room) noexcept {
  const std::uint64_t first_cut = ~std::uint64_t{0} << 32 << first_shift, second = 0xFFFFFFFF;
  if (whole.keys <= rasp::kFew) {
    ask<Cell>(whole, first_cut | second, nullptr, room);
    return;
  }
  const DominanceRoom::Level& level = room.level[depth];
  const int shift = shift_of(whole.second_reach);
  in_chunks(whole, level.queries, [&](const Node& node) {
    Grid<Cell> grid(room, node, first_shift, shift);
    ask<Cell>(node, first_cut | (second >> shift << shift), &grid, room);
    Parted parted;
    part(node, 0, shift, first_cut, level, parted);
    if (cancelled()) return;  // parts that are not filled yet point anywhere
    for (std::size_t d = 0; d < kDigits; ++d) {
      Node below = part_of(node, level, parted, d);
      below.second_reach = std::size_t{1} << shift;
      if (below.keys > 0 && below.end > 0) across<Cell>(below, first_shift, depth + 1, room);
    }
  });
}

/// Ranks of the second ordering among the keys of a part, by a set of bits.
inline void rank_again(std::size_t reach, std::uint64_t* key, std::size_t keys, std::uint64_t* bound,
                       std::size_t queries, const DominanceRoom& room) noexcept {
  constexpr std::uint64_t kFirst = 0xFFFFFFFF00000000u;
  const std::size_t words = reach / 64 + 1;
  std::fill_n(room.seen, words, std::uint64_t{0});
  for (std::size_t j = 0; j < keys; ++j) room.seen[(key[j] & ~kFirst) / 64] |= std::uint64_t{1} << key[j] % 64;
  Id before = 0;
  for (std::size_t w = 0; w < words; ++w) {
    room.seen_before[w] = before;
    before += std::popcount(room.seen[w]);
  }
  const auto rank = [&](std::uint64_t x) {
    const std::size_t word = (x & ~kFirst) / 64;
    const std::uint64_t below = room.seen[word] & ((std::uint64_t{1} << x % 64) - 1);
    return (x & kFirst) | static_cast<std::uint64_t>(room.seen_before[word] + std::popcount(below));
  };
  for (std::size_t j = 0; j < keys; ++j) key[j] = rank(key[j]);
  for (std::size_t q = 0; q < queries; ++q) bound[q] = rank(bound[q]);
}

/// The keys below the query in both ranks: across the parts of the first ordering, and then within each.
template <class Cell>
void within(const Node& whole, int depth, const DominanceRoom& room) noexcept {
  if (whole.keys <= rasp::kFew) {
    ask<Cell>(whole, ~std::uint64_t{0}, nullptr, room);
    return;
  }
  const DominanceRoom::Level& level = room.level[depth];
  const int shift = shift_of(whole.first_reach);
  in_chunks(whole, level.queries, [&](const Node& node) {
    across<Cell>(node, shift, depth, room);
    Parted parted;
    part(node, 32, shift, ~std::uint64_t{0}, level, parted);
    if (cancelled()) return;
    for (std::size_t d = 0; d < kDigits; ++d) {
      Node below = part_of(node, level, parted, d);
      if (below.keys == 0 || below.end == 0) continue;
      below.first_reach = std::size_t{1} << shift;
      if (below.keys > rasp::kFew) {
        rank_again(node.second_reach, level.key + parted.keys[d], below.keys, level.bound + parted.queries[d],
                   below.end, room);
        below.second_reach = below.keys;
      }
      within<Cell>(below, depth + 1, room);
    }
  });
}

template <class Cell>
void by_dominance(const Row& row, const Emit& emit, const DominanceRoom& room) noexcept {
  note_isa(LEGATO_REGION_ISA);
  using P = Parts<Cell>;
  const std::size_t n = row.n;
  if constexpr (P::counts) std::fill_n(room.count, n, Id{0});
  if constexpr (P::sums || P::extremes) std::fill_n(room.total, n, P::extremes ? kNone : Int{0});
  if constexpr (Lanes<Cell>::kWide) std::fill_n(room.high, n, Int{0});
  within<Cell>({room.key, room.bound, row.value, row.flip, n, 0, n, nullptr, nullptr, row.causal, n, n}, 0, room);
  for (std::size_t i = 0, end = 0; goes_on(i, end, n);) {
    for (; i < end; ++i) {
      Cell found;
      found.clear();
      if constexpr (P::counts) found.count = room.count[i];
      if constexpr (P::sums) found.sum = room.total[i];
      if constexpr (Lanes<Cell>::kWide) found.sum += static_cast<Int128>(room.high[i]) * (Int128{1} << 32);
      if constexpr (P::extremes) found.best = room.total[i];
      found.emit(emit, i);
    }
  }
}

}  // namespace legato::LEGATO_REGION
