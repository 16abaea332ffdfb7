#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "allocations.h"
#include "legato/math/softmax.h"
#include "legato/rft.hpp"

using namespace legato;
using namespace legato::rft;

namespace {

struct Columns {
  explicit Columns(std::size_t n) : values(6 * n), view{at(n, 0), at(n, 1), at(n, 2), at(n, 3), at(n, 4), at(n, 5)} {}
  std::span<float> at(std::size_t n, std::size_t i) { return std::span(values).subspan(i * n, n); }
  GivenStats given() const { return {view.entropy, view.largest, view.log_sum}; }
  std::vector<float> values;
  TokenStats view;
};

template <class Stored>
Logits logits_of(const std::vector<Stored>& z, std::size_t rows, std::size_t columns, FloatType type = FloatType::f32) {
  return {std::as_bytes(std::span(z)), type, rows, columns};
}
template <class Stored>
std::span<std::byte> bytes_of(std::vector<Stored>& gradient) {
  return std::as_writable_bytes(std::span(gradient));
}

std::vector<float> random_logits(std::size_t count) {
  std::mt19937 generator(3);
  std::normal_distribution<float> normal(0.0F, 3.0F);
  std::vector<float> z(count);
  for (auto& x : z) x = normal(generator);
  return z;
}

}  // namespace

TEST_CASE("decay and natural_log are as good as the library's") {
  for (double x = 0; x > -745; x -= 0.37) {
    const double expected = x > -700 ? std::exp(x) : 0.0;
    CHECK(math::decay(x) == doctest::Approx(expected).epsilon(1e-15));
  }
  for (double x = 1e-12; x < 1e12; x *= 1.37) {
    CHECK(std::abs(math::natural_log(x) - std::log(x)) <= 4e-16 * (1 + std::abs(std::log(x))));
  }
  CHECK(std::isnan(math::decay(std::numeric_limits<double>::quiet_NaN())));
}

TEST_CASE("power_of_two is within its error") {
  for (float x = -60.0F; x <= 60.0F; x += 0.0137F) {
    const double expected = std::exp2(static_cast<double>(x));
    CHECK(std::abs(math::power_of_two(x, 1.0F) / expected - 1) < 2.5e-7);
  }
}

TEST_CASE("token statistics against plain float64, the forced ISA, and no allocation") {
  constexpr std::size_t rows = 7, columns = 5003;
  const auto z = random_logits(rows * columns);
  const std::vector<std::int64_t> ids = {0, 5002, 17, 4096, 2048, 2047, 1};
  Columns out(rows);
  std::size_t bad = 0;
  const long before = allocation_count();
  REQUIRE(token_stats(logits_of(z, rows, columns), ids, 1.3, {}, out.view, bad) == Status::ok);
  std::vector<float> weights(rows, 1.0F);
  const long vectors = allocation_count();
  std::vector<float> gradient(rows * columns);
  const long buffers = allocation_count();
  REQUIRE(token_stats_backward(logits_of(z, rows, columns), ids, 1.3, {}, out.given(), weights, {}, bytes_of(gradient),
                               bad) == Status::ok);
  CHECK(allocation_count() == buffers);
  CHECK(vectors == before + 1);
  CHECK(last_isa() == active_isa());
  for (std::size_t n = 0; n < rows; ++n) {
    const float* row = &z[n * columns];
    double most = row[0], s = 0, t = 0, q = 0, total = 0;
    for (std::size_t i = 0; i < columns; ++i) most = std::max(most, static_cast<double>(row[i]));
    for (std::size_t i = 0; i < columns; ++i) {
      const double d = (static_cast<double>(row[i]) - most) / 1.3, e = std::exp(d);
      s += e;
      t += e * d;
      q += e * e;
      total += static_cast<double>(gradient[n * columns + i]);
    }
    CHECK(std::abs(out.view.logp[n] - ((row[ids[n]] - most) / 1.3 - std::log(s))) < 2e-5);
    CHECK(std::abs(out.view.entropy[n] - (std::log(s) - t / s)) < 5e-5);
    CHECK(std::abs(out.view.sum_p2[n] - q / (s * s)) < 1e-6);
    CHECK(std::abs(total) < 1e-5);
  }
}

