// What every route of select-aggregate asks of a batch: whether it is sound, and its rows one by one, each with the
// cells that its reduction needs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "core/core.h"
#include "rasp/rasp.h"

namespace legato::rasp {

/// Of one row. No array of a layout, none above 64 bytes a token, wraps on the way to the arena.
constexpr std::size_t kMostTokens =
    std::min<std::size_t>(static_cast<std::size_t>(std::numeric_limits<Id>::max() - 1), Size::kMost / 64);
constexpr int kMostWorkers = static_cast<int>(kMaxThreads);

/// The numbers of tokens, but for a product that no span has.
inline Size tokens_of(const Shape& shape) noexcept { return Size{shape.rows} * shape.length; }

/// `valued`: where the values are not in the totals already.
bool valid(const Shape& shape, const Aggregation& how, const Sink& sink, bool valued = true) noexcept;
bool valid(const Shape& shape, const Term& term) noexcept;

inline std::size_t length_of(const Shape& shape, std::size_t row) noexcept {
  return shape.lengths.empty() ? shape.length : static_cast<std::size_t>(shape.lengths[row]);
}

inline int team(const Shape& shape, int threads) noexcept {
  return static_cast<int>(std::min<std::size_t>(static_cast<std::size_t>(std::clamp(threads, 1, kMostWorkers)),
                                                std::max<std::size_t>(shape.rows, 1)));
}

constexpr double kTokenNs = 8;  // of the fastest routes, in long rows

/// Calls work(offset, n, worker) for each row that has tokens, those from `offset` on, and clears what lies behind
/// them; each worker has its own number.
template <class Work>
void for_rows(const Shape& shape, const Sink& sink, int threads, double token_ns, const Work& work) noexcept {
  const double row_ns = token_ns * static_cast<double>(shape.length);
  for_chunks(shape.rows, 1, team(shape, threads), row_ns, [&](std::size_t row, std::size_t, std::size_t worker) {
    const std::size_t n = length_of(shape, row), offset = row * shape.length;
    if (sink.count.empty()) clear_tail(sink, offset + n, offset + shape.length);
    if (n > 0) work(offset, n, worker);
  });
}

/// Calls insert(j) and ask(i) so that ask(i) sees the keys it may: j <= i, or all.
template <bool causal, class Insert, class Ask>
void in_order(std::size_t n, const Insert& insert, const Ask& ask) {
  constexpr std::size_t kStretch = 512;  // a table's keys take long
  const auto all = [&](const auto& each) {
    for (std::size_t i = 0, end = 0; goes_on(i, end, n, kStretch);) {
      for (; i < end; ++i) each(i);
    }
  };
  if constexpr (causal) {
    all([&](std::size_t i) {
      insert(i);
      ask(i);
    });
  } else {
    all(insert);
    all(ask);
  }
}

struct Extremes {
  bool wide = false;   ///< 64 bits may not hold the sum
  bool shown = false;  ///< a value is encoded as kNone, so that emptiness needs a count
};

Extremes extremes_of(const Aggregation& how, const Int* value, std::size_t n) noexcept;

/// Calls row.operator()<Cell, causal>(value) with the cells of the reduction and the values as they enter them.
template <bool causal, class Row>
void with_values(const Aggregation& how, const Int* value, const Extremes& extremes, const Row& row) {
  with_cell(how.reduction, extremes.wide, extremes.shown, [&]<class Cell>() {
    if constexpr (Parts<Cell>::extremes) {
      if (how.reduction == Reduction::min) {
        row.template operator()<Cell, causal>([value](std::size_t j) { return ~value[j]; });
        return;
      }
    }
    if constexpr (Parts<Cell>::extremes || Parts<Cell>::sums) {
      row.template operator()<Cell, causal>([value](std::size_t j) { return value[j]; });
    } else {
      row.template operator()<Cell, causal>([](std::size_t) { return Int{0}; });
    }
  });
}

}  // namespace legato::rasp
