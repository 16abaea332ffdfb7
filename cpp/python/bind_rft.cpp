#include "legato/rft.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "binding.h"

namespace legato::python {
namespace {

using namespace rft;

template <class T>
using Typed = py::array_t<T, py::array::c_style>;

template <class T>
std::span<const T> in(const Typed<T>& array) {
  return {array.data(), static_cast<std::size_t>(array.size())};
}
template <class T>
std::span<T> out(Typed<T>& array) {
  return {array.mutable_data(), static_cast<std::size_t>(array.size())};
}

template <class Stored>
Logits logits_of(const Typed<Stored>& array, FloatType type) {
  require(array.ndim() == 2, "logits");
  return {std::as_bytes(in(array)), type, static_cast<std::size_t>(array.shape(0)),
          static_cast<std::size_t>(array.shape(1))};
}

FloatType half_type(bool brain) { return brain ? FloatType::bf16 : FloatType::f16; }

void stats_into(const Logits& logits, const Typed<std::int64_t>& ids, double temperature,
                const Typed<std::uint8_t>& mask, Typed<float>& stats, bool entropy, int threads) {
  std::size_t bad = 0;
  Status status;
  {
    const auto tokens = in(ids);
    const auto keep = in(mask);
    const auto table = out(stats);
    require((6 * Size{logits.rows}).is(table.size()), "stats");
    const auto row = [&](std::size_t i) { return table.subspan(i * logits.rows, logits.rows); };
    TokenStats result{row(0), row(1), row(2), row(3), row(4), row(5)};
    if (!entropy) result.entropy = result.sum_p2 = {};
    const Unlocked unlocked;
    status = token_stats(logits, tokens, temperature, keep, result, bad, threads);
  }
  check(status, "logits, row " + std::to_string(bad));
}

void gradient_into(const Logits& logits, const Typed<std::int64_t>& ids, double temperature,
                   const Typed<std::uint8_t>& mask, const Typed<float>& stats, const Typed<float>& grad_logp,
                   const Typed<float>& grad_entropy, std::span<std::byte> gradient, int threads) {
  std::size_t bad = 0;
  Status status;
  {
    const auto tokens = in(ids);
    const auto keep = in(mask);
    const auto weights = in(grad_logp), entropy_weights = in(grad_entropy);
    const auto table = in(stats);
    require((3 * Size{logits.rows}).is(table.size()), "stats");
    const auto row = [&](std::size_t i) { return table.subspan(i * logits.rows, logits.rows); };
    const GivenStats given{row(0), row(1), row(2)};
    const Unlocked unlocked;
    status = token_stats_backward(logits, tokens, temperature, keep, given, weights, entropy_weights, gradient, bad,
                                  threads);
  }
  check(status, "logits, row " + std::to_string(bad));
}

template <class Real>
void gae_into(const Typed<Real>& rewards, const Typed<Real>& values, const Typed<std::uint8_t>& mask,
              const Typed<Real>& bootstrap, double gamma, double lambda, Typed<Real>& advantages,
              Typed<Real>& returns) {
  Status status;
  {
    const auto a = in(rewards), b = in(values), c = in(bootstrap);
    const auto m = in(mask);
    require(rewards.ndim() == 2, "rewards");
    const auto rows = static_cast<std::size_t>(rewards.shape(0));
    const auto d = out(advantages), e = out(returns);
    const Unlocked unlocked;
    status = gae(a, b, m, c, rows, gamma, lambda, d, e);
  }
  check(status, "rewards");
}

std::pair<int, std::size_t> moments_into(const Typed<double>& rewards, const Typed<std::int64_t>& groups,
                                         Typed<std::int64_t>& count, Typed<double>& least, Typed<double>& largest,
                                         Typed<double>& mean, Typed<double>& m2) {
  const auto a = in(rewards);
  const auto b = in(groups);
  const auto c = out(count);
  const auto d = out(least), e = out(largest), f = out(mean), g = out(m2);
  std::size_t bad = 0;
  Status status;
  {
    const Unlocked unlocked;
    status = group_moments(a, b, c, d, e, f, g, bad);
  }
  check_signals();
  return {static_cast<int>(status), bad};
}

/// The status, the first bad index and the number of groups; with more than `most` of them nothing is done.
std::tuple<int, std::size_t, std::size_t> advantages_into(const Typed<double>& rewards,
                                                          const Typed<std::int64_t>& groups, std::size_t most,
                                                          int scale, int ddof, double eps, bool raw_singletons,
                                                          Typed<double>& advantages) {
  const auto a = in(rewards);
  const auto b = in(groups);
  const auto c = out(advantages);
  require(scale >= 0 && scale <= static_cast<int>(GroupScale::all_rewards), "scale");
  const AdvantageRule rule{static_cast<GroupScale>(scale), ddof, eps, raw_singletons};
  std::size_t bad = a.size();
  std::size_t total;
  Status status = Status::workspace_too_small;
  {
    std::optional<Unlocked> unlocked;
    if (a.size() > 10000) unlocked.emplace();  // for less it costs too much
    total = group_count(b);
    if (total <= most) {
      const std::unique_ptr<GroupWork[]> work(new GroupWork[total]);  // left as it is: std::vector would write it
      status = group_advantages(a, b, rule, {work.get(), total}, c, bad);
    }
  }
  check_signals();
  return {static_cast<int>(status), bad, total};
}

std::span<const std::byte> bytes_of(const Typed<std::uint8_t>& array) { return std::as_bytes(in(array)); }

template <class Names>
std::pair<std::size_t, std::size_t> numbered(const Names& number, Typed<std::uint64_t>& slots, std::size_t count,
                                             Typed<std::int64_t>& integers, Typed<std::uint64_t>& offsets,
                                             Typed<std::uint8_t>& text) {
  NameTable table{out(slots), count, out(integers), out(offsets), std::as_writable_bytes(out(text))};
  std::size_t done = 0;
  Status status;
  {
    const Unlocked unlocked;
    status = number(table, done);
  }
  check(status == Status::workspace_too_small ? Status::ok : status, "names");
  return {table.count, done};
}

constexpr std::size_t kWideWords = sizeof(WideSums) / sizeof(std::int64_t);
static_assert(sizeof(RewardSums) == 8 * sizeof(double) && sizeof(WideSums) == 13 * sizeof(std::int64_t));

/// (g, 8) as sums, each on a cache line of its own.
template <class Sums, class Number>
std::span<Sums> sums_at(Number* data, py::ssize_t size) {
  const bool aligned = reinterpret_cast<std::uintptr_t>(data) % alignof(RewardSums) == 0;
  require(size % 8 == 0 && (size == 0 || aligned), "sums");
  return {reinterpret_cast<Sums*>(data), static_cast<std::size_t>(size) / 8};
}
std::span<RewardSums> sums_in(Typed<double>& table) { return sums_at<RewardSums>(table.mutable_data(), table.size()); }
std::span<const RewardSums> sums_in(const Typed<double>& table) {
  return sums_at<const RewardSums>(table.data(), table.size());
}

/// (g, 13) as wide sums.
template <class Sums, class Number>
std::span<Sums> wide_at(Number* data, py::ssize_t size) {
  const auto words = static_cast<std::size_t>(size);
  require(words % kWideWords == 0, "wide");
  return {reinterpret_cast<Sums*>(data), words / kWideWords};
}
std::span<WideSums> wide_in(Typed<std::int64_t>& table) {
  return wide_at<WideSums>(table.mutable_data(), table.size());
}
std::span<const WideSums> wide_in(const Typed<std::int64_t>& table) {
  return wide_at<const WideSums>(table.data(), table.size());
}

template <class Real>
std::optional<std::size_t> add_rewards_of(const Typed<Real>& rewards, const Typed<std::uint32_t>& groups, double low,
                                          double high, Typed<double>& sums, Typed<std::int64_t>& wide) {
  const auto a = in(rewards);
  const auto b = in(groups);
  const auto c = sums_in(sums);
  const auto d = wide_in(wide);
  std::size_t bad = 0;
  Status status;
  {
    const Unlocked unlocked;
    status = add_rewards(a, b, low, high, c, d, bad);
  }
  const bool told = status == Status::workspace_too_small || status == Status::not_finite;  // not by an exception
  check(told ? Status::ok : status, "rewards");
  if (status == Status::workspace_too_small) return std::nullopt;
  return bad;
}

/// The rows, and the place of a line that is no object, or the length of the text.
std::pair<std::size_t, std::size_t> json_fields_of(const Typed<std::uint8_t>& text,
                                                   const std::vector<std::vector<std::string>>& names,
                                                   Typed<std::int64_t>& fields) {
  std::vector<std::vector<std::string_view>> keys;
  for (const auto& name : names) keys.emplace_back(name.begin(), name.end());
  const std::vector<JsonPath> paths(keys.begin(), keys.end());
  const auto raw = in(text);
  static_assert(sizeof(JsonField) == 3 * sizeof(std::int64_t));
  const auto words = out(fields);
  require(words.size() % 3 == 0, "fields");
  const std::span<JsonField> found{reinterpret_cast<JsonField*>(words.data()), words.size() / 3};
  std::size_t rows = 0, bad = 0;
  Status status;
  {
    const Unlocked unlocked;
    status = find_json_fields({reinterpret_cast<const char*>(raw.data()), raw.size()}, paths, found, rows, bad);
  }
  check(status == Status::not_finite ? Status::ok : status, "text");
  return {rows, bad};
}

}  // namespace

void bind_rft(py::module_& module) {
  using py::arg;
  module.def(
      "rft_token_stats",
      [](const Typed<float>& logits, const Typed<std::int64_t>& ids, double temperature,
         const Typed<std::uint8_t>& mask, Typed<float>& stats, bool entropy, int threads) {
        stats_into(logits_of(logits, FloatType::f32), ids, temperature, mask, stats, entropy, threads);
      },
      arg("logits").noconvert(), arg("ids").noconvert(), arg("temperature"), arg("mask").noconvert(),
      arg("stats").noconvert(), arg("entropy"), arg("threads"),
      "Statistics of (n, v) float32 logits into (6, n); the second and third row are left alone without entropy.");
  module.def(
      "rft_token_stats_half",
      [](const Typed<std::uint16_t>& logits, bool brain, const Typed<std::int64_t>& ids, double temperature,
         const Typed<std::uint8_t>& mask, Typed<float>& stats, bool entropy, int threads) {
        stats_into(logits_of(logits, half_type(brain)), ids, temperature, mask, stats, entropy, threads);
      },
      arg("logits").noconvert(), arg("brain"), arg("ids").noconvert(), arg("temperature"), arg("mask").noconvert(),
      arg("stats").noconvert(), arg("entropy"), arg("threads"),
      "The same for bfloat16 (brain) or float16 given as 16-bit patterns.");
  module.def(
      "rft_token_stats_backward",
      [](const Typed<float>& logits, const Typed<std::int64_t>& ids, double temperature,
         const Typed<std::uint8_t>& mask, const Typed<float>& stats, const Typed<float>& grad_logp,
         const Typed<float>& grad_entropy, Typed<float>& gradient, int threads) {
        gradient_into(logits_of(logits, FloatType::f32), ids, temperature, mask, stats, grad_logp, grad_entropy,
                      std::as_writable_bytes(out(gradient)), threads);
      },
      arg("logits").noconvert(), arg("ids").noconvert(), arg("temperature"), arg("mask").noconvert(),
      arg("stats").noconvert(), arg("grad_logp").noconvert(), arg("grad_entropy").noconvert(),
      arg("gradient").noconvert(), arg("threads"),
      "Gradient with respect to (n, v) float32 logits; stats: entropy, largest, log_sum.");
  module.def(
      "rft_token_stats_backward_half",
      [](const Typed<std::uint16_t>& logits, bool brain, const Typed<std::int64_t>& ids, double temperature,
         const Typed<std::uint8_t>& mask, const Typed<float>& stats, const Typed<float>& grad_logp,
         const Typed<float>& grad_entropy, Typed<std::uint16_t>& gradient, int threads) {
        gradient_into(logits_of(logits, half_type(brain)), ids, temperature, mask, stats, grad_logp, grad_entropy,
                      std::as_writable_bytes(out(gradient)), threads);
      },
      arg("logits").noconvert(), arg("brain"), arg("ids").noconvert(), arg("temperature"), arg("mask").noconvert(),
      arg("stats").noconvert(), arg("grad_logp").noconvert(), arg("grad_entropy").noconvert(),
      arg("gradient").noconvert(), arg("threads"),
      "The same for bfloat16 (brain) or float16 given as 16-bit patterns.");
  module.def("rft_gae_f32", &gae_into<float>, arg("rewards").noconvert(), arg("values").noconvert(),
             arg("mask").noconvert(), arg("bootstrap").noconvert(), arg("gamma"), arg("lam"),
             arg("advantages").noconvert(), arg("returns").noconvert(), "Advantages and returns of (n, m) steps.");
  module.def("rft_gae_f64", &gae_into<double>, arg("rewards").noconvert(), arg("values").noconvert(),
             arg("mask").noconvert(), arg("bootstrap").noconvert(), arg("gamma"), arg("lam"),
             arg("advantages").noconvert(), arg("returns").noconvert(), "Advantages and returns of (n, m) steps.");
  module.def("rft_group_moments", &moments_into, arg("rewards").noconvert(), arg("groups").noconvert(),
             arg("count").noconvert(), arg("least").noconvert(), arg("largest").noconvert(), arg("mean").noconvert(),
             arg("m2").noconvert(), "Moments of each group; returns the status and the first bad index.");
  module.def("rft_group_advantages", &advantages_into, arg("rewards").noconvert(), arg("groups").noconvert(),
             arg("most"), arg("scale"), arg("ddof"), arg("eps"), arg("raw_singletons"), arg("advantages").noconvert(),
             "Advantages of rewards; returns the status, the first bad index and the number of groups.");
  module.def(
      "rft_number_integers",
      [](const Typed<std::int64_t>& names, Typed<std::uint64_t>& slots, std::size_t count,
         Typed<std::int64_t>& integers, Typed<std::uint32_t>& numbers) {
        Typed<std::uint64_t> offsets;
        Typed<std::uint8_t> text;
        return numbered(
            [&](NameTable& table, std::size_t& done) { return number_names(in(names), table, out(numbers), done); },
            slots, count, integers, offsets, text);
      },
      arg("names").noconvert(), arg("slots").noconvert(), arg("count"), arg("integers").noconvert(),
      arg("numbers").noconvert(),
      "Numbers of the names in a table of `count`; returns how many there are then, and how many"
      " names got a number.");
  module.def(
      "rft_number_strings",
      [](const Typed<std::int32_t>& name_offsets, const Typed<std::uint8_t>& name_text, Typed<std::uint64_t>& slots,
         std::size_t count, Typed<std::uint64_t>& offsets, Typed<std::uint8_t>& text, Typed<std::uint32_t>& numbers) {
        Typed<std::int64_t> integers;
        return numbered(
            [&](NameTable& table, std::size_t& done) {
              return number_names(in(name_offsets), bytes_of(name_text), table, out(numbers), done);
            },
            slots, count, integers, offsets, text);
      },
      arg("name_offsets").noconvert(), arg("name_text").noconvert(), arg("slots").noconvert(), arg("count"),
      arg("offsets").noconvert(), arg("text").noconvert(), arg("numbers").noconvert(), "The same for strings.");
  module.def(
      "rft_rebuild_slots",
      [](Typed<std::uint64_t>& slots, std::size_t count, Typed<std::int64_t>& integers, Typed<std::uint64_t>& offsets,
         Typed<std::uint8_t>& text) {
        numbered([](NameTable& table, std::size_t&) { return rebuild_slots(table); }, slots, count, integers, offsets,
                 text);
      },
      arg("slots").noconvert(), arg("count"), arg("integers").noconvert(), arg("offsets").noconvert(),
      arg("text").noconvert(), "Fills slots, all zero, for the names of a table.");
  module.def("rft_add_rewards_f32", &add_rewards_of<float>, arg("rewards").noconvert(), arg("groups").noconvert(),
             arg("low"), arg("high"), arg("sums").noconvert(), arg("wide").noconvert(),
             "Adds rewards to the (g, 8) sums of their groups, or returns the index of the first outside of the range;"
             " None, and nothing is added, if there are rewards off the grid and no (g, 13) wide sums.");
  module.def("rft_add_rewards_f64", &add_rewards_of<double>, arg("rewards").noconvert(), arg("groups").noconvert(),
             arg("low"), arg("high"), arg("sums").noconvert(), arg("wide").noconvert(), "The same for float64.");
  module.def(
      "rft_merge_rewards",
      [](const Typed<double>& from, const Typed<std::int64_t>& from_wide, const Typed<std::uint32_t>& groups,
         Typed<double>& into, Typed<std::int64_t>& into_wide) {
        const auto a = sums_in(from);
        const auto b = wide_in(from_wide);
        const auto c = in(groups);
        const auto d = sums_in(into);
        const auto e = wide_in(into_wide);
        Status status;
        {
          const Unlocked unlocked;
          status = merge_rewards(a, b, c, d, e);
        }
        check(status, "sums");
      },
      arg("sums").noconvert(), arg("wide").noconvert(), arg("groups").noconvert(), arg("into").noconvert(),
      arg("into_wide").noconvert(), "Adds (g, 8) and (g, 13) sums to those of other groups.");
  module.def(
      "rft_reward_moments",
      [](const Typed<double>& sums, const Typed<std::int64_t>& wide, Typed<double>& mean, Typed<double>& m2) {
        const auto a = sums_in(sums);
        const auto b = wide_in(wide);
        const auto c = out(mean), d = out(m2);
        Status status;
        {
          const Unlocked unlocked;
          status = reward_moments(a, b, c, d);
        }
        check(status, "sums");
      },
      arg("sums").noconvert(), arg("wide").noconvert(), arg("mean").noconvert(), arg("m2").noconvert(),
      "Mean and sum of squared deviations of (g, 8) sums.");
  module.def("rft_json_fields", &json_fields_of, arg("text").noconvert(), arg("paths"), arg("fields").noconvert(),
             "Begin, end and kind of values into (n, paths, 3); returns the rows, and the place of a line that is no"
             " object or the length of the text.");
}

}  // namespace legato::python