TEST_CASE("threads and batches do not change a bit") {
  constexpr std::size_t rows = 9, columns = 70001;
  const auto z = random_logits(rows * columns);
  const std::vector<std::int64_t> ids(rows, 3);
  Columns one(rows), four(rows), last(1);
  std::size_t bad = 0;
  REQUIRE(token_stats(logits_of(z, rows, columns), ids, 1.0, {}, one.view, bad, 1) == Status::ok);
  REQUIRE(token_stats(logits_of(z, rows, columns), ids, 1.0, {}, four.view, bad, 4) == Status::ok);
  CHECK(std::memcmp(one.values.data(), four.values.data(), one.values.size() * sizeof(float)) == 0);
  Columns plain(rows);
  plain.view.entropy = plain.view.sum_p2 = {};
  REQUIRE(token_stats(logits_of(z, rows, columns), ids, 1.0, {}, plain.view, bad) == Status::ok);
  CHECK(std::memcmp(one.view.logp.data(), plain.view.logp.data(), rows * sizeof(float)) == 0);
  CHECK(std::memcmp(one.view.lse.data(), plain.view.lse.data(), 3 * rows * sizeof(float)) == 0);
  const Logits single{std::as_bytes(std::span(z).last(columns)), FloatType::f32, 1, columns};
  REQUIRE(token_stats(single, std::span(ids).first(1), 1.0, {}, last.view, bad) == Status::ok);
  CHECK(last.view.logp[0] == one.view.logp[rows - 1]);
  CHECK(last.view.entropy[0] == one.view.entropy[rows - 1]);
}

TEST_CASE("16-bit logits in rows of any length, in buffers that end with them") {
  for (const std::size_t columns : {1UL, 15UL, 31UL, 32UL, 33UL, 65UL, 2047UL, 2049UL, 4133UL}) {
    constexpr std::size_t rows = 3;
    const auto z = random_logits(rows * columns);
    std::vector<std::uint16_t> brain(z.size()), half(z.size());
    std::vector<float> of_brain(z.size()), of_half(z.size());
    for (std::size_t i = 0; i < z.size(); ++i) {
      std::uint32_t bits = 0;
      std::memcpy(&bits, &z[i], sizeof bits);
      brain[i] = static_cast<std::uint16_t>(bits >> 16);
      bits &= 0xffff0000U;
      std::memcpy(&of_brain[i], &bits, sizeof bits);
      half[i] = static_cast<std::uint16_t>(0x3c00 + i % 1024 + (i % 3 == 0 ? 0x8000 : 0));  // 1 to 2 in size
      of_half[i] = (1.0F + static_cast<float>(i % 1024) / 1024.0F) * (i % 3 == 0 ? -1.0F : 1.0F);
    }
    const std::vector<std::int64_t> ids = {0, static_cast<std::int64_t>(columns / 2),
                                           static_cast<std::int64_t>(columns - 1)};
    const std::vector<float> weights(rows, 1.0F);
    const auto compare = [&](const std::vector<std::uint16_t>& stored, FloatType type, const std::vector<float>& same) {
      Columns a(rows), b(rows);
      std::size_t bad = 0;
      const Logits given = logits_of(stored, rows, columns, type), plain = logits_of(same, rows, columns);
      REQUIRE(token_stats(given, ids, 0.9, {}, a.view, bad) == Status::ok);
      REQUIRE(token_stats(plain, ids, 0.9, {}, b.view, bad) == Status::ok);
      for (std::size_t i = 0; i < a.values.size(); ++i) CHECK(std::abs(a.values[i] - b.values[i]) < 1e-5);
      std::vector<std::uint16_t> gradient(stored.size());
      std::vector<float> expected(stored.size());
      REQUIRE(token_stats_backward(given, ids, 0.9, {}, a.given(), weights, weights, bytes_of(gradient), bad) ==
              Status::ok);
      REQUIRE(token_stats_backward(plain, ids, 0.9, {}, b.given(), weights, weights, bytes_of(expected), bad) ==
              Status::ok);
      for (std::size_t n = 0; n < rows && type == FloatType::bf16; ++n) {
        for (std::size_t i = n * columns; i < (n + 1) * columns; ++i) {
          const std::uint32_t bits = static_cast<std::uint32_t>(gradient[i]) << 16;
          float found = 0;
          std::memcpy(&found, &bits, sizeof bits);
          CHECK(std::abs(found - expected[i]) <= 1e-6F + std::abs(expected[i]) / 128);
        }
      }
    };
    compare(brain, FloatType::bf16, of_brain);
    compare(half, FloatType::f16, of_half);
  }
}

