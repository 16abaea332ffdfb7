#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "allocations.h"
#include "legato/diffusion.hpp"

using namespace legato;
using namespace legato::diffusion;

namespace {

const std::uint64_t kSeed[1] = {12345};

Noise shared(std::uint32_t step, Generator generator = Generator::threefry) {
  return {.seeds = kSeed, .step = step, .generator = generator};
}

struct TwoModes {
  double log_weights[2] = {std::log(0.3), std::log(0.7)}, means[4] = {-1, 0, 2, 1}, variances[2] = {0.2, 0.1};
  Mixture mixture{.components = 2,
                  .dimension = 2,
                  .isotropic = true,
                  .log_weights = log_weights,
                  .means = means,
                  .variances = variances};
};

}  // namespace

TEST_CASE("known answers of Threefry4x32-20 and Philox4x32-10") {
  const std::vector<std::uint32_t> counter = {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344};
  const std::vector<std::uint32_t> key = {0xa4093822, 0x299f31d0, 0x082efa98, 0xec4e6c89};
  std::vector<std::uint32_t> out(4);
  REQUIRE(threefry4x32(counter, key, 20, out) == Status::ok);
  CHECK(out == std::vector<std::uint32_t>{0x59cd1dbb, 0xb8879579, 0x86b5d00c, 0xac8b6d84});
  REQUIRE(philox4x32(std::vector<std::uint32_t>(4), std::vector<std::uint32_t>(2), out) == Status::ok);
  CHECK(out == std::vector<std::uint32_t>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(threefry4x32(counter, key, 11, out) == Status::invalid_argument);
  CHECK(philox4x32(counter, key, out) == Status::invalid_argument);
}

TEST_CASE("a number of the noise is a function of its address alone") {
  for (const Generator generator : {Generator::threefry, Generator::philox}) {
    std::vector<float> all(40 * 1500), part(1500);
    REQUIRE(normal<float>(shared(3, generator), 40, 1500, all, 3) == Status::ok);
    CHECK(std::strcmp(isa_name(last_isa()), isa_name(active_isa())) == 0);
    Noise one = shared(3, generator);
    one.first_stream = 17;
    REQUIRE(normal<float>(one, 1, 1500, part) == Status::ok);
    CHECK(std::memcmp(part.data(), all.data() + 17 * 1500, 1500 * sizeof(float)) == 0);
    std::vector<float> few(40 * 7);  // small samples go sixteen at a time
    REQUIRE(normal<float>(shared(3, generator), 40, 7, few) == Status::ok);
    for (std::size_t i = 0; i < 40; ++i) CHECK(std::memcmp(&few[7 * i], &all[1500 * i], 7 * sizeof(float)) == 0);
  }
}

TEST_CASE("the first normals of seed 12345, on every instruction set") {
  std::vector<float> z(8);
  REQUIRE(normal<float>(shared(0), 1, 8, z) == Status::ok);
  const float expected[8] = {0x1.80c20cp+0f,  0x1.8e8a82p-1f,  -0x1.fb9282p-1f, -0x1.75e926p-1f,
                             -0x1.5964f0p-2f, -0x1.b3ae68p-2f, 0x1.600aeap-1f,  0x1.ad299ep-1f};
  for (int i = 0; i < 8; ++i) CHECK(z[i] == expected[i]);
}

TEST_CASE("run calls allocate nothing") {
  std::vector<float> x(64 * 300, 1.0f), e(64 * 300, 0.5f);
  const Coefficients by{0.9, 0.3, -0.1, 0.2};
  Step<float> step;
  step.samples = 64;
  step.elements = 300;
  step.coefficients = {&by, 1};
  step.x = x;
  step.cond = step.uncond = e;
  step.noise = shared(1);
  step.out = x;
  std::vector<double> sums(64 * kSums);
  const TwoModes modes;
  const Model<float> model{.mixture = &modes.mixture};
  const Row rows[2] = {{.alpha = 1, .sigma = 2, .a = 0.5, .b = 0.5, .noise = 0.1},
                       {.alpha = 1, .sigma = 1, .a = 0.5, .b = 0.5}};
  std::vector<std::byte> memory(chains_workspace_size(2, 2, 1));
  std::vector<float> states(100 * 2, 0.5f), out(100 * 2), density(100);
  const long before = allocation_count();
  CHECK(apply_step(step) == Status::ok);
  CHECK(normal<float>(shared(2), 64, 300, x) == Status::ok);
  CHECK(guidance_sums<float>(64, 300, x, e, {}, sums) == Status::ok);
  CHECK(run_chains<float>(model, model, rows, shared(0), 100, states, memory) == Status::ok);
  CHECK(evaluate<float>(model, 1, 0.5, Output::score, 100, states, out, density, memory) == Status::ok);
  CHECK(allocation_count() == before);
}

TEST_CASE("the mean of a cloud as its definition says, and each query for itself") {
  constexpr std::size_t n = 150, queries = 70;
  for (const std::size_t d : {1, 3, 20, 64, 130}) {
    std::vector<float> data(n * d), x(queries * d), got(x.size()), alone(d);
    std::vector<float> packed(packed_points_size(n, d)), log_weights(n);
    REQUIRE(normal<float>(shared(1), n, d, data) == Status::ok);
    REQUIRE(normal<float>(shared(2), queries, d, x) == Status::ok);
    REQUIRE(normal<float>(shared(3), 1, n, log_weights) == Status::ok);
    REQUIRE(pack_points<float>(n, d, data, packed) == Status::ok);
    CHECK(pack_points<float>(n, d, data, std::span(packed).first(3)) == Status::invalid_argument);
    const PointCloud<float> cloud{.points = n, .dimension = d, .packed = packed, .log_weights = log_weights};
    const Model<float> model{.cloud = &cloud};
    std::vector<std::byte> memory(evaluate_workspace_size(0, d, 1));
    for (const double sigma : {0.01, 0.3, 1.0, 30.0}) {
      const long before = allocation_count();
      REQUIRE(evaluate<float>(model, 0.9, sigma, Output::denoised, queries, x, got, {}, memory) == Status::ok);
      CHECK(allocation_count() == before);
      for (std::size_t q = 0; q < queries; ++q) {
        std::vector<double> logits(n), mean(d);
        for (std::size_t i = 0; i < n; ++i) {
          double square = 0;
          for (std::size_t j = 0; j < d; ++j) square += std::pow(x[q * d + j] - 0.9 * data[i * d + j], 2);
          logits[i] = log_weights[i] - 0.5 * square / (sigma * sigma);
        }
        const double most = *std::max_element(logits.begin(), logits.end());
        double total = 0;
        for (std::size_t i = 0; i < n; ++i) {
          const double weight = std::exp(logits[i] - most);
          total += weight;
          for (std::size_t j = 0; j < d; ++j) mean[j] += weight * data[i * d + j];
        }
        for (std::size_t j = 0; j < d; ++j) CHECK(std::abs(got[q * d + j] - mean[j] / total) < 1e-4);
      }
      REQUIRE(evaluate<float>(model, 0.9, sigma, Output::denoised, 1, std::span(x).subspan(33 * d, d), alone, {},
                              memory) == Status::ok);
      CHECK(std::memcmp(alone.data(), got.data() + 33 * d, d * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("bad input is refused, not run") {
  std::vector<float> x(8);
  CHECK(normal<float>(shared(0), 2, 5, x) == Status::invalid_argument);
  CHECK(normal<float>(Noise{}, 2, 4, x) == Status::invalid_argument);
  Noise many = shared(0, Generator::philox);
  many.first_stream = std::uint64_t{1} << 32;
  CHECK(normal<float>(many, 2, 4, x) == Status::invalid_argument);
  TwoModes modes;
  const Model<float> model{.mixture = &modes.mixture};
  std::vector<std::byte> memory(chains_workspace_size(2, 2, 1));
  const Row row{.noise = 1};
  CHECK(run_chains<float>(model, model, {&row, 1}, Noise{}, 4, x, memory) == Status::invalid_argument);
  CHECK(run_chains<float>(model, model, {&row, 1}, shared(0), 4, x, std::span(memory).first(64)) ==
        Status::workspace_too_small);
  modes.variances[0] = 0;
  CHECK(run_chains<float>(model, model, {&row, 1}, shared(0), 4, x, memory) == Status::invalid_argument);
  const Row at_zero{.sigma = 0, .output = Output::score};
  const std::vector<float> packed(packed_points_size(2, 2));
  PointCloud<float> cloud{.points = 2, .dimension = 2, .packed = packed};
  const Model<float> points{.cloud = &cloud};
  CHECK(run_chains<float>(points, points, {&at_zero, 1}, shared(0), 4, x, memory) == Status::singular);
  cloud.packed = cloud.packed.first(100);
  const Row plain{.sigma = 1};
  CHECK(run_chains<float>(points, points, {&plain, 1}, shared(0), 4, x, memory) == Status::invalid_argument);
  cloud.packed = packed;
  cloud.log_weights = std::span(x).first(1);
  CHECK(run_chains<float>(points, points, {&plain, 1}, shared(0), 4, x, memory) == Status::invalid_argument);
}

TEST_CASE("spans of another size are refused, and sizes do not wrap") {
  std::vector<float> x(12, 1.0f), e(12, 0.5f), out(12);
  const Coefficients by{0.9, 0.3, -0.1, 0.2};
  Step<float> whole;
  whole.samples = 3;
  whole.elements = 4;
  whole.coefficients = {&by, 1};
  whole.x = x;
  whole.cond = whole.uncond = whole.given_noise = e;
  whole.noise = shared(1);
  whole.out = out;
  CHECK(apply_step(whole) == Status::ok);
  for (const auto field : {&Step<float>::x, &Step<float>::cond, &Step<float>::uncond, &Step<float>::given_noise}) {
    Step<float> step = whole;
    step.*field = std::span(x).first(11);
    CHECK(apply_step(step) == Status::invalid_argument);
  }
  whole.out = std::span(out).first(11);
  CHECK(apply_step(whole) == Status::invalid_argument);
  whole.out = out;
  whole.given_noise = {};
  whole.noise.seeds = {};
  CHECK(apply_step(whole) == Status::invalid_argument);
  whole.noise = {.seeds = kSeed, .stride = 1};  // one for three samples
  CHECK(apply_step(whole) == Status::invalid_argument);

  std::vector<double> sums(3 * kSums);
  const std::span<const float> all(x), part = all.first(11);
  CHECK(guidance_sums<float>(3, 4, all, all, all, sums) == Status::ok);
  CHECK(guidance_sums<float>(3, 4, part, all, all, sums) == Status::invalid_argument);
  CHECK(guidance_sums<float>(3, 4, all, part, {}, sums) == Status::invalid_argument);
  CHECK(guidance_sums<float>(3, 4, all, all, part, sums) == Status::invalid_argument);
  CHECK(guidance_sums<float>(3, 4, all, all, {}, std::span(sums).first(23)) == Status::invalid_argument);

  TwoModes modes;
  const Model<float> model{.mixture = &modes.mixture};
  std::vector<std::byte> memory(evaluate_workspace_size(2, 2, 1));
  const Row row{};
  const auto run = [&] { return run_chains<float>(model, model, {&row, 1}, {}, 6, x, memory); };
  const auto ask = [&](std::span<const float> at, std::span<float> to, std::span<float> density) {
    return evaluate<float>(model, 1, 1, Output::denoised, 6, at, to, density, memory);
  };
  CHECK(run() == Status::ok);
  CHECK(run_chains<float>(model, model, {&row, 1}, {}, 7, x, memory) == Status::invalid_argument);
  CHECK(ask(x, out, {}) == Status::ok);
  CHECK(ask(part, out, {}) == Status::invalid_argument);
  CHECK(ask(x, std::span(out).first(11), {}) == Status::invalid_argument);
  CHECK(ask(x, out, std::span(e).first(5)) == Status::invalid_argument);
  for (const auto field : {&Mixture::log_weights, &Mixture::means, &Mixture::variances}) {
    const auto kept = modes.mixture.*field;
    modes.mixture.*field = kept.first(kept.size() - 1);
    CHECK(run() == Status::invalid_argument);
    modes.mixture.*field = kept;
  }

  const std::size_t half = std::size_t{1} << (4 * sizeof(std::size_t));  // half * half is 0 where it wraps
  CHECK(normal<float>(shared(0), half, half, {}) == Status::invalid_argument);
  CHECK(guidance_sums<float>(half / kSums, half * kSums, {}, {}, {}, {}) == Status::invalid_argument);
  CHECK(apply_step(Step<float>{.samples = half, .elements = half, .coefficients = {&by, 1}}) ==
        Status::invalid_argument);
  CHECK(chains_workspace_size(half, half, 1) == 0);
  CHECK(chains_workspace_size(1, Size::kMost, 64) == 0);
  CHECK(packed_points_size(half, half) == 0);
  CHECK(packed_points_size(1, Size::kMost / 2) == 0);
  CHECK(pack_points<float>(half, half, {}, {}) == Status::invalid_argument);
  CHECK(apply_step(Step<float>{.samples = Size::kMost / 8, .elements = 0, .coefficients = {&by, 1}}) == Status::ok);
}
