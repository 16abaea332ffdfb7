// Select-aggregate over an equality and an ordering: the driver of buckets-inl.h.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "core/core.h"
#include "rasp/rasp.h"

#define LEGATO_REGION_FILE "rasp/buckets-inl.h"
#include "core/isa_region.h"

namespace legato::rasp {
namespace {

template <class Cell>
void run(const Row& row, const Emit& emit, const BucketRoom& room) noexcept {
  LEGATO_DISPATCH(by_buckets<Cell>, row, emit, room);
}

}  // namespace

BucketRoom lay_out_buckets(Arena& arena, std::size_t n, const BucketPlan& plan) noexcept {
  BucketRoom room{};
  const bool valued = plan.reduction != Reduction::width, mean = plan.reduction == Reduction::mean;
  const auto words = [&](bool wanted) { return wanted ? arena.take<std::uint64_t>(n) : nullptr; };
  room.key_bucket = arena.take<std::uint16_t>(n);
  room.query_bucket = arena.take<std::uint16_t>(n);
  room.group = words(plan.grouped);
  room.asked = words(plan.grouped);
  room.key = words(plan.ordered);
  room.query = words(plan.ordered);
  room.value = valued ? arena.take<Int>(n) : nullptr;
  room.high = mean ? arena.take<Int>(n) : nullptr;
  room.upto = arena.take<Id>(n);
  constexpr std::size_t kEdges = (std::size_t{1} << kMostDepth) + 2;
  for (Id** edges : {&room.key_start, &room.query_start, &room.key_next, &room.query_next}) {
    *edges = arena.take<Id>(kEdges);
  }
  room.splitter = plan.ordered && !plan.grouped ? arena.take<std::uint64_t>(kEdges) : nullptr;
  room.spare = arena.take<std::uint64_t>(n);
  room.index = plan.ordered ? arena.take<Id>(n) : nullptr;
  room.spare_index = plan.ordered ? arena.take<Id>(n) : nullptr;
  // Cells are 32 bytes at most (a sum of 128 bits and a count).
  const std::size_t cell = mean ? sizeof(Sum<Int128>) : sizeof(CountedBest);
  const std::size_t slots = 2 * std::bit_ceil(std::max<std::size_t>(n, 8));
  const std::size_t tree = (std::max(n, kDirectSpan) + (std::size_t{1} << kMostDepth)) * 8 / 7 + 256;
  std::size_t size = 8 * Arena::kAlign;
  size += plan.grouped ? slots * sizeof(Id) + n * cell : tree * (cell + sizeof(Id));
  if (plan.grouped && plan.ordered) size += (2 * n + 2) * sizeof(Id);
  room.scratch_size = size;
  room.scratch = arena.take<std::byte>(size);
  return room;
}

void by_buckets(const Row& row, Reduction reduction, bool wide, bool shown, const Emit& emit,
                const BucketRoom& room) noexcept {
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
