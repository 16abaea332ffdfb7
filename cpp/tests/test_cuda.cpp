// The kernels for GPUs, run on the CPU: the same bits as the core's.
#include <doctest/doctest.h>

#include <cstring>
#include <type_traits>
#include <vector>

#include "cuda_on_cpu.h"
// After its stand-ins for CUDA's keywords.
#include "../cuda/diffusion.cuh"
#include "legato/diffusion.hpp"

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
