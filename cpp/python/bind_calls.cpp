// C functions for code that others compile: Numba's, SciPy's and Cython's look-ups read `__pyx_capi__`, a dictionary of
// capsules whose names are the signatures as Cython spells them. No symbol is exported, and nothing here touches Python
// while it runs. Compiled code that Numba has cached calls these names: one that changes its arguments takes another
// name, and the old one stays. `first_bad` may be null.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>

#include "binding.h"
#include "legato/camera.hpp"
#include "legato/diffusion.hpp"
#include "legato/rasp.hpp"
#include "legato/rft.hpp"

namespace legato::python {
namespace {

constexpr int kNoMemory = -1;  // beside the numbers of Status

template <class T>
std::span<T> numbers(T* data, std::size_t count) {
  return {data, data == nullptr ? 0 : count};
}

/// Where a call writes what nobody asked for.
std::size_t& or_nowhere(std::size_t* first_bad) {
  static thread_local std::size_t nowhere;
  return first_bad != nullptr ? *first_bad : nowhere;
}

int log_homography_f64(const double* homographies, std::size_t n, double* logs, int threads,
                       std::size_t* first_bad) noexcept {
  return static_cast<int>(
      camera::log_homography(numbers(homographies, 9 * n), numbers(logs, 9 * n), or_nowhere(first_bad), threads));
}

int exp_homography_f64(const double* logs, std::size_t n, double* homographies, int threads,
                       std::size_t* first_bad) noexcept {
  return static_cast<int>(
      camera::exp_homography(numbers(logs, 9 * n), numbers(homographies, 9 * n), or_nowhere(first_bad), threads));
}

int contain_f64(const double* corrections, std::size_t n, double aspect, double crop, double window_scale, double inset,
                double* contained, std::size_t* first_bad) noexcept {
  camera::PathOptions options;
  options.crop = crop;
  options.window_scale = window_scale;
  options.inset = inset;
  return static_cast<int>(
      camera::contain(numbers(corrections, 9 * n), aspect, options, numbers(contained, 9 * n), or_nowhere(first_bad)));
}

/// scipy.ndimage's coordinate function of a homography (output pixel to source pixel, x before y), its user data.
int coordinates(Py_ssize_t* output, double* source, int output_rank, int source_rank, void* homography) noexcept {
  if (output_rank != 2 || source_rank != 2 || homography == nullptr) return 0;
  const auto* h = static_cast<const double*>(homography);
  const auto y = static_cast<double>(output[0]), x = static_cast<double>(output[1]);
  const double w = h[6] * x + h[7] * y + h[8];
  source[1] = (h[0] * x + h[1] * y + h[2]) / w;
  source[0] = (h[3] * x + h[4] * y + h[5]) / w;
  return 1;
}

/// One seed for all samples where `seeds` is null.
diffusion::Noise noise_of(const std::uint64_t& seed, const std::uint64_t* seeds, std::size_t samples,
                          std::uint64_t first_sample, std::uint32_t step, std::uint32_t substep) {
  diffusion::Noise noise;
  noise.seeds = seeds == nullptr ? std::span<const std::uint64_t>(&seed, 1) : numbers(seeds, samples);
  noise.stride = seeds == nullptr ? 0 : 1;
  noise.first_stream = first_sample;
  noise.step = step;
  noise.substep = substep;
  return noise;
}

template <class Real>
int normal(std::uint64_t seed, const std::uint64_t* seeds, std::uint64_t first_sample, std::uint32_t step,
           std::uint32_t substep, std::size_t samples, std::size_t elements, Real* out, int threads) noexcept {
  const auto noise = noise_of(seed, seeds, samples, first_sample, step, substep);
  return static_cast<int>(diffusion::normal<Real>(noise, samples, elements, numbers(out, samples * elements), threads));
}

/// coefficients: [rows][4], a, cond, uncond, noise; rows is 1 or samples. uncond and given_noise may be null.
template <class Real>
int apply_step(std::size_t samples, std::size_t elements, const double* coefficients, std::size_t rows, const Real* x,
               const Real* cond, const Real* uncond, const Real* given_noise, std::uint64_t seed,
               const std::uint64_t* seeds, std::uint64_t first_sample, std::uint32_t step, std::uint32_t substep,
               Real* out, int threads) noexcept {
  static_assert(sizeof(diffusion::Coefficients) == 4 * sizeof(double));
  const std::size_t count = samples * elements;
  diffusion::Step<Real> work;
  work.samples = samples;
  work.elements = elements;
  work.coefficients = {reinterpret_cast<const diffusion::Coefficients*>(coefficients), rows};
  work.x = numbers(x, count);
  work.cond = numbers(cond, count);
  work.uncond = numbers(uncond, count);
  work.given_noise = numbers(given_noise, count);
  work.noise = noise_of(seed, seeds, samples, first_sample, step, substep);
  work.out = numbers(out, count);
  return static_cast<int>(diffusion::apply_step(work, threads));
}

/// mask and bootstrap may be null.
template <class Real>
int gae(const Real* rewards, const Real* values, const std::uint8_t* mask, const Real* bootstrap, std::size_t rows,
        std::size_t steps, double gamma, double lambda, Real* advantages, Real* returns) noexcept {
  const std::size_t count = rows * steps;
  return static_cast<int>(rft::gae(numbers(rewards, count), numbers(values, count), numbers(mask, count),
                                   numbers(bootstrap, rows), rows, gamma, lambda, numbers(advantages, count),
                                   numbers(returns, count)));
}

/// At most `most` groups; more are Status::workspace_too_small.
int group_advantages_f64(const double* rewards, const std::int64_t* groups, std::size_t n, std::size_t most, int scale,
                         int ddof, double eps, int raw_singletons, double* advantages,
                         std::size_t* first_bad) noexcept {
  const auto ids = numbers(groups, n);
  const std::size_t total = rft::group_count(ids);
  if (total > most) return static_cast<int>(Status::workspace_too_small);
  const std::unique_ptr<rft::GroupWork[]> work(new (std::nothrow) rft::GroupWork[total]);
  if (!work) return kNoMemory;
  const rft::AdvantageRule rule{static_cast<rft::GroupScale>(scale), ddof, eps, raw_singletons != 0};
  return static_cast<int>(rft::group_advantages(numbers(rewards, n), ids, rule, {work.get(), total},
                                                numbers(advantages, n), or_nowhere(first_bad)));
}

/// type: 0 float32, 1 bfloat16, 2 float16. mask may be null. stats: [6][rows]; without entropy the second and third row
/// are left alone.
int token_stats(const void* logits, int type, const std::int64_t* ids, const std::uint8_t* mask, std::size_t rows,
                std::size_t columns, double temperature, int entropy, float* stats, int threads,
                std::size_t* first_bad) noexcept {
  const std::size_t width = type == 0 ? sizeof(float) : sizeof(std::uint16_t);
  const rft::Logits matrix{numbers(static_cast<const std::byte*>(logits), rows * columns * width),
                           static_cast<rft::FloatType>(type), rows, columns};
  const auto row = [&](std::size_t i) { return numbers(stats + i * rows, rows); };
  rft::TokenStats result{row(0), row(1), row(2), row(3), row(4), row(5)};
  if (entropy == 0) result.entropy = result.sum_p2 = {};
  return static_cast<int>(rft::token_stats(matrix, numbers(ids, rows), temperature, numbers(mask, rows), result,
                                           or_nowhere(first_bad), threads));
}

/// One comparison; reductions and roundings to integers. lengths and value (of a width) may be null.
int aggregate_i64(const std::int64_t* key, const std::int64_t* query, int compare, int causal,
                  const std::int64_t* lengths, std::size_t rows, std::size_t n, const std::int64_t* value,
                  int reduction, int rounding, std::int64_t fallback, std::int64_t* out, int threads) noexcept {
  const std::size_t count = rows * n;
  const rasp::Shape shape{rows, n, numbers(lengths, rows), causal != 0};
  const auto chosen = static_cast<rasp::Compare>(compare);
  const rasp::Term term{numbers(key, count), numbers(query, count), chosen};
  const rasp::Aggregation aggregation{numbers(value, count), static_cast<rasp::Reduction>(reduction),
                                      static_cast<rasp::Rounding>(rounding), fallback};
  const std::size_t size = rasp::conjunction_workspace_size(shape, {&chosen, 1}, aggregation.reduction, threads);
  const std::unique_ptr<std::byte[]> workspace(size == 0 ? nullptr : new (std::nothrow) std::byte[size]);
  if (size > 0 && !workspace) return kNoMemory;
  rasp::Sink sink;
  sink.out = numbers(out, count);
  return static_cast<int>(
      rasp::aggregate_conjunction(shape, {&term, 1}, aggregation, {workspace.get(), size}, sink, threads));
}

struct Call {
  const char* name;
  const char* signature;
  void* address;
};

template <class Function>
void* at(Function* function) {
  return reinterpret_cast<void*>(function);
}

const Call kCalls[] = {
    {"legato_camera_log_homography_f64", "int (double const *, size_t, double *, int, size_t *)",
     at(&log_homography_f64)},
    {"legato_camera_exp_homography_f64", "int (double const *, size_t, double *, int, size_t *)",
     at(&exp_homography_f64)},
    {"legato_camera_contain_f64", "int (double const *, size_t, double, double, double, double, double *, size_t *)",
     at(&contain_f64)},
    {"legato_camera_coordinates", "int (npy_intp *, double *, int, int, void *)", at(&coordinates)},
    {"legato_diffusion_normal_f32",
     "int (uint64_t, uint64_t const *, uint64_t, uint32_t, uint32_t, size_t, size_t, float *, int)",
     at(&normal<float>)},
    {"legato_diffusion_normal_f64",
     "int (uint64_t, uint64_t const *, uint64_t, uint32_t, uint32_t, size_t, size_t, double *, int)",
     at(&normal<double>)},
    {"legato_diffusion_apply_step_f32",
     "int (size_t, size_t, double const *, size_t, float const *, float const *, float const *, float const *, "
     "uint64_t, uint64_t const *, uint64_t, uint32_t, uint32_t, float *, int)",
     at(&apply_step<float>)},
    {"legato_diffusion_apply_step_f64",
     "int (size_t, size_t, double const *, size_t, double const *, double const *, double const *, double const *, "
     "uint64_t, uint64_t const *, uint64_t, uint32_t, uint32_t, double *, int)",
     at(&apply_step<double>)},
    {"legato_rft_gae_f32",
     "int (float const *, float const *, uint8_t const *, float const *, size_t, size_t, double, double, float *, "
     "float *)",
     at(&gae<float>)},
    {"legato_rft_gae_f64",
     "int (double const *, double const *, uint8_t const *, double const *, size_t, size_t, double, double, double *, "
     "double *)",
     at(&gae<double>)},
    {"legato_rft_group_advantages_f64",
     "int (double const *, int64_t const *, size_t, size_t, int, int, double, int, double *, size_t *)",
     at(&group_advantages_f64)},
    {"legato_rft_token_stats",
     "int (void const *, int, int64_t const *, uint8_t const *, size_t, size_t, double, int, float *, int, size_t *)",
     at(&token_stats)},
    {"legato_rasp_aggregate_i64",
     "int (int64_t const *, int64_t const *, int, int, int64_t const *, size_t, size_t, int64_t const *, int, int, "
     "int64_t, int64_t *, int)",
     at(&aggregate_i64)},
};

/// A copy of a homography that lives as long as the capsule: user data of `coordinates`.
py::capsule homography_capsule(const Array& homography) {
  require(homography.size() == 9, "homography");
  auto memory = std::make_unique<double[]>(9);
  std::copy_n(homography.data(), 9, memory.get());
  py::capsule capsule(memory.get(), [](void* data) { delete[] static_cast<double*>(data); });
  memory.release();
  return capsule;
}

}  // namespace

void bind_calls(py::module_& module) {
  py::dict calls;
  for (const Call& call : kCalls) calls[call.name] = py::capsule(call.address, call.signature);
  module.attr("__pyx_capi__") = calls;
  module.def("camera_homography_capsule", &homography_capsule, py::arg("homography").noconvert(),
             "A copy of nine numbers as a capsule that owns them.");
}

}  // namespace legato::python
