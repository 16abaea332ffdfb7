#include "rasp/stream_states.h"

#define LEGATO_REGION_FILE "rasp/stream-inl.h"
#include "core/isa_region.h"

namespace legato::rasp {
namespace {

constexpr std::size_t kRun = 16;      // items of a block that are looked at one by one
constexpr Int kSmall = Int{1} << 54;  // kTail of them add up in 64 bits

bool before(const Item& a, const Item& b) noexcept {
  return a.group < b.group || (a.group == b.group && a.key < b.key);
}

}  // namespace

// --- Groups ---------------------------------------------------------------------------------------------------------

void Groups::lay_out(Arena& arena, std::size_t capacity) noexcept {
  if (fields == 0) return;
  size = std::bit_ceil(2 * std::max<std::size_t>(capacity, 8));
  keys = arena.take<Int>(Size{fields} * capacity);
  slots = arena.take<Id>(size);
}

void Groups::clear() noexcept {
  number = 0;
  if (fields > 0) std::fill_n(slots, size, Id{-1});
}

Id& Groups::find(const Int* tuple) const noexcept {
  std::uint64_t hash = 0;
  for (std::size_t f = 0; f < fields; ++f) {
    hash = (hash ^ static_cast<std::uint64_t>(tuple[f])) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 29;
  }
  std::size_t at = hash & (size - 1);
  while (slots[at] >= 0 && !std::equal(tuple, tuple + fields, keys + static_cast<std::size_t>(slots[at]) * fields)) {
    at = (at + 1) & (size - 1);
  }
  return slots[at];
}

Id Groups::of_key(const Int* columns, std::size_t t) noexcept {
  if (fields == 0) return number = 0;
  Int tuple[kMostFields];
  for (std::size_t f = 0; f < fields; ++f) tuple[f] = columns[field[f].key * kChunk + t];
  Id& slot = find(tuple);
  if (slot < 0) {
    slot = number++;
    std::copy_n(tuple, fields, keys + static_cast<std::size_t>(slot) * fields);
  }
  return slot;
}

Id Groups::of_query(const Int* columns, std::size_t t) const noexcept {
  if (fields == 0) return 0;
  Int tuple[kMostFields];
  for (std::size_t f = 0; f < fields; ++f) tuple[f] = columns[field[f].query * kChunk + t];
  return find(tuple);
}

// --- Totals ---------------------------------------------------------------------------------------------------------

void Others::add(Id group, Int value) noexcept {
  if (group == first_group) return first.add(value, true);
  if (first_group < 0 || value > first.total) {
    second = std::exchange(first, Cell{1, value});
    first_group = group;
  } else {
    second.add(value, true);
  }
}

// --- Orderings ------------------------------------------------------------------------------------------------------

void Ordered::lay_out(Arena& arena, std::size_t capacity, bool grouped) noexcept {
  const std::size_t n = capacity / kTail * kTail;
  const std::size_t newest = std::min(kTail, std::max<std::size_t>(capacity, 1));
  if (grouped) tail_group = arena.take<Int>(newest);
  tail_key = arena.take<Int>(newest);
  if (orders == 2) tail_other = arena.take<Int>(newest);
  if (valued) tail_value = arena.take<Int>(newest);
  if (n == 0) return;
  items = arena.take<Item>(n);
  spare = arena.take<Item>(n);
  if (orders == 1) {
    totals = arena.take<Int128>(n);
    return;
  }
  pairs = arena.take<Pair>(n);
  spare_pairs = arena.take<Pair>(n);
  for (int l = 0; l < kMostLevels && (kRun << l) <= n; ++l) level[l] = {arena.take<Int>(n), arena.take<Int128>(n)};
}

void Ordered::add(Id group, const Int* columns, std::size_t t, Int value) noexcept {
  if (tail_group != nullptr) tail_group[tail] = group;
  tail_key[tail] = order[0].key_of(columns, t);
  if (orders == 2) tail_other[tail] = order[1].key_of(columns, t);
  if (valued) tail_value[tail] = value;
  wide = wide || value >= kSmall || value <= -kSmall;
  if (++tail == kTail) flush();
}

void Ordered::flush() noexcept {
  const std::size_t at = start[blocks];
  for (std::size_t j = 0; j < kTail; ++j) {
    items[at + j] = {tail_group != nullptr ? tail_group[j] : 0, tail_key[j], orders == 2 ? tail_other[j] : 0,
                     valued ? tail_value[j] : 0};
  }
  tail = 0;
  std::sort(items + at, items + at + kTail, before);
  start[++blocks] = at + kTail;
  while (blocks > 1 && start[blocks] - start[blocks - 1] == start[blocks - 1] - start[blocks - 2]) {
    const std::size_t a = start[blocks - 2], b = start[blocks - 1], c = start[blocks];
    std::merge(items + a, items + b, items + b, items + c, spare, before);
    std::copy_n(spare, c - a, items + a);
    start[--blocks] = c;
  }
  orders == 2 ? sort_runs(start[blocks - 1], start[blocks]) : add_up(start[blocks - 1], start[blocks]);
}

void Ordered::add_up(std::size_t begin, std::size_t end) noexcept {
  for (std::size_t i = begin; i < end; ++i) {
    const bool first = i == begin || items[i].group != items[i - 1].group;
    totals[i] = first ? Int128{items[i].value} : joined(totals[i - 1], items[i].value);
  }
}

void Ordered::sort_runs(std::size_t begin, std::size_t end) noexcept {
  const auto by_other = [](const Pair& a, const Pair& b) { return a.other < b.other; };
  for (std::size_t i = begin; i < end; ++i) pairs[i] = {items[i].other, items[i].value};
  for (int l = 0; (kRun << l) <= end - begin; ++l) {
    const std::size_t size = kRun << l;
    for (std::size_t i = begin; i < end; i += size) {
      if (l == 0) {
        std::sort(pairs + i, pairs + i + size, by_other);
      } else {
        std::merge(pairs + i, pairs + i + size / 2, pairs + i + size / 2, pairs + i + size, spare_pairs + i, by_other);
      }
    }
    if (l > 0) std::swap(pairs, spare_pairs);
    for (std::size_t i = begin; i < end; ++i) {
      level[l].other[i] = pairs[i].other;
      const bool first = (i - begin) % size == 0;
      level[l].total[i] = first ? Int128{pairs[i].value} : joined(level[l].total[i - 1], pairs[i].value);
    }
  }
}

void Ordered::ask(Id group, const Int* columns, std::size_t t, Found& found) const noexcept {
  Int bound = 0, other = 0;
  if (!order[0].bound_of(columns, t, bound)) return;
  if (orders == 2 && !order[1].bound_of(columns, t, other)) return;
  for (std::size_t b = 0; b < blocks; ++b) {
    const Item *begin = items + start[b], *end = items + start[b + 1];
    if (tail_group != nullptr) begin = std::lower_bound(begin, end, Item{group, kNone, 0, 0}, before);
    end = std::upper_bound(begin, end, Item{group, bound, 0, 0}, before);
    if (begin == end) continue;
    if (orders == 1) {
      found.add(end - begin, totals[end - items - 1], extreme);
    } else {
      ask_runs(start[b], static_cast<std::size_t>(begin - items) - start[b],
               static_cast<std::size_t>(end - items) - start[b], other, found);
    }
  }
  static constexpr int kTerms[] = {0, 1, kAnd, 2, kAnd};
  Column terms[3];
  std::size_t n = 0;
  terms[n++] = {tail_key, bound, Compare::less_equal};
  if (orders == 2) terms[n++] = {tail_other, other, Compare::less_equal};
  if (tail_group != nullptr) terms[n++] = {tail_group, group, Compare::equal};
  LEGATO_DISPATCH(scan, {terms, n}, {kTerms, 2 * n - 1}, tail, tail_value, extreme, wide, found);
}

void Ordered::ask_runs(std::size_t base, std::size_t x, std::size_t y, Int bound, Found& found) const noexcept {
  while (x < y) {
    if (x % kRun != 0 || y - x < kRun) {
      for (const std::size_t end = std::min(y, x / kRun * kRun + kRun); x < end; ++x) {
        const Item& item = items[base + x];
        if (item.other <= bound) found.add(1, item.value, extreme);
      }
      continue;
    }
    const int aligned = x == 0 ? kMostLevels : std::countr_zero(x / kRun);
    const int l = std::min(aligned, static_cast<int>(std::bit_width((y - x) / kRun)) - 1);
    const Int *begin = level[l].other + base + x, *end = std::upper_bound(begin, begin + (kRun << l), bound);
    if (begin != end) found.add(end - begin, level[l].total[end - level[l].other - 1], extreme);
    x += kRun << l;
  }
}

// --- Formulas -------------------------------------------------------------------------------------------------------

void Scan::lay_out(Arena& arena, std::size_t capacity, bool valued) noexcept {
  term = arena.take<StreamTerm>(terms);
  column = arena.take<Column>(terms);
  keys = arena.take<Int*>(terms);
  code = arena.take<int>(codes);
  for (std::size_t k = 0; k < terms; ++k) {
    Int* of_term = arena.take<Int>(capacity);
    if (of_term != nullptr) keys[k] = of_term;
  }
  if (valued) value = arena.take<Int>(capacity);
}

void Scan::add(const Int* columns, std::size_t t, Int x) noexcept {
  for (std::size_t k = 0; k < terms; ++k) keys[k][seen] = columns[term[k].key * kChunk + t];
  if (value != nullptr) value[seen] = x;
  ++seen;
}

void Scan::ask(const Int* columns, std::size_t t, bool extreme, Found& found) noexcept {
  for (std::size_t k = 0; k < terms; ++k) {
    column[k] = {keys[k], columns[term[k].query * kChunk + t], term[k].compare};
  }
  LEGATO_DISPATCH(scan, {column, terms}, {code, codes}, seen, value, extreme, true, found);
}

// --- Aggregations ---------------------------------------------------------------------------------------------------

void Aggregate::clear() noexcept {
  for (std::size_t p = 0; p < parts; ++p) {
    part[p].groups.clear();
    part[p].others.clear(extreme);
    part[p].ordered.clear();
    part[p].scan.seen = 0;
    if (part[p].kind == Kind::totals && part[p].groups.fields == 0) part[p].cells[0].clear(extreme);
  }
}

void Aggregate::add(Part& to, const Int* columns, std::size_t t, Int x) const noexcept {
  if (to.kind == Kind::scan) return to.scan.add(columns, t, x);
  const Id before = to.groups.number, group = to.groups.of_key(columns, t);
  if (to.kind == Kind::ordered) return to.ordered.add(group, columns, t, x);
  if (to.groups.number != before) to.cells[group].clear(extreme);
  to.cells[group].add(x, extreme);
  if (to.kind == Kind::others) {
    to.others.every.add(x, extreme);
    if (extreme) to.others.add(group, x);
  }
}

void Aggregate::ask(Part& of, const Int* columns, std::size_t t, Found& found) const noexcept {
  if (of.kind == Kind::scan) return of.scan.ask(columns, t, extreme, found);
  const Id group = of.groups.of_query(columns, t);
  if (of.kind == Kind::others) {
    if (extreme) {
      const Cell& best = group >= 0 && group == of.others.first_group ? of.others.second : of.others.first;
      found.add(best.count, best.total, true);
      return;
    }
    found.add(of.others.every.count, of.others.every.total, false);
    if (group >= 0) found.count -= of.cells[group].count, found.sum -= of.cells[group].total;
    return;
  }
  if (group < 0) return;
  if (of.kind == Kind::ordered) return of.ordered.ask(group, columns, t, found);
  found.add(of.cells[group].count, of.cells[group].total, extreme);
}

bool Aggregate::finished(const Found& found, Int& out) const noexcept {
  if (reduction == Reduction::width) {
    out = found.count;
  } else if (found.count == 0) {
    out = fallback;
  } else if (extreme) {
    out = found.best ^ flip;
  } else if (reduction == Reduction::sum) {
    if (found.sum < kNone || found.sum > ~kNone) return false;
    out = static_cast<Int>(found.sum);
  } else if (rounding == Rounding::real) {
    if (found.sum < -kExact || found.sum > kExact) return false;
    out = std::bit_cast<Int>(static_cast<double>(found.sum) / static_cast<double>(found.count));
  } else {
    const Int128 mean = found.sum / found.count;
    const bool down = rounding == Rounding::floor && found.sum % found.count < 0;
    out = static_cast<Int>(down ? mean - 1 : mean);
  }
  return true;
}

bool Aggregate::run(const Int* columns, std::size_t count, Int* out) const noexcept {
  for (std::size_t t = 0; t < count; ++t) {
    const Int x = valued ? columns[value * kChunk + t] ^ flip : 0;
    Found all;
    for (std::size_t p = 0; p < parts; ++p) {
      add(part[p], columns, t, x);
      Found found;
      ask(part[p], columns, t, found);
      all.count += part[p].sign * found.count;
      all.sum += part[p].sign > 0 ? found.sum : -found.sum;
      all.best = std::max(all.best, found.best);
    }
    if (!finished(all, out[t])) return false;
  }
  return true;
}

}  // namespace legato::rasp