TEST_CASE("what token_stats refuses") {
  const std::vector<float> z(6, 0.0F);
  const std::vector<std::int64_t> ids = {0, 3}, good = {0, 2};
  Columns out(2);
  std::size_t bad = 99;
  CHECK(token_stats(logits_of(z, 2, 3), ids, 1.0, {}, out.view, bad) == Status::invalid_argument);
  CHECK(bad == 1);
  const std::vector<std::uint8_t> mask = {1, 0};
  CHECK(token_stats(logits_of(z, 2, 3), ids, 1.0, mask, out.view, bad) == Status::ok);
  CHECK(out.view.lse[1] == 0.0F);
  CHECK(token_stats(logits_of(z, 2, 3), good, 0.0, {}, out.view, bad) == Status::invalid_argument);
  CHECK(token_stats(logits_of(z, 2, 3), std::span(good).first(1), 1.0, {}, out.view, bad) == Status::invalid_argument);
  CHECK(token_stats({{}, FloatType::f32, 2, 3}, good, 1.0, {}, out.view, bad) == Status::invalid_argument);
  CHECK(token_stats(logits_of(z, 2, 3), good, 1.0, {}, TokenStats{}, bad) == Status::invalid_argument);
  Columns half(2);
  half.view.sum_p2 = {};
  CHECK(token_stats(logits_of(z, 2, 3), good, 1.0, {}, half.view, bad) == Status::invalid_argument);
  for (std::size_t i = 0; i < 6; ++i) {  // every column a number short
    Columns shorter(2);
    std::span<float>* columns[] = {&shorter.view.logp, &shorter.view.entropy, &shorter.view.sum_p2,
                                   &shorter.view.lse,  &shorter.view.largest, &shorter.view.log_sum};
    *columns[i] = columns[i]->first(1);
    CHECK(token_stats(logits_of(z, 2, 3), good, 1.0, {}, shorter.view, bad) == Status::invalid_argument);
    std::vector<float> gradient(6), ones(2, 1.0F);
    const bool read = i == 1 || i > 3;  // of what the gradient is made of
    const Status status =
        token_stats_backward(logits_of(z, 2, 3), good, 1.0, {}, shorter.given(), ones, ones, bytes_of(gradient), bad);
    CHECK(status == (read ? Status::invalid_argument : Status::ok));
  }
  std::vector<float> small(5), ones(2, 1.0F);
  CHECK(token_stats_backward(logits_of(z, 2, 3), good, 1.0, {}, out.given(), ones, {}, bytes_of(small), bad) ==
        Status::invalid_argument);
  // 2^32 x 2^32 (or 2^16 x 2^16) numbers are none where sizes wrap.
  const std::size_t half_word = std::size_t{1} << (4 * sizeof(std::size_t));
  CHECK(token_stats({{}, FloatType::f32, half_word, half_word}, {}, 1.0, {}, TokenStats{}, bad) ==
        Status::invalid_argument);
  CHECK(token_stats({{}, FloatType::f32, 0, 0}, {}, 1.0, {}, TokenStats{}, bad) == Status::ok);
}

