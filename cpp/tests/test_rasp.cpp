#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "allocations.h"
#include "legato/rasp.hpp"

using namespace legato;
using namespace legato::rasp;
using Ints = std::vector<std::int64_t>;

namespace {

bool holds(Compare compare, std::int64_t k, std::int64_t q) {
  switch (compare) {
    case Compare::equal:
      return k == q;
    case Compare::not_equal:
      return k != q;
    case Compare::less:
      return k < q;
    case Compare::less_equal:
      return k <= q;
    case Compare::greater:
      return k > q;
    case Compare::greater_equal:
      return k >= q;
    case Compare::always:
      return true;
    default:
      return false;
  }
}

Ints by_pairs(std::size_t n, bool causal, const std::vector<Term>& terms, const Aggregation& how) {
  Ints out(n);
  for (std::size_t i = 0; i < n; ++i) {
    std::int64_t count = 0, sum = 0, high = 0, low = 0;
    for (std::size_t j = 0; j < (causal ? i + 1 : n); ++j) {
      bool selected = true;
      for (const Term& t : terms) selected = selected && holds(t.compare, t.key[j], t.query[i]);
      if (!selected) continue;
      const std::int64_t v = how.value[j];
      high = count == 0 ? v : std::max(high, v);
      low = count == 0 ? v : std::min(low, v);
      sum += v;
      ++count;
    }
    if (how.reduction == Reduction::width) {
      out[i] = count;
    } else if (count == 0) {
      out[i] = how.fallback;
    } else {
      out[i] = how.reduction == Reduction::mean ? sum / count : how.reduction == Reduction::max ? high : low;
    }
  }
  return out;
}

Ints random_ints(std::mt19937_64& random, std::size_t n, std::int64_t reach) {
  std::uniform_int_distribution<std::int64_t> draw(-reach, reach);
  Ints out(n);
  for (auto& x : out) x = draw(random);
  return out;
}

const std::vector<std::vector<Compare>> kConjunctions = {
    {},
    {Compare::never},
    {Compare::equal},
    {Compare::not_equal},
    {Compare::less},
    {Compare::greater_equal},
    {Compare::equal, Compare::equal},
    {Compare::equal, Compare::greater},
    {Compare::less, Compare::less_equal},
    {Compare::greater, Compare::less},
};

}  // namespace

TEST_CASE("every route of a conjunction is the pairs, without allocation") {
  std::mt19937_64 random(1);
  for (const std::size_t n : {1u, 2u, 31u, 33u, 65u, 300u, 5000u}) {
    for (const std::int64_t reach : {2, 60, 1000000000}) {
      const Ints k1 = random_ints(random, n, reach), q1 = random_ints(random, n, reach);
      const Ints k2 = random_ints(random, n, reach), q2 = random_ints(random, n, reach);
      const Ints value = random_ints(random, n, reach);
      for (const auto& compares : kConjunctions) {
        const bool single = compares.size() == 1 && (compares[0] == Compare::less || compares[0] == Compare::equal);
        const bool orders = compares.size() == 2 && compares[1] != Compare::equal && compares[0] != Compare::equal;
        if (n > 1000 && (reach < 1000 || !(single || orders))) continue;  // several parts; the pairs are slow
        std::vector<Term> terms;
        for (const Compare compare : compares) {
          terms.push_back(terms.empty() ? Term{k1, q1, compare} : Term{k2, q2, compare});
        }
        std::vector<int> formula{0};
        if (terms.empty()) formula.clear();
        if (terms.size() == 2) formula = {0, 1, kAnd};
        for (const Reduction reduction : {Reduction::width, Reduction::mean, Reduction::max, Reduction::min}) {
          for (const bool causal : {true, false}) {
            if (n > 1000 && (!causal || reduction == Reduction::width || reduction == Reduction::min)) continue;
            Shape shape;
            shape.length = n;
            shape.causal = causal;
            Aggregation how{value, reduction, Rounding::truncate, -7, 0};
            std::vector<std::byte> memory(conjunction_workspace_size(shape, compares, reduction, 1));
            Ints out(n), brute(n);
            Sink sink, brute_sink;
            sink.out = out;
            brute_sink.out = brute;
            const long before = allocation_count();
            const Status status = aggregate_conjunction(shape, terms, how, memory, sink, 1);
            const long after = allocation_count();
            REQUIRE(status == Status::ok);
            CHECK(after == before);
            const Ints wanted = by_pairs(n, causal, terms, how);
            CHECK(out == wanted);
            if (formula.empty()) continue;
            REQUIRE(aggregate_formula(shape, terms, {}, formula, how, brute_sink, 1) == Status::ok);
            CHECK(brute == wanted);
            CHECK(last_isa() == active_isa());
          }
        }
      }
    }
  }
}

