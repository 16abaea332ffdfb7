#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "allocations.h"
#include "legato.h"
#include "legato/rasp.hpp"

using namespace legato;
using namespace legato::rasp;
using Ints = std::vector<std::int64_t>;

namespace {

constexpr std::int64_t op(Op x) { return static_cast<std::int64_t>(x); }

/// The sum of the values of the keys below the query in one ordering and above it in another, by modulus: 0 tokens,
/// 1 indices, 2 constant 7, 3 tokens % 7, 4 the mean.
Ints program(Reduction reduction) {
  return {1,
          5,
          0,
          op(Op::tokens),
          op(Op::indices),
          op(Op::constant),
          7,
          op(Op::mod),
          0,
          2,
          op(Op::aggregate),
          1,
          static_cast<std::int64_t>(reduction),
          0,
          -1,
          0,
          1,
          1,
          2,
          0,
          1,
          2,
          3,
          3,
          5};
}

/// The same by looking at every pair.
Ints by_pairs(const Ints& x, Reduction reduction) {
  Ints out;
  const auto mod = [](std::int64_t v) { return ((v % 7) + 7) % 7; };
  for (std::size_t i = 0; i < x.size(); ++i) {
    std::int64_t count = 0, sum = 0, best = 0;
    for (std::size_t j = 0; j <= i; ++j) {
      if (!(x[j] < static_cast<std::int64_t>(i) && mod(x[j]) >= mod(x[i]))) continue;
      const auto v = static_cast<std::int64_t>(j);
      best = count == 0 || v > best ? v : best;
      sum += v;
      ++count;
    }
    const std::int64_t mean = count == 0 ? 0 : sum / count;
    out.push_back(count == 0 ? -1 : reduction == Reduction::mean ? mean : reduction == Reduction::sum ? sum : best);
  }
  return out;
}

Ints tokens_of_size(std::size_t n) {
  std::mt19937 random(7);
  Ints x(n);
  for (auto& v : x) v = static_cast<std::int64_t>(random() % 3000);
  return x;
}

}  // namespace

TEST_CASE("rasp stream: two orderings, in pieces of any size, without allocation") {
  const Ints x = tokens_of_size(2500);
  for (const Reduction reduction : {Reduction::mean, Reduction::max, Reduction::sum}) {
    const Ints words = program(reduction), wanted = by_pairs(x, reduction);
    std::vector<std::byte> memory(stream_memory_size(words, x.size()));
    REQUIRE(!memory.empty());
    Stream* stream = create_stream(words, x.size(), memory);
    REQUIRE(stream != nullptr);
    CHECK(create_stream(words, x.size(), std::span(memory).first(memory.size() - 1)) == nullptr);
    for (const std::size_t piece : {std::size_t{1}, std::size_t{63}, std::size_t{300}, x.size()}) {
      Ints out(x.size());
      reset(*stream);
      const long before = allocation_count();
      for (std::size_t at = 0; at < x.size(); at += piece) {
        const std::size_t count = std::min(piece, x.size() - at);
        CHECK(push(*stream, std::span(x).subspan(at, count), std::span(out).subspan(at, count)) == Status::ok);
      }
      CHECK(allocation_count() == before);
      CHECK(out == wanted);
    }
    Ints one(1);
    CHECK(push(*stream, {x.data(), 1}, one) == Status::workspace_too_small);
  }
}

TEST_CASE("rasp stream: trouble stays until the stream is reset") {
  const Ints words = {1, 3, 0, op(Op::tokens), op(Op::constant), 6, op(Op::floordiv), 1, 0};
  std::vector<std::byte> memory(stream_memory_size(words, 10));
  Stream* stream = create_stream(words, 10, memory);
  REQUIRE(stream != nullptr);
  Ints out(1);
  const std::int64_t four = -4, zero = 0;
  CHECK(push(*stream, {&four, 1}, out) == Status::ok);
  CHECK(out[0] == -2);
  CHECK(push(*stream, {&zero, 1}, out) == Status::numerical_trouble);
  CHECK(push(*stream, {&four, 1}, out) == Status::numerical_trouble);
  reset(*stream);
  CHECK(push(*stream, {&four, 1}, out) == Status::ok);
}

TEST_CASE("rasp stream: a sum that leaves 64 bits is trouble, one that comes back is not") {
  const auto sum = static_cast<std::int64_t>(Reduction::sum);
  const Ints words = {1, 2, 0, op(Op::tokens), op(Op::aggregate), 0, sum, 0, 0, 0, 1, 1, 0};
  std::vector<std::byte> memory(stream_memory_size(words, 10));
  Stream* stream = create_stream(words, 10, memory);
  REQUIRE(stream != nullptr);
  constexpr std::int64_t kLow = std::numeric_limits<std::int64_t>::min();
  Ints out(3);
  CHECK(push(*stream, Ints{kLow, -(kLow + 1), 1}, out) == Status::ok);
  CHECK(out == Ints{kLow, -1, 0});
  reset(*stream);
  CHECK(push(*stream, Ints{kLow, -1, 1}, out) == Status::numerical_trouble);
}

TEST_CASE("rasp stream: the C face generates") {
  const Ints words = {1, 3, 0, op(Op::tokens), op(Op::constant), 3, op(Op::add), 0, 1};
  std::vector<unsigned char> memory(legato_rasp_stream_memory(words.data(), words.size(), 100));
  legato_rasp_stream* stream = legato_rasp_stream_create(words.data(), words.size(), 100, memory.data(), memory.size());
  REQUIRE(stream != nullptr);
  std::int64_t out[100];
  std::size_t written = 0;
  const std::int64_t stop = 16;
  CHECK(legato_rasp_stream_generate_i64(stream, 1, &stop, 100, out, &written) == LEGATO_OK);
  CHECK(Ints(out, out + written) == Ints{4, 7, 10, 13, 16});
  CHECK(legato_rasp_stream_generate_i64(stream, 0, nullptr, 100, out, &written) == LEGATO_WORKSPACE_TOO_SMALL);
  CHECK(written == 95);
  legato_rasp_stream_reset(stream);
  const std::int64_t largest = std::numeric_limits<std::int64_t>::max();
  CHECK(legato_rasp_stream_push_i64(stream, &largest, 1, out) == LEGATO_NUMERICAL_TROUBLE);
  CHECK(legato_rasp_stream_push_i64(stream, nullptr, 1, out) == LEGATO_INVALID_ARGUMENT);
  CHECK(legato_rasp_stream_memory(words.data(), words.size(), SIZE_MAX) == 0);
  CHECK(legato_rasp_stream_memory(words.data(), words.size() - 1, 10) == 0);
}
