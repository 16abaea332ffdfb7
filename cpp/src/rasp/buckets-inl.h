// Select-aggregate in buckets of keys (rasp.h), compiled once for each instruction set: the nodes of a tree of prefix
// totals are updated eight children at a time. Integers only, so the bits do not depend on the width.
#include "rasp/eight-inl.h"

namespace legato::LEGATO_REGION {

using legato::rasp::BucketRoom;
using legato::rasp::Compare;
using legato::rasp::Emit;
using legato::rasp::Id;
using legato::rasp::Int;
using legato::rasp::Int128;
using legato::rasp::kNone;
using legato::rasp::Parts;
using legato::rasp::Row;

/// Totals of the leaves before a place. Child c of a node holds the total of its siblings before it, so that a query
/// reads one cell a level and an insertion updates one node of eight cells a level, without a branch.
template <class Cell>
class Steps {
  using P = Parts<Cell>;
  using Total = typename P::Total;
  static constexpr int kMostLevels = 11;

 public:
  /// For places 0 .. places - 1.
  Steps(Arena& arena, std::size_t places) noexcept {
    std::size_t size = 0;
    do {
      start_[levels_++] = size;
      places = (places + 7) / 8;
      size += 8 * places;
    } while (places > 1);
    if constexpr (P::counts) {
      count_ = arena.take<Id>(size);
      std::fill_n(count_, size, Id{0});
    }
    if constexpr (P::sums || P::extremes) {
      total_ = arena.take<Total>(size);
      std::fill_n(total_, size, P::extremes ? Total{kNone} : Total{0});
    }
  }

  void add(std::size_t leaf, Int value) noexcept {
    for (int level = 0; level < levels_; ++level, leaf /= 8) {
      const std::size_t at = start_[level] + leaf / 8 * 8, child = leaf % 8;
      if constexpr (P::counts) {
        auto* count = reinterpret_cast<EightIds*>(count_ + at);
        *count -= *reinterpret_cast<const EightIds*>(kFrom.narrow[child + 1]);
      }
      if constexpr (sizeof(Total) > sizeof(Int)) {
        for (std::size_t c = child + 1; c < 8; ++c) total_[at + c] += value;
      } else if constexpr (P::sums || P::extremes) {
        auto* total = reinterpret_cast<Eight*>(total_ + at);
        const Eight later = *reinterpret_cast<const Eight*>(kFrom.wide[child + 1]);
        if constexpr (P::sums) {
          *total += later & value;
        } else {
          const Eight x = (later & value) | (~later & kNone);
          *total = *total > x ? *total : x;
        }
      }
    }
  }

  /// The leaves before `bound`, which is a place.
  Cell before(std::size_t bound) const noexcept {
    Cell found;
    found.clear();
    for (int level = 0; level < levels_; ++level, bound /= 8) {
      const std::size_t at = start_[level] + bound;
      if constexpr (P::counts) found.count += count_[at];
      if constexpr (P::sums) found.sum += total_[at];
      if constexpr (P::extremes) found.best = found.best > total_[at] ? found.best : total_[at];
    }
    return found;
  }

 private:
  Id* count_ = nullptr;
  Total* total_ = nullptr;
  std::size_t start_[kMostLevels];
  int levels_ = 0;
};

inline std::uint64_t mixed(std::uint64_t x) noexcept {
  x ^= x >> 32;
  x *= 0x9E3779B97F4A7C15u;
  return x ^ (x >> 29);
}

/// Open addressing: gives every distinct group of a bucket a number, in order of appearance.
class Numbers {
 public:
  Numbers(Arena& arena, std::size_t most, std::uint64_t* distinct) noexcept : distinct_(distinct) {
    const std::size_t size = 2 * std::bit_ceil(most < 8 ? std::size_t{8} : most);
    last_ = size - 1;
    slot_ = arena.take<Id>(size);
    std::fill_n(slot_, size, Id{-1});
  }
  Id find(std::uint64_t x) const noexcept { return slot_[place(x)]; }
  Id find_or_add(std::uint64_t x) noexcept {
    Id& id = slot_[place(x)];
    if (id < 0) {
      distinct_[used_] = x;
      id = used_++;
    }
    return id;
  }
  Id size() const noexcept { return used_; }

