// The kernels for GPUs, run on the CPU: the same bits as the core's.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "cuda_on_cpu.h"
// After its stand-ins for CUDA's keywords.
#include "../cuda/camera.cuh"
#include "../cuda/diffusion.cuh"
#include "../cuda/rft.cuh"
#include "legato/camera.hpp"
#include "legato/core.hpp"
#include "legato/diffusion.hpp"
#include "legato/rft.hpp"

using namespace legato;

namespace {

template <class Storage>
struct OnGpu {
  using type = Storage;
};
template <>
struct OnGpu<diffusion::Half> {
  using type = cuda::Half;
};
template <>
struct OnGpu<diffusion::BFloat16> {
  using type = cuda::BFloat16;
};
template <class Storage>
auto on_gpu(const Storage* data) {
  return reinterpret_cast<const typename OnGpu<Storage>::type*>(data);
}
template <class Storage>
auto on_gpu(Storage* data) {
  return reinterpret_cast<typename OnGpu<Storage>::type*>(data);
}

template <class Storage>
auto normal_kernel() {
  if constexpr (std::is_same_v<Storage, float>) return legato_diffusion_normal_float32;
  if constexpr (std::is_same_v<Storage, double>) return legato_diffusion_normal_float64;
  if constexpr (std::is_same_v<Storage, diffusion::Half>) return legato_diffusion_normal_float16;
  if constexpr (std::is_same_v<Storage, diffusion::BFloat16>) return legato_diffusion_normal_bfloat16;
}
template <class Storage>
auto step_kernel() {
  if constexpr (std::is_same_v<Storage, float>) return legato_diffusion_step_float32;
  if constexpr (std::is_same_v<Storage, double>) return legato_diffusion_step_float64;
  if constexpr (std::is_same_v<Storage, diffusion::Half>) return legato_diffusion_step_float16;
  if constexpr (std::is_same_v<Storage, diffusion::BFloat16>) return legato_diffusion_step_bfloat16;
}

template <class Storage>
bool same(const std::vector<Storage>& a, const std::vector<Storage>& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(Storage)) == 0;
}

}  // namespace

TEST_CASE_TEMPLATE("noise of the GPU kernel", Storage, float, double, diffusion::Half, diffusion::BFloat16) {
  const std::vector<std::uint64_t> seeds = {3, ~0ull, 1ull << 40, 12345, 0};
  for (const auto generator : {diffusion::Generator::threefry, diffusion::Generator::philox}) {
    for (const std::size_t elements : {1u, 6u, 64u, 2051u}) {
      for (const bool shared : {true, false}) {
        const std::uint64_t first = shared ? 7 : 0;
        const diffusion::Noise noise{.seeds = std::span(seeds).first(shared ? 1 : seeds.size()),
                                     .stride = shared ? 0u : 1u,
                                     .first_stream = first,
                                     .step = 4,
                                     .substep = 2,
                                     .generator = generator};
        std::vector<Storage> expected(5 * elements), got(5 * elements);
        REQUIRE(diffusion::normal<Storage>(noise, 5, elements, expected) == Status::ok);
        static_assert(sizeof(cuda::Size) == sizeof(std::uint64_t));
        launch_on_cpu(3, 8, normal_kernel<Storage>(), 5, elements, seeds[0],
                      shared ? nullptr : reinterpret_cast<const cuda::Size*>(seeds.data()), first, 4, 2,
                      generator == diffusion::Generator::philox, on_gpu(got.data()));
        CHECK(same(got, expected));
      }
    }
  }
}

