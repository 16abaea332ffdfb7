// Select-aggregate over two orderings: the driver of dominance-inl.h.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "core/core.h"
#include "rasp/rasp.h"

#define LEGATO_REGION_FILE "rasp/dominance-inl.h"
#include "core/isa_region.h"

namespace legato::rasp {
namespace {

template <class Cell>
void run(const Row& row, const Emit& emit, const DominanceRoom& room) noexcept {
  LEGATO_DISPATCH(by_dominance<Cell>, row, emit, room);
}

// Sorting. An item is a number, in the upper half, above the place of its token; numbers of more than 32 bits are
// sorted by their lower half and then by their upper one.
constexpr std::uint64_t kPlace = 0xFFFFFFFF;
constexpr std::size_t kAsked = 16384;  // items from one question to the next

/// Sorts the items by their upper halves, which have so many bits: radix, with the counts of all passes taken at once.
void sort_items(std::size_t n, int bits, std::uint64_t*& item, std::uint64_t*& spare) noexcept {
  constexpr int kBits = 11, kPasses = 3;
  constexpr std::size_t kBuckets = std::size_t{1} << kBits;
  Id next[kPasses][kBuckets] = {};
  for (std::size_t i = 0; i < n; ++i) {
    for (int pass = 0; pass < kPasses; ++pass) ++next[pass][item[i] >> (32 + pass * kBits) & (kBuckets - 1)];
  }
  for (int pass = 0; pass * kBits < bits; ++pass) {
    Id start = 0;
    for (Id& count : next[pass]) start += std::exchange(count, start);
    for (std::size_t i = 0; i < n; ++i) {
      if (i % kAsked == 0 && cancelled()) return;
      spare[next[pass][item[i] >> (32 + pass * kBits) & (kBuckets - 1)]++] = item[i];
    }
    std::swap(item, spare);
  }
}

/// Sorts tokens by their numbers and calls visit(token, number) for each.
template <class Visit>
void visit_sorted(std::size_t n, const Int* x, std::uint64_t flip, const DominanceRoom& room,
                  const Visit& visit) noexcept {
  std::uint64_t *item = room.item, *spare = room.spare_item;
  std::uint64_t low = ~std::uint64_t{0}, high = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint64_t number = static_cast<std::uint64_t>(x[i]) ^ flip;
    low = std::min(low, number);
    high = std::max(high, number);
  }
  const auto above = [&](std::size_t i) { return (static_cast<std::uint64_t>(x[i]) ^ flip) - low; };
  const int span = static_cast<int>(std::bit_width(high - low));
  for (std::size_t i = 0; i < n; ++i) item[i] = above(i) << 32 | i;
  sort_items(n, std::min(span, 32), item, spare);
  if (cancelled()) return;
  if (span <= 32) {
    for (std::size_t r = 0, end = 0; goes_on(r, end, n, kAsked);) {
      for (; r < end; ++r) visit(item[r] & kPlace, (item[r] >> 32) + low);
    }
    return;
  }
  for (std::size_t r = 0; r < n; ++r) item[r] = (above(item[r] & kPlace) & ~kPlace) | (item[r] & kPlace);
  sort_items(n, span - 32, item, spare);
  if (cancelled()) return;
  for (std::size_t r = 0, end = 0; goes_on(r, end, n, kAsked);) {
    for (; r < end; ++r) visit(item[r] & kPlace, above(item[r] & kPlace) + low);
  }
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
  std::size_t rank = 0, bound = 0;
  visit_sorted(n, term.key.data(), flip, room, [&](std::size_t j, std::uint64_t number) {
    room.number[rank] = number;
    write(room.key[j], rank++);
  });
  visit_sorted(n, term.query.data(), flip, room, [&](std::size_t i, std::uint64_t number) {
    while (bound < n && (inclusive ? room.number[bound] <= number : room.number[bound] < number)) ++bound;
    write(room.bound[i], bound);
  });
}

/// What the recursion needs beside the ranks.
void lay_out_parts(Arena& arena, std::size_t n, Reduction reduction, DominanceRoom& room) noexcept {
  constexpr std::size_t kWhole = std::size_t{1} << 16;  // more queries than these are handled in two halves
  const bool valued = reduction != Reduction::width, mean = reduction == Reduction::mean;
  room.count = arena.take<Id>(n);
  room.total = valued ? arena.take<Int>(n) : nullptr;
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
  room.high = mean ? arena.take<Int>(n) : nullptr;  // last, because it is rarely touched
}

}  // namespace

DominanceRoom lay_out_dominance(Arena& arena, std::size_t n, Reduction reduction) noexcept {
  DominanceRoom room{};
  room.key = arena.take<std::uint64_t>(n);
  room.bound = arena.take<std::uint64_t>(n);
  const auto sorting = [&](Arena& own) {
    for (std::uint64_t** items : {&room.item, &room.spare_item, &room.number}) *items = own.take<std::uint64_t>(n);
  };
  overlay(arena, sorting, [&](Arena& own) { lay_out_parts(own, n, reduction, room); });
  return room;
}

void by_dominance(const Row& row, const Term& first, const Term& second, Reduction reduction, bool wide, bool shown,
                  const Emit& emit, const DominanceRoom& room) noexcept {
  rank(row.n, first, 32, room);
  if (cancelled()) return;
  rank(row.n, second, 0, room);
  if (cancelled()) return;  // ranks that are not written yet point anywhere
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