 private:
  std::size_t place(std::uint64_t x) const noexcept {
    std::size_t at = mixed(x) & last_;
    while (slot_[at] >= 0 && distinct_[slot_[at]] != x) at = (at + 1) & last_;
    return at;
  }
  std::uint64_t* distinct_;
  Id* slot_;
  std::size_t last_;
  Id used_ = 0;
};

// --- Into buckets and back ------------------------------------------------------------------------------------------

/// Bits above an ordering's numbers: the sign, and all of them where greater keys are selected.
inline std::uint64_t ascending(Compare compare) noexcept {
  const bool greater = compare == Compare::greater || compare == Compare::greater_equal;
  return (greater ? ~std::uint64_t{0} : 0) ^ (std::uint64_t{1} << 63);
}
inline bool inclusive(Compare compare) noexcept {
  return compare == Compare::less_equal || compare == Compare::greater_equal;
}

/// Splits the keys at quantiles of a sample, kept as a search tree in breadth-first order.
inline void sample_splitters(const Row& row, std::uint64_t flip, int depth, const BucketRoom& room) noexcept {
  constexpr std::size_t kOver = 8;
  const std::size_t buckets = std::size_t{1} << depth;
  for (std::size_t s = 0; s < kOver * buckets; ++s) {
    const std::size_t at = mixed(s + 1) % row.n;
    room.spare[s] = static_cast<std::uint64_t>(row.key[at]) ^ flip;
  }
  std::sort(room.spare, room.spare + kOver * buckets);
  for (int level = 0; level < depth; ++level) {
    const std::size_t first = std::size_t{1} << level, step = buckets >> (level + 1);
    for (std::size_t j = 0; j < first; ++j) room.splitter[first + j] = room.spare[kOver * (2 * j + 1) * step];
  }
}

constexpr std::size_t kAsked = 16384;  // numbers from one question to the next

/// The bucket of each number: how many splitters are not above it.
inline void find_buckets(const Int* x, std::size_t n, std::uint64_t flip, int depth, const std::uint64_t* splitter,
                         std::uint16_t* bucket) noexcept {
  constexpr std::size_t kTogether = 16;  // searches that wait for one another's loads
  const std::size_t buckets = std::size_t{1} << depth;
  for (std::size_t begin = 0; begin < n; begin += kTogether) {
    if (begin % kAsked == 0 && cancelled()) return;
    const std::size_t count = std::min(kTogether, n - begin);
    std::uint64_t number[kTogether], at[kTogether];
    for (std::size_t s = 0; s < kTogether; ++s) {
      number[s] = static_cast<std::uint64_t>(x[begin + (s < count ? s : 0)]) ^ flip;
      at[s] = 1;
    }
    for (int level = 0; level < depth; ++level) {
      for (std::size_t s = 0; s < kTogether; ++s) at[s] = 2 * at[s] + (number[s] >= splitter[at[s]]);
    }
    for (std::size_t s = 0; s < count; ++s) bucket[begin + s] = static_cast<std::uint16_t>(at[s] - buckets);
  }
}

inline void hash_buckets(const Int* x, std::size_t n, int depth, std::uint16_t* bucket) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    if (i % kAsked == 0 && cancelled()) return;
    bucket[i] = static_cast<std::uint16_t>(mixed(static_cast<std::uint64_t>(x[i])) >> (64 - depth));
  }
}

inline void find_starts(const std::uint16_t* bucket, std::size_t n, std::size_t buckets, Id* start, Id* next) noexcept {
  std::fill_n(start, buckets + 1, Id{0});
  for (std::size_t i = 0; i < n; ++i) ++start[bucket[i] + 1];
  for (std::size_t b = 0; b < buckets; ++b) start[b + 1] += start[b];
  std::copy_n(start, buckets + 1, next);
}