TEST_CASE("moments of groups and advantages over time") {
  const std::vector<double> rewards = {0.1, 5, 0.1, 7, 0.1};
  const std::vector<std::int64_t> groups = {0, 2, 0, 2, 0};
  std::vector<std::int64_t> count(3);
  std::vector<double> least(3), largest(3), mean(3), m2(3);
  std::size_t bad = 0;
  REQUIRE(group_moments(rewards, groups, count, least, largest, mean, m2, bad) == Status::ok);
  CHECK(count == std::vector<std::int64_t>{3, 0, 2});
  CHECK(mean == std::vector<double>{0.1, 0, 6});
  CHECK(m2 == std::vector<double>{0, 0, 2});
  std::vector<double> advantages5(5);
  std::vector<GroupWork> work(3);
  const auto scaled = [&](std::span<const std::int64_t> of, GroupScale kind, double eps) {
    return group_advantages(rewards, of, {kind, 0, eps, false}, work, advantages5, bad);
  };
  CHECK(group_count(groups) == 3);
  CHECK(group_count({}) == 0);
  const long held = allocation_count();
  REQUIRE(scaled(groups, GroupScale::deviation, 1.0) == Status::ok);
  CHECK(allocation_count() == held);
  CHECK(advantages5 == std::vector<double>{0, -0.5, 0, 0.5, 0});
  REQUIRE(scaled(groups, GroupScale::leave_one_out, 0.0) == Status::ok);
  CHECK(advantages5 == std::vector<double>{0, -2, 0, 2, 0});
  REQUIRE(scaled(groups, GroupScale::one, 0.0) == Status::ok);
  CHECK(advantages5 == std::vector<double>{0, -1, 0, 1, 0});
  REQUIRE(scaled(groups, GroupScale::all_centered, 1.0) == Status::ok);
  const double over = 1 / (std::sqrt(2.0 / 5.0) + 1);
  CHECK(advantages5[3] == doctest::Approx(over).epsilon(1e-15));
  REQUIRE(scaled(groups, GroupScale::all_rewards, 1.0) == Status::ok);
  const double all = 1 / (std::sqrt(3 * 2.36 * 2.36 + 2.54 * 2.54 + 4.54 * 4.54) / std::sqrt(5.0) + 1);
  CHECK(advantages5[3] == doctest::Approx(all).epsilon(1e-14));
  REQUIRE(scaled(groups, GroupScale::deviation, 0.0) == Status::ok);  // a deviation of 0 divides by 1
  CHECK(advantages5 == std::vector<double>{0, -1, 0, 1, 0});
  const std::vector<std::int64_t> outside = {0, 2, 0, 3, 0}, negative = {0, 2, -1, 2, 0}, single = {0, 2, 0, 1, 0};
  CHECK(scaled(outside, GroupScale::one, 0.0) == Status::invalid_argument);
  CHECK(bad == 3);
  CHECK(scaled(negative, GroupScale::one, 0.0) == Status::invalid_argument);
  CHECK(bad == 2);
  REQUIRE(group_advantages(rewards, single, {GroupScale::one, 0, 0.0, true}, work, advantages5, bad) == Status::ok);
  const AdvantageRule unknown{static_cast<GroupScale>(7), 0, 0.0, false};
  CHECK(group_advantages(rewards, single, unknown, work, advantages5, bad) == Status::invalid_argument);
  CHECK(advantages5 == std::vector<double>{0, 5, 0, 7, 0});
  CHECK(group_moments(rewards, outside, count, least, largest, mean, m2, bad) == Status::invalid_argument);
  CHECK(bad == 3);
  const std::vector<double> wild = {0, 0, std::numeric_limits<double>::infinity(), 0, 0};
  CHECK(group_advantages(wild, groups, {}, work, advantages5, bad) == Status::not_finite);
  CHECK(bad == 2);
  CHECK(group_moments(wild, groups, count, least, largest, mean, m2, bad) == Status::not_finite);
  CHECK(bad == 2);
  const std::vector<double> huge = {0, 0, 0, 0, -1e151};  // its square would overflow
  CHECK(group_advantages(huge, groups, {}, work, advantages5, bad) == Status::not_finite);
  CHECK(bad == 4);
  CHECK(group_moments(huge, groups, count, least, largest, mean, m2, bad) == Status::not_finite);
  CHECK(bad == 4);

  const std::vector<double> r = {1, 100, 2}, v = {0.5, 100, 1};
  const std::vector<std::uint8_t> mask = {1, 0, 1};
  std::vector<double> advantages(3), returns(3);
  REQUIRE(gae(r, v, mask, {}, 1, 0.5, 0.5, advantages, returns) == Status::ok);
  CHECK(advantages == std::vector<double>{1 + 0.5 * 1 - 0.5 + 0.25 * 1, 0, 1});
  CHECK(returns == std::vector<double>{1.75, 0, 2});
  CHECK(gae(r, v, mask, {}, 2, 0.5, 0.5, advantages, returns) == Status::invalid_argument);
  const std::span<const double> none;
  CHECK(gae(none, none, {}, {}, Size::kMost / 8, 0.5, 0.5, {}, {}) == Status::ok);  // rows of no steps
  CHECK(group_count(std::vector<std::int64_t>{0, std::numeric_limits<std::int64_t>::max()}) == Size::kMost);
}

