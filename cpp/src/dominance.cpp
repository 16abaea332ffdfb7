// Select-aggregate over two orderings: the driver of dominance-inl.h.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "core.h"
#include "rasp.h"

#define LEGATO_REGION_FILE "dominance-inl.h"
#include "isa_region.h"

namespace legato::rasp {
namespace {

template <class Cell>
void run(const Row& row, const Emit& emit, const DominanceRoom& room) noexcept {
  LEGATO_DISPATCH(by_dominance<Cell>, row, emit, room);
}

/// Numbers that ascend where the selected keys come first: in the upper half of an item, above the place of its token;
/// numbers of more than 32 bits are sorted by their lower half and then by their upper one.
struct Sorting {
  std::uint64_t *item, *spare, *keys;  // keys: all of a sorted number
};

constexpr std::uint64_t kPlace = 0xFFFFFFFF;

Sorting lay_out_sorting(Arena& arena, std::size_t n) noexcept {
  Sorting out;
  for (std::uint64_t** items : {&out.item, &out.spare, &out.keys}) *items = arena.take<std::uint64_t>(n);
  return out;
}

/// Sorts the items by their upper halves, which have so many bits: radix, with the counts of all passes taken at once.
void sort_items(std::size_t n, int bits, Sorting& s) noexcept {
  constexpr int kBits = 11, kPasses = 3;
  constexpr std::size_t kBuckets = std::size_t{1} << kBits;
  Id next[kPasses][kBuckets] = {};
  for (std::size_t i = 0; i < n; ++i) {
    for (int pass = 0; pass < kPasses; ++pass) ++next[pass][s.item[i] >> (32 + pass * kBits) & (kBuckets - 1)];
  }
  for (int pass = 0; pass * kBits < bits; ++pass) {
    Id start = 0;
    for (Id& count : next[pass]) start += std::exchange(count, start);
    for (std::size_t i = 0; i < n; ++i) {
      s.spare[next[pass][s.item[i] >> (32 + pass * kBits) & (kBuckets - 1)]++] = s.item[i];
    }
    std::swap(s.item, s.spare);
  }
}

/// Sorts tokens by their numbers and calls visit(token, number) for each.
template <class Visit>
void in_order(std::size_t n, const Int* x, std::uint64_t flip, Sorting& s, const Visit& visit) noexcept {
  std::uint64_t low = ~std::uint64_t{0}, high = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint64_t number = static_cast<std::uint64_t>(x[i]) ^ flip;
    low = std::min(low, number);
    high = std::max(high, number);
  }
  const auto above = [&](std::size_t i) { return (static_cast<std::uint64_t>(x[i]) ^ flip) - low; };
  const int span = static_cast<int>(std::bit_width(high - low));
  for (std::size_t i = 0; i < n; ++i) s.item[i] = above(i) << 32 | i;
  sort_items(n, std::min(span, 32), s);
  if (span <= 32) {
    for (std::size_t r = 0; r < n; ++r) visit(s.item[r] & kPlace, (s.item[r] >> 32) + low);
    return;
  }
  for (std::size_t r = 0; r < n; ++r) s.item[r] = (above(s.item[r] & kPlace) & ~kPlace) | (s.item[r] & kPlace);
  sort_items(n, span - 32, s);
  for (std::size_t r = 0; r < n; ++r) visit(s.item[r] & kPlace, above(s.item[r] & kPlace) + low);
}

/// Writes the ranks of the keys and the bounds of the queries, the number of keys that an ordering selects, at bit
/// `field` of both; the first field, the upper one, clears the other.
void rank(std::size_t n, const Term& term, int field, const DominanceRoom& room) noexcept {
  const bool greater = term.compare == Compare::greater || term.compare == Compare::greater_equal;
  const bool inclusive = term.compare == Compare::less_equal || term.compare == Compare::greater_equal;
  const std::uint64_t flip = (greater ? ~std::uint64_t{0} : 0) ^ (std::uint64_t{1} << 63);
  const std::uint64_t kept = field == 0 ? ~std::uint64_t{0} : 0;
  const auto write = [&](std::uint64_t& pair, std::size_t x) {
    pair = (pair & kept) | static_cast<std::uint64_t>(x) << field;
  };
  Arena arena({room.scratch, room.scratch_size});
  Sorting s = lay_out_sorting(arena, n);
  std::size_t rank = 0, bound = 0;
  in_order(n, term.key, flip, s, [&](std::size_t j, std::uint64_t number) {
    s.keys[rank] = number;
    write(room.key[j], rank++);
  });
  in_order(n, term.query, flip, s, [&](std::size_t i, std::uint64_t number) {
    while (bound < n && (inclusive ? s.keys[bound] <= number : s.keys[bound] < number)) ++bound;
    write(room.bound[i], bound);
  });
}

/// What the recursion needs beside the ranks.
void lay_out_parts(Arena& arena, std::size_t n, Reduction reduction, DominanceRoom& room) noexcept {
  constexpr std::size_t kWhole = std::size_t{1} << 16;  // more queries than these are handled in two halves
  const bool valued = reduction != Reduction::width, mean = reduction == Reduction::mean;
  room.count = arena.take<Id>(n);
  room.total = valued ? arena.take<Int>(n) : nullptr;
  room.high = mean ? arena.take<Int>(n) : nullptr;
  room.seen = arena.take<std::uint64_t>(n / 64 + 1);
  room.seen_before = arena.take<Id>(n / 64 + 1);
  std::size_t keys = n, queries = std::max(std::min(n, kWhole), (n + 1) / 2);
  for (DominanceRoom::Level& level : room.level) {
    if (keys <= kFew) break;
    level.queries = queries;
    level.key = arena.take<std::uint64_t>(keys);
    level.value = valued ? arena.take<Int>(keys) : nullptr;
    level.bound = arena.take<std::uint64_t>(queries);
    level.upto = arena.take<Id>(queries);
    level.slot = arena.take<Id>(queries);
    keys = std::bit_ceil(keys) >> kDigitBits;
    queries = std::min(queries, 2 * keys);
  }
  if (n > kFew) {
    constexpr std::size_t kCells = kDigits * kDigits;
    for (Id** count : {&room.row_count, &room.all_count}) *count = arena.take<Id>(kCells);
    for (Int** total : {&room.row_total, &room.all_total}) *total = valued ? arena.take<Int>(kCells) : nullptr;
    for (Int** high : {&room.row_high, &room.all_high}) *high = mean ? arena.take<Int>(kCells) : nullptr;
  }
}

}  // namespace