inline void fill_buckets(const Row& row, std::uint64_t flip, const BucketRoom& room) noexcept {
  for (std::size_t t = 0, end = 0; goes_on(t, end, row.n);) {
    for (; t < end; ++t) {
      const std::size_t b = room.key_bucket[t], c = room.query_bucket[t];
      const Id k = room.key_next[b]++, q = room.query_next[c]++;
      if (row.group_key != nullptr) {
        room.group[k] = static_cast<std::uint64_t>(row.group_key[t]);
        room.asked[q] = static_cast<std::uint64_t>(row.group_query[t]);
      }
      if (row.key != nullptr) {
        room.key[k] = static_cast<std::uint64_t>(row.key[t]) ^ flip;
        room.query[q] = static_cast<std::uint64_t>(row.query[t]) ^ flip;
      }
      if (row.value != nullptr) room.value[k] = row.value[t] ^ row.flip;
      room.upto[q] = row.causal ? room.key_next[c] : room.key_start[c + 1];
    }
  }
}

template <class Cell>
void store(const BucketRoom& room, std::uint64_t* result, Id q, const Cell& found) noexcept {
  using P = Parts<Cell>;
  if constexpr (P::counts) room.upto[q] = static_cast<Id>(found.count);
  if constexpr (P::sums) result[q] = static_cast<std::uint64_t>(found.sum);
  if constexpr (P::extremes) result[q] = static_cast<std::uint64_t>(found.best);
  if constexpr (sizeof(typename P::Total) > sizeof(Int)) room.high[q] = static_cast<Int>(found.sum >> 64);
}

template <class Cell>
Cell stored(const BucketRoom& room, const std::uint64_t* result, Id q) noexcept {
  using P = Parts<Cell>;
  Cell found;
  found.clear();
  if constexpr (P::counts) found.count = room.upto[q];
  if constexpr (P::extremes) found.best = static_cast<Int>(result[q]);
  if constexpr (sizeof(typename P::Total) > sizeof(Int)) {
    found.sum = static_cast<Int128>(result[q]) + (static_cast<Int128>(room.high[q]) * (Int128{1} << 64));
  } else if constexpr (P::sums) {
    found.sum = static_cast<Int>(result[q]);
  }
  return found;
}

// --- One bucket -----------------------------------------------------------------------------------------------------

struct Bucket {
  Id keys, keys_end, queries, queries_end;
};

/// Calls insert(key) and ask(query) so that a query sees the keys before its `upto`.
template <class Insert, class Ask>
void in_time(const Bucket& bucket, const BucketRoom& room, const Insert& insert, const Ask& ask) noexcept {
  Id k = bucket.keys;
  for (Id q = bucket.queries; q < bucket.queries_end; ++q) {
    if (q % 4096 == 0 && cancelled()) return;
    for (const Id end = room.upto[q]; k < end; ++k) insert(k);
    ask(q);
  }
}

/// Sorts the keys of a bucket, with room.index as their places before; radix, as many passes as their range needs.
/// Returns the buffers that hold the result and the one of indices that is free.
struct SortedKeys {
  std::uint64_t* key;
  Id *index, *free_index;
};

inline SortedKeys sort_keys(const Bucket& bucket, const BucketRoom& room) noexcept {
  const auto n = static_cast<std::size_t>(bucket.keys_end - bucket.keys);
  std::uint64_t *key = room.key + bucket.keys, *spare = room.spare;
  Id *index = room.index, *spare_index = room.spare_index;
  std::uint64_t low = ~std::uint64_t{0}, high = 0;
  for (std::size_t j = 0; j < n; ++j) {
    low = key[j] < low ? key[j] : low;
    high = key[j] > high ? key[j] : high;
    index[j] = static_cast<Id>(j);
  }
  constexpr int kMostBits = 11;
  const int bits = n < 512 ? 7 : kMostBits, span = static_cast<int>(std::bit_width(high - low));
  const std::size_t last = (std::size_t{1} << bits) - 1;
  Id next[(1 << kMostBits) + 1];
  for (int shift = 0; shift < span; shift += bits) {
    std::fill_n(next, last + 2, Id{0});
    for (std::size_t j = 0; j < n; ++j) ++next[((key[j] - low) >> shift & last) + 1];
    for (std::size_t b = 0; b < last; ++b) next[b + 1] += next[b];
    for (std::size_t j = 0; j < n; ++j) {
      const Id to = next[(key[j] - low) >> shift & last]++;
      spare[to] = key[j];
      spare_index[to] = index[j];
    }
    std::swap(key, spare);
    std::swap(index, spare_index);
  }
  return {key, index, spare_index};
}