TEST_CASE("two orderings of one key are one of the smaller query, in long rows") {
  std::mt19937_64 random(3);
  const std::size_t n = 140000;  // two chunks of queries
  const Ints k = random_ints(random, n, 1000000000), q1 = random_ints(random, n, 1000000000);
  const Ints q2 = random_ints(random, n, 1000000000), value = random_ints(random, n, 1000000000);
  Ints q(n), both(n), one(n);
  for (std::size_t i = 0; i < n; ++i) q[i] = std::min(q1[i], q2[i]);
  for (const Reduction reduction : {Reduction::mean, Reduction::max}) {
    Shape shape;
    shape.length = n;
    const Aggregation how{value, reduction, Rounding::truncate, -7, 0};
    const auto run = [&](const std::vector<Term>& terms, Ints& out) {
      const std::vector<Compare> compares(terms.size(), Compare::less);
      std::vector<std::byte> memory(conjunction_workspace_size(shape, compares, reduction, 1));
      Sink sink;
      sink.out = out;
      REQUIRE(aggregate_conjunction(shape, terms, how, memory, sink, 1) == Status::ok);
    };
    run({{k, q1, Compare::less}, {k, q2, Compare::less}}, both);
    run({{k, q, Compare::less}}, one);
    CHECK(both == one);
  }
}

TEST_CASE("a compiled predicate is asked for each pair") {
  std::mt19937_64 random(2);
  const std::size_t n = 300;
  const Ints k = random_ints(random, n, 50), q = random_ints(random, n, 50);
  const Called below = [](std::int64_t key, std::int64_t query) { return static_cast<std::uint8_t>(key < query); };
  Shape shape;
  shape.length = n;
  Aggregation how{k, Reduction::mean, Rounding::truncate, -7, 0};
  Ints out(n);
  Sink sink;
  sink.out = out;
  std::vector<Term> terms{{k, q, Compare::called, below}};
  REQUIRE(aggregate_formula(shape, terms, {}, std::vector<int>{0}, how, sink, 1) == Status::ok);
  CHECK(out == by_pairs(n, true, {{k, q, Compare::less}}, how));
  std::vector<std::uint8_t> truth(n * n);
  std::size_t bad = 0;
  REQUIRE(fill_truth(below, k, q, truth, bad) == Status::ok);
  CHECK(truth[7 * n + 9] == (k[7] < q[9]));
  terms[0].predicate = nullptr;
  CHECK(aggregate_formula(shape, terms, {}, std::vector<int>{0}, how, sink, 1) == Status::invalid_argument);
  std::vector<std::byte> memory(1 << 16);
  CHECK(aggregate_conjunction(shape, std::vector<Term>{{k, q, Compare::called, below}}, how, memory, sink, 1) ==
        Status::invalid_argument);
  const Called fails = [](std::int64_t key, std::int64_t query) {
    return static_cast<std::uint8_t>(key == 7 && query == 9 ? 2 : 1);
  };
  const Ints some{6, 7}, asked{8, 9, 10};
  CHECK(fill_truth(fails, some, asked, std::span(truth).first(6), bad) == Status::call_failed);
  CHECK(bad == 4);
  CHECK(fill_truth(fails, some, asked, std::span(truth).first(5), bad) == Status::invalid_argument);
  CHECK(fill_truth(nullptr, some, asked, std::span(truth).first(6), bad) == Status::invalid_argument);
  shape.length = 2;
  const Ints queries{9, 9};
  how.value = some;
  sink.out = std::span(out).first(2);
  CHECK(aggregate_formula(shape, std::vector<Term>{{some, queries, Compare::called, fails}}, {}, std::vector<int>{0},
                          how, sink, 1) == Status::call_failed);
}