TEST_CASE("prompts and rewards stream into tables of the caller, without allocation") {
  std::vector<std::uint64_t> slots(8), offsets(7), more_slots(16), more_offsets(13);
  std::vector<std::byte> text(64);
  const char* letters = "aabbbacdefg";
  const std::vector<std::int32_t> at = {0, 1, 2, 5, 5, 6, 7, 8, 9, 10, 11};  // a a bbb - a c d e f g
  std::vector<std::uint32_t> numbers(10);
  const auto bytes = std::as_bytes(std::span(letters, 11));
  NameTable table{slots, 0, {}, offsets, text};
  std::size_t done = 0;
  const long before = allocation_count();
  CHECK(number_names(at, bytes, table, numbers, done) == Status::workspace_too_small);
  CHECK(done == 8);
  CHECK(table.count == 6);
  std::memcpy(more_offsets.data(), offsets.data(), offsets.size() * sizeof(std::uint64_t));
  table.slots = more_slots;
  table.offsets = more_offsets;
  REQUIRE(rebuild_slots(table) == Status::ok);
  const std::size_t first = done;
  REQUIRE(number_names(std::span(at).subspan(first), bytes, table, std::span(numbers).subspan(first), done) ==
          Status::ok);
  CHECK(allocation_count() == before);
  CHECK(numbers == std::vector<std::uint32_t>{0, 0, 1, 2, 0, 3, 4, 5, 6, 7});
  CHECK(last_isa() == active_isa());

  std::vector<double> rewards(1000);
  std::vector<std::uint32_t> groups(1000);
  std::mt19937 generator(5);
  std::normal_distribution<double> normal(1e6, 1e-3);
  for (std::size_t i = 0; i < rewards.size(); ++i) {
    rewards[i] = i < 300 ? 0.1 : normal(generator);
    groups[i] = i < 300 ? 0 : 1;
  }
  std::vector<RewardSums> sums(2), parts(2), halves(2);
  std::vector<WideSums> wide(2), wide_parts(2), wide_halves(2);
  std::size_t bad = 0;
  CHECK(add_rewards(rewards, groups, -1e9, 1e9, sums, {}, bad) == Status::workspace_too_small);
  CHECK(sums[0].n == 0);
  REQUIRE(add_rewards(rewards, groups, -1e9, 1e9, sums, wide, bad) == Status::ok);
  for (std::size_t i = rewards.size(); i-- > 0;) {  // one at a time, backwards
    REQUIRE(add_rewards(std::span<const double>(rewards).subspan(i, 1), std::span(groups).subspan(i, 1), -1e9, 1e9,
                        parts, wide_parts, bad) == Status::ok);
  }
  for (const std::size_t half : {500, 0}) {  // merged
    std::vector<RewardSums> more(2);
    std::vector<WideSums> more_wide(2);
    REQUIRE(add_rewards(std::span<const double>(rewards).subspan(half, 500), std::span(groups).subspan(half, 500), -1e9,
                        1e9, more, more_wide, bad) == Status::ok);
    REQUIRE(merge_rewards(more, more_wide, std::vector<std::uint32_t>{0, 1}, halves, wide_halves) == Status::ok);
  }
  CHECK(std::memcmp(sums.data(), parts.data(), sizeof(RewardSums) * 2) == 0);
  CHECK(std::memcmp(sums.data(), halves.data(), sizeof(RewardSums) * 2) == 0);
  CHECK(std::memcmp(wide.data(), wide_parts.data(), sizeof(WideSums) * 2) == 0);
  CHECK(std::memcmp(wide.data(), wide_halves.data(), sizeof(WideSums) * 2) == 0);
  double mean[2], m2[2], mean_of_parts[2], m2_of_parts[2];
  REQUIRE(reward_moments(sums, wide, mean, m2) == Status::ok);
  REQUIRE(reward_moments(parts, wide_parts, mean_of_parts, m2_of_parts) == Status::ok);
  CHECK(mean[0] == 0.1);
  CHECK(m2[0] == 0);
  CHECK(mean[1] == mean_of_parts[1]);
  CHECK(m2[1] == m2_of_parts[1]);
  long double center = 0, spread = 0;
  for (std::size_t i = 300; i < 1000; ++i) center += rewards[i] / 700.0L;
  for (std::size_t i = 300; i < 1000; ++i) spread += (rewards[i] - center) * (rewards[i] - center);
  CHECK(mean[1] == static_cast<double>(center));
  CHECK(m2[1] == doctest::Approx(static_cast<double>(spread)).epsilon(1e-12));
  groups[900] = 2;
  CHECK(add_rewards(rewards, groups, -1e9, 1e9, sums, wide, bad) == Status::invalid_argument);
  CHECK(bad == 900);
  CHECK(merge_rewards(sums, wide, std::vector<std::uint32_t>{0, 2}, parts, wide_parts) == Status::invalid_argument);
  groups[900] = 1;
  const std::vector<std::int32_t> falling = {0, 5, 2}, beyond = {0, 2, 12}, below = {-1, 2, 3};
  for (const auto& wrong : {falling, beyond, below}) {
    CHECK(number_names(wrong, bytes, table, std::span(numbers).first(2), done) == Status::invalid_argument);
  }
  table.text = std::span(text).first(3);  // shorter than the names in it
  CHECK(number_names(at, bytes, table, numbers, done) == Status::invalid_argument);
  CHECK(rebuild_slots(table) == Status::invalid_argument);
  rewards[7] = std::numeric_limits<double>::quiet_NaN();
  CHECK(add_rewards(rewards, groups, -1e9, 1e9, sums, wide, bad) == Status::not_finite);
  CHECK(bad == 7);
  CHECK(sums[0].n == 300);
}