/// How many of the sorted keys are below each query, or not above it; the queries are replaced. Without a branch, and
/// eight searches together, which wait for one another's loads.
template <bool upper>
void count_before(const std::uint64_t* key, std::size_t count, std::uint64_t* query, std::size_t queries) noexcept {
  constexpr std::size_t kTogether = 8;
  if (count == 0) {
    std::fill_n(query, queries, std::uint64_t{0});
    return;
  }
  const auto before = [](std::uint64_t k, std::uint64_t x) { return static_cast<std::size_t>(upper ? k <= x : k < x); };
  for (std::size_t begin = 0; begin < queries; begin += kTogether) {
    const std::size_t together = std::min(kTogether, queries - begin);
    std::uint64_t x[kTogether];
    std::size_t at[kTogether];
    for (std::size_t s = 0; s < kTogether; ++s) {
      x[s] = query[begin + (s < together ? s : 0)];
      at[s] = 0;
    }
    for (std::size_t left = count; left > 1;) {
      const std::size_t half = left / 2;
      for (std::size_t s = 0; s < kTogether; ++s) at[s] += half & -before(key[at[s] + half - 1], x[s]);
      left -= half;
    }
    for (std::size_t s = 0; s < together; ++s) query[begin + s] = at[s] + before(key[at[s]], x[s]);
  }
}

template <class Cell>
void ordered_bucket(const Row& row, const Bucket& bucket, const BucketRoom& room) noexcept {
  const Id n = bucket.keys_end - bucket.keys;
  const SortedKeys sorted = sort_keys(bucket, room);
  Id* rank = sorted.free_index;
  for (Id s = 0; s < n; ++s) rank[sorted.index[s]] = s;
  (inclusive(row.compare) ? count_before<true>
                          : count_before<false>)(sorted.key, static_cast<std::size_t>(n), room.query + bucket.queries,
                                                 static_cast<std::size_t>(bucket.queries_end - bucket.queries));
  Arena arena({room.scratch, room.scratch_size});
  Steps<Cell> tree(arena, static_cast<std::size_t>(n) + 1);
  in_time(
      bucket, room,
      [&](Id k) {
        tree.add(static_cast<std::size_t>(rank[k - bucket.keys]), row.value != nullptr ? room.value[k] : 0);
      },
      [&](Id q) { store(room, room.query, q, tree.before(room.query[q])); });
}

template <class Cell>
void equal_bucket(const Row& row, const Bucket& bucket, const BucketRoom& room) noexcept {
  const auto n = static_cast<std::size_t>(bucket.keys_end - bucket.keys);
  Arena arena({room.scratch, room.scratch_size});
  Numbers numbers(arena, n, room.spare);
  Cell* cell = arena.take<Cell>(n);
  Cell none;
  none.clear();
  in_time(
      bucket, room,
      [&](Id k) {
        const Id before = numbers.size(), id = numbers.find_or_add(room.group[k]);
        if (id == before) cell[id].clear();
        cell[id].add(row.value != nullptr ? room.value[k] : 0);
      },
      [&](Id q) {
        const Id id = numbers.find(room.asked[q]);
        store(room, room.asked, q, id < 0 ? none : cell[id]);
      });
}