TEST_CASE("bad sizes and formulas are refused") {
  Ints x{1, 2, 3}, out(3);
  Shape shape;
  shape.length = 3;
  Aggregation how{x, Reduction::max, Rounding::truncate, 0, 0};
  Sink sink;
  sink.out = out;
  const std::vector<Term> terms{{x, x, Compare::less}};
  CHECK(aggregate_conjunction(shape, terms, how, {}, sink, 1) == Status::workspace_too_small);
  CHECK(aggregate_conjunction(shape, terms, how, {}, Sink{}, 1) == Status::invalid_argument);
  const std::vector<Compare> three{Compare::less, Compare::less, Compare::less};
  CHECK_FALSE(has_fast_route(three));
  for (const std::vector<int>& formula : {std::vector<int>{}, {0, 0}, {1}, {0, kAnd}, {kNot}, {-9}}) {
    CHECK(aggregate_formula(shape, terms, {}, formula, how, sink, 1) == Status::invalid_argument);
  }
  const std::int32_t ids[3] = {0, 1, 5};
  const std::uint8_t truth[4] = {1, 0, 0, 1};
  const Table table{ids, ids, truth, 2, 2};
  std::vector<std::byte> memory(table_workspace_size(table, 1));
  CHECK(aggregate_table(shape, table, how, memory, sink, 1) == Status::invalid_argument);
  const std::int64_t lengths[1] = {4};
  shape.lengths = lengths;
  CHECK(aggregate_formula(shape, terms, {}, std::vector<int>{0}, how, sink, 1) == Status::invalid_argument);
}

TEST_CASE("spans of another size are refused, and sizes do not wrap") {
  const Ints x{1, 2, 3, 4, 5, 6};
  Ints out(6), count(6), sum(12), best(6);
  const Shape shape{.rows = 2, .length = 3};
  const std::span<const std::int64_t> part = std::span(x).first(5);
  const Aggregation whole{x, Reduction::mean, Rounding::truncate, 0, 0}, partly{part, Reduction::mean, {}, 0, 0};
  const std::vector<Compare> compares{Compare::less};
  std::vector<std::byte> memory(conjunction_workspace_size(shape, compares, Reduction::mean, 1));
  Sink sink;
  sink.out = out;
  const auto run = [&](const Shape& of, const Term& term, const Aggregation& how, const Sink& to) {
    const Status fast = aggregate_conjunction(of, std::vector<Term>{term}, how, memory, to, 1);
    CHECK(aggregate_formula(of, std::vector<Term>{term}, {}, std::vector<int>{0}, how, to, 1) == fast);
    return fast;
  };
  const Term term{x, x, Compare::less};
  CHECK(run(shape, term, whole, sink) == Status::ok);
  CHECK(run(shape, {part, x, Compare::less}, whole, sink) == Status::invalid_argument);
  CHECK(run(shape, {x, part, Compare::less}, whole, sink) == Status::invalid_argument);
  CHECK(run(shape, term, partly, sink) == Status::invalid_argument);
  const Ints lengths{3, 3, 3};
  CHECK(run({.rows = 2, .length = 3, .lengths = lengths}, term, whole, sink) == Status::invalid_argument);
  Sink shorter;
  shorter.out = std::span(out).first(5);
  CHECK(run(shape, term, whole, shorter) == Status::invalid_argument);
  Sink totals;
  totals.count = count;
  totals.sum = std::span(sum).first(6);
  CHECK(run(shape, term, whole, totals) == Status::invalid_argument);
  totals.sum = sum;
  CHECK(run(shape, term, whole, totals) == Status::ok);
  CHECK(finish(shape, whole, totals, shorter) == Status::invalid_argument);
  CHECK(finish(shape, whole, totals, sink) == Status::ok);
  totals.count = std::span(count).first(5);
  CHECK(finish(shape, whole, totals, sink) == Status::invalid_argument);
  const std::vector<std::int32_t> ids{0, 1, 0, 1, 0, 1};
  const std::vector<std::uint8_t> truth{1, 0, 0, 1};
  for (const Table& table : {Table{ids, std::span(ids).first(5), truth, 2, 2}, Table{ids, ids, truth, 2, 3},
                             Table{ids, ids, truth, std::size_t{1} << 33, std::size_t{1} << 31}}) {
    std::vector<std::byte> cells(256);
    CHECK(aggregate_table(shape, table, whole, cells, sink, 1) == Status::invalid_argument);
  }
  // Products that are 0 when they wrap, and a row longer than any.
  const std::size_t half = std::size_t{1} << (4 * sizeof(std::size_t));
  CHECK(run({.rows = half, .length = half}, {}, {}, {}) == Status::invalid_argument);
  CHECK(conjunction_workspace_size({.length = Size::kMost}, compares, Reduction::mean, 1) == 0);
  // As many rows as there may be, of nothing.
  CHECK(run({.rows = Size::kMost / 8, .length = 0}, {{}, {}, Compare::less}, {}, {}) == Status::ok);
}