TEST_CASE_TEMPLATE("step of the GPU kernel", Storage, float, double, diffusion::Half, diffusion::BFloat16) {
  constexpr std::size_t samples = 3;
  const std::uint64_t seed[1] = {99};
  const std::vector<diffusion::Coefficients> rows = {{0.9, 2.5, -1.5, 0.3}, {1.1, 1.0, 0.0, 0.0}, {0.5, -0.25, 3, 1}};
  for (const std::size_t elements : {5u, 64u, 777u}) {
    const auto some = [&](std::uint32_t step) {
      std::vector<Storage> out(samples * elements);
      REQUIRE(diffusion::normal<Storage>({.seeds = seed, .step = step}, samples, elements, out) == Status::ok);
      return out;
    };
    const auto x = some(1), cond = some(2), uncond = some(3), given = some(4);
    for (const bool a_row_each : {false, true}) {
      for (const bool guided : {false, true}) {
        for (const bool own_noise : {false, true}) {
          std::vector<Storage> expected(samples * elements), got = x;
          diffusion::Step<Storage> step;
          step.samples = samples;
          step.elements = elements;
          step.coefficients = std::span(rows).first(a_row_each ? samples : 1);
          step.x = x;
          step.cond = cond;
          if (guided) step.uncond = uncond;
          if (own_noise) step.given_noise = given;
          step.noise = {.seeds = seed, .step = 8};
          step.out = expected;
          REQUIRE(diffusion::apply_step(step) == Status::ok);
          const auto& by = rows[0];
          launch_on_cpu(2, 16, step_kernel<Storage>(), samples, elements, by.a, by.cond, by.uncond, by.noise,
                        a_row_each ? &rows[0].a : nullptr, on_gpu(got.data()), on_gpu(cond.data()),
                        on_gpu(step.uncond.data()), on_gpu(step.given_noise.data()), seed[0], nullptr, 0, 8, 0, 0,
                        on_gpu(got.data()));
          CHECK(same(got, expected));
        }
      }
    }
  }
}

namespace {

const double kNan = std::nan("");
const float kInfinite = std::numeric_limits<float>::infinity();

/// Rows of logits as they are stored: ordinary, all minus infinity, with NaN, with plus infinity, begun by minus
/// infinity, rising so that the reference moves.
template <class Storage>
std::vector<Storage> some_logits(std::size_t rows, std::size_t columns) {
  std::mt19937 generator(static_cast<unsigned>(columns));
  std::normal_distribution<float> normal(0, 3);
  std::vector<Storage> out(rows * columns);
  for (std::size_t n = 0; n < rows; ++n) {
    for (std::size_t i = 0; i < columns; ++i) {
      float z = normal(generator);
      if (n == 1) z = -kInfinite;
      if (n == 2 && i == columns / 2) z = static_cast<float>(kNan);
      if (n == 3 && i == columns - 1) z = kInfinite;
      if (n == 4 && i < columns * 3 / 4) z = -kInfinite;
      if (n == 5) z += 20.0f * static_cast<float>(i / 2048);
      cuda::store(out[n * columns + i], z);
    }
  }
  return out;
}

template <class Storage>
rft::Logits as_core(const std::vector<Storage>& logits, std::size_t rows) {
  rft::Logits out;
  out.rows = rows;
  out.columns = logits.size() / rows;
  out.type = sizeof(Storage) == 4                      ? rft::FloatType::f32
             : std::is_same_v<Storage, cuda::BFloat16> ? rft::FloatType::bf16
                                                       : rft::FloatType::f16;
  out.data = std::as_bytes(std::span(logits));
  return out;
}

template <class Storage>
auto stats_kernels() {
  if constexpr (std::is_same_v<Storage, float>) {
    return std::pair(&legato_rft_token_stats_float32, &legato_rft_token_stats_backward_float32);
  } else if constexpr (std::is_same_v<Storage, cuda::Half>) {
    return std::pair(&legato_rft_token_stats_float16, &legato_rft_token_stats_backward_float16);
  } else {
    return std::pair(&legato_rft_token_stats_bfloat16, &legato_rft_token_stats_backward_bfloat16);
  }
}

/// Bit for bit, NaN of any kind alike; of copies without fused products within `tolerance`.
bool agree(const std::vector<float>& a, const std::vector<float>& b, float tolerance) {
  for (std::size_t i = 0; i < a.size(); ++i) {
    const bool exact = a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]));
    if (!exact && !(active_isa() == Isa::baseline && std::abs(a[i] - b[i]) <= tolerance * (1 + std::abs(b[i])))) {
      return false;
    }
  }
  return true;
}

template <class Storage>
std::vector<float> as_floats(const std::vector<Storage>& x) {
  std::vector<float> out(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) out[i] = cuda::widened(x[i]);
  return out;
}

}  // namespace