/// A Fenwick tree of key ranks for each group.
template <class Cell>
void grouped_bucket(const Row& row, const Bucket& bucket, const BucketRoom& room) noexcept {
  const auto n = static_cast<std::size_t>(bucket.keys_end - bucket.keys);
  Arena arena({room.scratch, room.scratch_size});
  Numbers numbers(arena, n, room.spare);
  Cell* cell = arena.take<Cell>(n);
  Id* id = arena.take<Id>(n);
  Id* start = arena.take<Id>(n + 2);
  for (std::size_t j = 0; j < n; ++j) {
    id[j] = numbers.find_or_add(room.group[bucket.keys + static_cast<Id>(j)]);
    cell[j].clear();
  }
  for (Id q = bucket.queries; q < bucket.queries_end; ++q) {
    room.asked[q] = static_cast<std::uint64_t>(static_cast<Int>(numbers.find(room.asked[q])));
  }
  // Sorted by key, then by group; the distinct groups are not needed any more, but the sort's buffers are.
  const SortedKeys sorted = sort_keys(bucket, room);
  const auto groups = static_cast<std::size_t>(numbers.size());
  std::fill_n(start, groups + 1, Id{0});
  for (std::size_t j = 0; j < n; ++j) ++start[id[j] + 1];
  for (std::size_t g = 0; g < groups; ++g) start[g + 1] += start[g];
  std::uint64_t* key = sorted.key == room.spare ? room.key + bucket.keys : room.spare;
  Id* rank = sorted.free_index;
  for (std::size_t s = 0; s < n; ++s) {
    const Id j = sorted.index[s];
    const Id to = start[id[j]]++;
    key[to] = sorted.key[s];
    rank[j] = to;
  }
  for (std::size_t g = groups; g > 0; --g) start[g] = start[g - 1];
  start[0] = 0;
  const bool upper = inclusive(row.compare);
  in_time(
      bucket, room,
      [&](Id k) {
        const Id j = k - bucket.keys, first = start[id[j]], size = start[id[j] + 1] - first;
        const Int x = row.value != nullptr ? room.value[k] : 0;
        for (Id r = rank[j] - first + 1; r <= size; r += r & -r) cell[first + r - 1].add(x);
      },
      [&](Id q) {
        Cell found;
        found.clear();
        const auto g = static_cast<Int>(room.asked[q]);
        if (g >= 0) {
          const Id first = start[g], size = start[g + 1] - first;
          std::uint64_t bound = room.query[q];
          (upper ? count_before<true> : count_before<false>)(key + first, static_cast<std::size_t>(size), &bound, 1);
          for (auto r = static_cast<Id>(bound); r > 0; r -= r & -r) found.merge(cell[first + r - 1]);
        }
        store(room, room.query, q, found);
      });
}

// --- A row ----------------------------------------------------------------------------------------------------------

/// An ordering of keys in a narrow range: the value is the rank.
template <class Cell>
void by_value_order(const Row& row, Int low, std::size_t span, const Emit& emit, const BucketRoom& room) noexcept {
  const bool greater = row.compare == Compare::greater || row.compare == Compare::greater_equal;
  const Int high = low + static_cast<Int>(span), upper = inclusive(row.compare);
  Arena arena({room.scratch, room.scratch_size});
  Steps<Cell> tree(arena, span + 2);
  const auto add = [&](std::size_t t) {
    const Int at = greater ? high - row.key[t] : row.key[t] - low;
    tree.add(static_cast<std::size_t>(at), row.value != nullptr ? row.value[t] ^ row.flip : 0);
  };
  if (!row.causal) {
    for (std::size_t t = 0; t < row.n; ++t) add(t);
  }
  for (std::size_t t = 0, end = 0; goes_on(t, end, row.n);) {
    for (; t < end; ++t) {
      if (row.causal) add(t);
      const Int q = row.query[t];
      const bool every = greater ? q < low : q > high, inside = q >= low && q <= high;
      const Int bound = inside ? (greater ? high - q : q - low) + upper : every ? static_cast<Int>(span) + 1 : 0;
      tree.before(static_cast<std::size_t>(bound)).emit(emit, t);
    }
  }
}