namespace {

/// Fields of a text by their paths, as text; "-" where there is none.
struct Found {
  Status status;
  std::size_t rows, bad;
  std::vector<std::string> values;
};

Found fields_of(std::string_view text, const std::vector<std::vector<std::string_view>>& keys, std::size_t room = 8) {
  const std::vector<JsonPath> paths(keys.begin(), keys.end());
  std::vector<JsonField> fields(room * paths.size());
  Found found{};
  const long held = allocation_count();
  found.status = find_json_fields(text, paths, fields, found.rows, found.bad);
  CHECK(allocation_count() == held);
  REQUIRE(found.rows <= room);
  REQUIRE(found.bad <= text.size());
  for (std::size_t i = 0; i < found.rows * paths.size(); ++i) {
    const auto [begin, end, kind] = fields[i];
    REQUIRE(begin >= 0);
    REQUIRE(begin <= end);
    REQUIRE(static_cast<std::size_t>(end) <= text.size());
    const auto value = text.substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    found.values.push_back(kind == JsonKind::missing ? "-" : std::string(value));
  }
  return found;
}

}  // namespace

TEST_CASE("fields of lines of JSON") {
  using Values = std::vector<std::string>;
  const std::vector<std::vector<std::string_view>> paths = {{"a"}, {"m", "r"}};
  const Found plain =
      fields_of("{\"a\": 1, \"m\": {\"x\": [1, {\"r\": 9}], \"r\": -2.5e3}}\n\n \t{\"m\":{}}\r\n", paths);
  CHECK(plain.status == Status::ok);
  CHECK(plain.rows == 2);
  CHECK(plain.values == Values{"1", "-2.5e3", "-", "-"});
  const Found texts = fields_of(R"({"a": "x\"}\\", "m": "no object"}
{"b": "{\"a\": 3}", "a": null, "m": {"r": [1, "]", [2]]}})",
                                paths);
  CHECK(texts.status == Status::ok);
  CHECK(texts.values == Values{R"(x\"}\\)", "-", "null", R"([1, "]", [2]])"});
  CHECK(fields_of("{\"a\": 1}{\"a\": 2}", {{"a"}}).status == Status::not_finite);
  for (const std::string_view wrong :
       {"1", "{", "{\"a\"", "{\"a\":", "{\"a\":}", "{\"a\": \"", "{\"a\": [1", "{\"a\": {\"b\": 1}", "{\"a\": +1}",
        "{a: 1}", "{\"a\": tru}", "{\"a\": 1,}", "{\"a\" 1}", "{\"a\": \"x\ny\"}", "[1]", "{\"a\": 1} x"}) {
    const std::string text = "{\"a\": 0}\n" + std::string(wrong);
    const Found found = fields_of(text, {{"a"}});
    CAPTURE(wrong);
    CHECK(found.status == Status::not_finite);
    CHECK(found.rows == 1);
    CHECK(found.bad == 9);
  }
  CHECK(fields_of("{}\n{}\n{}", {{"a"}}, 2).status == Status::workspace_too_small);
  CHECK(fields_of("", {{"a"}}).rows == 0);
  std::size_t rows = 0, bad = 0;
  CHECK(find_json_fields("{}", {}, {}, rows, bad) == Status::invalid_argument);
  const std::vector<JsonPath> nowhere(1);
  std::vector<JsonField> one(1);
  CHECK(find_json_fields("{}", nowhere, one, rows, bad) == Status::invalid_argument);
}

TEST_CASE("damaged lines of JSON are refused or read inside of the text") {
  const std::string sound = R"({"a": "x\"y", "m": {"r": [1, 2.5, {"q": null}], "s": true}, "b": -1e5}
{"m": {"r": "é\\"}, "a": false})";
  std::mt19937 generator(11);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(generator()) % n; };
  const std::string_view alphabet = "{}[]\":,\\ \n\r\t01e-tfn\x80";
  for (int round = 0; round < 20'000; ++round) {
    std::string text = sound;
    for (std::size_t change = 0; change <= below(4); ++change) {
      const std::size_t at = below(text.size());
      switch (below(3)) {
        case 0:
          text[at] = alphabet[below(alphabet.size())];
          break;
        case 1:
          text.erase(at, 1 + below(5));
          break;
        default:
          text.insert(at, 1, alphabet[below(alphabet.size())]);
      }
      if (text.empty()) text = "{";
    }
    std::vector<char> exact(text.begin(), text.end());  // ends with its memory, for the sanitizer
    fields_of({exact.data(), exact.size()}, {{"a"}, {"m", "r"}, {"m"}, {"m", "r", "q"}, {"b"}});
  }
}