TEST_CASE_TEMPLATE("token statistics of the GPU kernel", Storage, float, cuda::Half, cuda::BFloat16) {
  constexpr std::size_t rows = 7;
  const std::vector<std::uint8_t> keep = {1, 1, 1, 1, 1, 1, 0};
  for (const std::size_t columns : {1u, 31u, 33u, 2047u, 2049u, 10241u}) {
    const auto logits = some_logits<Storage>(rows, columns);
    std::vector<long long> ids(rows);
    for (std::size_t n = 0; n < rows; ++n) ids[n] = static_cast<long long>(columns * n / rows);
    const std::vector<std::int64_t> tokens(ids.begin(), ids.end());
    for (const double temperature : {1.0, 0.7}) {
      for (const bool entropy : {true, false}) {
        std::vector<float> expected(6 * rows), got(6 * rows);
        const auto column = [&](std::size_t i) { return std::span(expected).subspan(i * rows, rows); };
        rft::TokenStats out{.logp = column(0), .lse = column(3), .largest = column(4), .log_sum = column(5)};
        if (entropy) out.entropy = column(1), out.sum_p2 = column(2);
        std::size_t bad = 0;
        REQUIRE(rft::token_stats(as_core(logits, rows), tokens, temperature, keep, out, bad) == Status::ok);
        launch_together_on_cpu(2, 64, stats_kernels<Storage>().first, rows, columns, logits.data(), ids.data(),
                               temperature, keep.data(), entropy, got.data());
        CAPTURE(columns);
        CHECK(agree(got, expected, 5e-5f));
        if (!entropy || std::isnan(expected[0])) continue;

        std::vector<float> stats(expected.begin() + static_cast<std::ptrdiff_t>(rows), expected.end());
        std::copy_n(expected.begin() + 4 * rows, 2 * rows, stats.begin() + rows);
        const std::vector<float> grad_logp = {1, 2, 3, -4, 5, -0.5, 7}, grad_entropy = {0.5, 0, -1, 2, 3, -0.25, 1};
        for (const bool both : {true, false}) {
          std::vector<Storage> wanted(logits.size()), gradient = logits;
          const rft::GivenStats given{.entropy = std::span(stats).first(rows),
                                      .largest = std::span(stats).subspan(rows, rows),
                                      .log_sum = std::span(stats).subspan(2 * rows, rows)};
          REQUIRE(rft::token_stats_backward(as_core(logits, rows), tokens, temperature, keep, given, grad_logp,
                                            both ? std::span<const float>(grad_entropy) : std::span<const float>(),
                                            std::as_writable_bytes(std::span(wanted)), bad) == Status::ok);
          launch_on_cpu(3, 8, stats_kernels<Storage>().second, rows, columns, gradient.data(), ids.data(), temperature,
                        keep.data(), stats.data(), grad_logp.data(), both ? grad_entropy.data() : nullptr,
                        gradient.data());
          CHECK(agree(as_floats(gradient), as_floats(wanted), 1e-2f));
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("GAE of the GPU kernel", Real, float, double) {
  std::mt19937 generator(3);
  std::normal_distribution<Real> normal;
  for (const std::size_t rows : {1u, 33u, 70u}) {
    for (const std::size_t columns : {1u, 32u, 77u}) {
      std::vector<Real> rewards(rows * columns), values(rewards.size()), bootstrap(rows);
      std::vector<std::uint8_t> mask(rewards.size());
      for (auto* some : {&rewards, &values, &bootstrap}) {
        for (Real& x : *some) x = normal(generator);
      }
      for (auto& kept : mask) kept = generator() % 4 != 0;
      for (const bool all : {true, false}) {
        std::vector<Real> expected[2], got[2];
        for (auto* some : {&expected[0], &expected[1], &got[0], &got[1]}) some->resize(rewards.size());
        REQUIRE(rft::gae(rewards, values, all ? std::span<const std::uint8_t>() : mask,
                         all ? std::span<const Real>() : std::span<const Real>(bootstrap), rows, 0.99, 0.9, expected[0],
                         expected[1]) == Status::ok);
        const auto kernel = [] {
          if constexpr (sizeof(Real) == 4) return legato_rft_gae_float32;
          if constexpr (sizeof(Real) == 8) return legato_rft_gae_float64;
        }();
        launch_together_on_cpu(2, 32, kernel, rows, columns, rewards.data(), values.data(), all ? nullptr : mask.data(),
                               all ? nullptr : bootstrap.data(), 0.99, 0.99 * 0.9, got[0].data(), got[1].data());
        CHECK(same(got[0], expected[0]));
        CHECK(same(got[1], expected[1]));
      }
    }
  }
}

TEST_CASE("groups of the GPU kernels") {
  std::mt19937 generator(4);
  constexpr std::size_t n = 700, groups = 60;
  std::vector<double> rewards(n);
  std::vector<std::int64_t> group(n);
  for (std::size_t i = 0; i < n; ++i) {
    group[i] = generator() % (groups - 1);  // the last one stays empty
    if (group[i] == 5) group[i] = i == 0 ? 5 : 6;
    rewards[i] = group[i] == 7 ? 0.1 : 1e6 + std::normal_distribution<>()(generator);
  }
  std::vector<long long> order(n), start(groups + 1);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](long long a, long long b) {
    return group[static_cast<std::size_t>(a)] < group[static_cast<std::size_t>(b)];
  });
  for (const std::int64_t g : group) ++start[static_cast<std::size_t>(g) + 1];
  std::partial_sum(start.begin(), start.end(), start.begin());

  std::size_t bad = 0;
  std::vector<std::int64_t> count(groups);
  std::vector<long long> counted(groups);
  std::vector<double> expected[4], got[4];
  for (int i = 0; i < 4; ++i) expected[i].resize(groups), got[i].resize(groups);
  REQUIRE(rft::group_moments(rewards, group, count, expected[0], expected[1], expected[2], expected[3], bad) ==
          Status::ok);
  launch_on_cpu(3, 8, legato_rft_group_moments, groups, rewards.data(), order.data(), start.data(), counted.data(),
                got[0].data(), got[1].data(), got[2].data(), got[3].data());
  CHECK(std::equal(count.begin(), count.end(), counted.begin()));
  for (int i = 0; i < 4; ++i) CHECK(same(got[i], expected[i]));

  for (int scale = 0; scale < 5; ++scale) {
    const rft::AdvantageRule rule{.scale = static_cast<rft::GroupScale>(scale), .ddof = scale % 2, .eps = 1e-4};
    std::vector<rft::GroupWork> work(groups);
    std::vector<double> wanted(n), advantages(n), spread(2, 1.0);
    REQUIRE(rft::group_advantages(rewards, group, rule, work, wanted, bad) == Status::ok);
    launch_on_cpu(3, 8, legato_rft_group_advantages, groups, rewards.data(), order.data(), start.data(), scale,
                  rule.ddof, rule.eps, advantages.data());
    if (scale >= cuda::all_centered) {
      launch_together_on_cpu(1, 64, legato_rft_spread_of_all, n,
                             scale == cuda::all_rewards ? rewards.data() : advantages.data(), scale, rule.ddof,
                             rule.eps, spread.data());
    }
    for (double& x : advantages) x /= spread[0];
    CHECK(same(advantages, wanted));
  }
}

TEST_CASE("homographies of the GPU kernels") {
  std::mt19937 generator(5);
  std::normal_distribution<> normal(0, 0.2);
  for (const std::size_t n : {1u, 64u, 150u}) {
    std::vector<double> matrices(9 * n), logs(9 * n), got(9 * n), back(9 * n), got_back(9 * n);
    for (std::size_t i = 0; i < matrices.size(); ++i) matrices[i] = (i % 9 % 4 == 0 ? 1.0 : 0.0) + normal(generator);
    if (n > 10) {
      matrices[9] = kNan;
      for (int i = 0; i < 9; ++i) matrices[18 + i] = i;                                  // singular
      for (int i = 0; i < 9; ++i) matrices[27 + i] = i % 4 == 0 ? (i < 8 ? -1 : 1) : 0;  // half a turn
    }
    std::vector<std::uint8_t> defects(n);
    std::size_t bad = 0;
    CHECK(camera::log_homography(matrices, logs, bad) == (n > 10 ? Status::not_finite : Status::ok));
    launch_together_on_cpu(2, 64, legato_camera_log_homography, n, matrices.data(), got.data(), defects.data());
    for (std::size_t i = 0; i < got.size(); ++i) {
      CHECK((got[i] == logs[i] || (std::isnan(got[i]) && std::isnan(logs[i]))));
    }
    if (n > 10) CHECK(std::vector<int>(defects.begin() + 1, defects.begin() + 4) == std::vector<int>{1, 1, 2});
    CHECK(std::count(defects.begin(), defects.end(), 0) == static_cast<int>(n > 10 ? n - 3 : n));

    if (n > 10) logs[45] = 501;
    CHECK(camera::exp_homography(logs, back, bad) == (n > 10 ? Status::not_finite : Status::ok));
    launch_together_on_cpu(2, 64, legato_camera_exp_homography, n, logs.data(), got_back.data(), defects.data());
    for (std::size_t i = 0; i < got.size(); ++i) {
      CHECK((got_back[i] == back[i] || (std::isnan(got_back[i]) && std::isnan(back[i]))));
    }
    CHECK(std::count(defects.begin(), defects.end(), 1) == (n > 10 ? 4 : 0));
  }
}