template <class Cell>
void by_buckets(const Row& row, const Emit& emit, const BucketRoom& room) noexcept {
  note_isa(LEGATO_REGION_ISA);
  const std::size_t n = row.n;
  const bool grouped = row.group_key != nullptr, ordered = row.key != nullptr;
  if (ordered && !grouped) {
    Int low = row.key[0], high = row.key[0];
    for (std::size_t j = 1; j < n; ++j) {
      low = row.key[j] < low ? row.key[j] : low;
      high = row.key[j] > high ? row.key[j] : high;
    }
    const std::uint64_t span = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low);
    if (span < rasp::kDirectSpan) {
      by_value_order<Cell>(row, low, span, emit, room);
      return;
    }
  }
  const int depth = std::min(static_cast<int>(std::bit_width((n - 1) / rasp::kBucketKeys)), rasp::kMostDepth);
  const std::size_t buckets = std::size_t{1} << depth;
  const std::uint64_t flip = ascending(row.compare);
  if (depth == 0) {
    std::fill_n(room.key_bucket, n, std::uint16_t{0});
    std::fill_n(room.query_bucket, n, std::uint16_t{0});
  } else if (grouped) {
    hash_buckets(row.group_key, n, depth, room.key_bucket);
    hash_buckets(row.group_query, n, depth, room.query_bucket);
  } else {
    sample_splitters(row, flip, depth, room);
    find_buckets(row.key, n, flip, depth, room.splitter, room.key_bucket);
    find_buckets(row.query, n, flip, depth, room.splitter, room.query_bucket);
  }
  if (cancelled()) return;  // buckets that are not written yet point anywhere
  find_starts(room.key_bucket, n, buckets, room.key_start, room.key_next);
  find_starts(room.query_bucket, n, buckets, room.query_start, room.query_next);
  if (cancelled()) return;
  fill_buckets(row, flip, room);
  for (std::size_t b = 0; b < buckets; ++b) {
    if (cancelled()) return;
    const Bucket bucket{room.key_start[b], room.key_start[b + 1], room.query_start[b], room.query_start[b + 1]};
    if (bucket.queries == bucket.queries_end) continue;
    !ordered  ? equal_bucket<Cell>(row, bucket, room)
    : grouped ? grouped_bucket<Cell>(row, bucket, room)
              : ordered_bucket<Cell>(row, bucket, room);
  }
  // Back into time order; the totals of the buckets below come from a small tree.
  const std::uint64_t* result = ordered ? room.query : room.asked;
  std::copy_n(room.query_start, buckets, room.query_next);
  const auto value = [&](std::size_t t) { return row.value != nullptr ? row.value[t] ^ row.flip : 0; };
  const auto found = [&](std::size_t t) {
    constexpr std::size_t kAhead = 24;
    if (depth > 0 && t + kAhead < n) {  // hundreds of streams are more than the hardware follows
      const Id soon = room.query_next[room.query_bucket[t + kAhead]];
      __builtin_prefetch(result + soon);
      __builtin_prefetch(room.upto + soon);
    }
    return stored<Cell>(room, result, room.query_next[room.query_bucket[t]]++);
  };
  if (ordered && !grouped && depth > 0) {
    Arena arena({room.scratch, room.scratch_size});
    Steps<Cell> below(arena, buckets);
    if (!row.causal) {
      for (std::size_t t = 0; t < n; ++t) below.add(room.key_bucket[t], value(t));
    }
    for (std::size_t t = 0, end = 0; goes_on(t, end, n);) {
      for (; t < end; ++t) {
        if (row.causal) below.add(room.key_bucket[t], value(t));
        Cell all = below.before(room.query_bucket[t]);
        all.merge(found(t));
        all.emit(emit, t);
      }
    }
    return;
  }
  if constexpr (requires(Cell a, Cell b) { a.remove(b); }) {
    if (row.rest) {
      Cell total;
      total.clear();
      if (!row.causal) {
        for (std::size_t t = 0; t < n; ++t) total.add(value(t));
      }
      for (std::size_t t = 0, end = 0; goes_on(t, end, n);) {
        for (; t < end; ++t) {
          if (row.causal) total.add(value(t));
          Cell others = total;
          others.remove(found(t));
          others.emit(emit, t);
        }
      }
      return;
    }
  }
  for (std::size_t t = 0, end = 0; goes_on(t, end, n);) {
    for (; t < end; ++t) found(t).emit(emit, t);
  }
}

}  // namespace legato::LEGATO_REGION