DominanceRoom lay_out_dominance(Arena& arena, std::size_t n, Reduction reduction) noexcept {
  DominanceRoom room{};
  room.key = arena.take<std::uint64_t>(n);
  room.bound = arena.take<std::uint64_t>(n);
  Arena sorting, parts;
  lay_out_sorting(sorting, n);
  lay_out_parts(parts, n, reduction, room);
  room.scratch_size = std::max(sorting.size(), parts.size());
  room.scratch = arena.take<std::byte>(room.scratch_size);
  return room;
}

void by_dominance(const Row& row, const Term& first, const Term& second, Reduction reduction, bool wide, bool shown,
                  const Emit& emit, DominanceRoom room) noexcept {
  rank(row.n, first, 32, room);
  rank(row.n, second, 0, room);
  Arena arena({room.scratch, room.scratch_size});
  lay_out_parts(arena, row.n, reduction, room);
  switch (reduction) {
    case Reduction::width:
      run<Width>(row, emit, room);
      break;
    case Reduction::mean:
      wide ? run<Sum<Int128>>(row, emit, room) : run<Sum<Int>>(row, emit, room);
      break;
    default:
      shown ? run<CountedBest>(row, emit, room) : run<Best>(row, emit, room);
  }
}

}  // namespace legato::rasp
