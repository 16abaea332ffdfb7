#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "core/core.h"
#include "legato/diffusion.hpp"

#define LEGATO_REGION_FILE "diffusion/chains-inl.h"
#include "core/isa_region.h"

namespace legato::diffusion {
namespace {

std::size_t workers_of(int threads) { return std::min(static_cast<std::size_t>(std::max(threads, 1)), kMaxThreads); }

bool sound(const Mixture& mixture) {
  const Size components = mixture.components, all = components * mixture.dimension;
  if (mixture.components == 0 || mixture.dimension == 0) return false;
  if (!components.is(mixture.log_weights.size()) || !all.is(mixture.means.size())) return false;
  if (!(mixture.isotropic ? components : all).is(mixture.variances.size())) return false;
  const bool turned = !mixture.rotations.empty();
  if (turned && (mixture.isotropic || !(all * mixture.dimension).is(mixture.rotations.size()))) return false;
  return std::ranges::all_of(mixture.variances, [](double v) { return v > 0 && std::isfinite(v); });
}

template <class Real>
bool sound(const Model<Real>& model) {
  if (model.mixture != nullptr) return model.cloud == nullptr && sound(*model.mixture);
  if (model.cloud == nullptr) return false;
  const PointCloud<Real>& cloud = *model.cloud;
  return cloud.points > 0 && cloud.dimension > 0 &&
         baseline::packed_cloud_size(cloud.points, cloud.dimension).is(cloud.packed.size()) &&
         (cloud.log_weights.empty() || cloud.log_weights.size() == cloud.points);
}

template <class Real>
std::size_t dimension_of(const Model<Real>& model) {
  return model.mixture != nullptr ? model.mixture->dimension : model.cloud->dimension;
}

template <class Real>
std::size_t components_of(const Model<Real>& model) {
  return model.mixture != nullptr ? model.mixture->components : 0;
}

/// About how long one evaluation of one sample takes, in nanoseconds.
template <class Real>
double evaluation_ns(const Model<Real>& model) {
  constexpr double wide = sizeof(Real) / 4.0;
  const double d = static_cast<double>(dimension_of(model));
  if (model.cloud != nullptr) return 0.03 * wide * static_cast<double>(model.cloud->points) * std::max(d, 16.0);
  const double entries = d * static_cast<double>(model.mixture->components);
  return wide * (1.5 + 0.15 * (model.mixture->rotations.empty() ? entries : entries * d));
}

/// A worker's share of the memory.
std::span<std::byte> share_of(std::span<std::byte> workspace, std::size_t worker, std::size_t workers) {
  const std::size_t each = workspace.size() / workers;
  return workspace.subspan(worker * each, each);
}

}  // namespace

std::size_t chains_workspace_size(std::size_t components, std::size_t dimension, int threads) noexcept {
  return (workers_of(threads) * Size{LEGATO_DISPATCH(worker_size, components, dimension)}).or_zero();
}

std::size_t evaluate_workspace_size(std::size_t components, std::size_t dimension, int threads) noexcept {
  return chains_workspace_size(components, dimension, threads);
}

std::size_t packed_points_size(std::size_t points, std::size_t dimension) noexcept {
  return baseline::packed_cloud_size(points, dimension).or_zero();
}

template <class Real>
Status pack_points(std::size_t points, std::size_t dimension, std::span<const Real> data,
                   std::span<Real> packed) noexcept {
  if (points == 0 || dimension == 0 || !(Size{points} * dimension).is(data.size())) return Status::invalid_argument;
  if (!baseline::packed_cloud_size(points, dimension).is(packed.size())) return Status::invalid_argument;
  baseline::pack_cloud(points, dimension, data.data(), packed.data());
  return outcome();
}

template <class Real>
Status evaluate(const Model<Real>& model, double alpha, double sigma, Output output, std::size_t samples,
                std::span<const Real> x, std::span<Real> out, std::span<Real> log_density,
                std::span<std::byte> workspace, int threads) noexcept {
  if (!sound(model) || !std::isfinite(alpha) || !std::isfinite(sigma) || sigma < 0) return Status::invalid_argument;
  const Size all = Size{samples} * dimension_of(model);
  if (!all.is(x.size()) || !all.is(out.size())) return Status::invalid_argument;
  if (!log_density.empty() && (log_density.size() != samples || model.mixture == nullptr)) {
    return Status::invalid_argument;
  }
  if (model.cloud != nullptr && output == Output::score && sigma == 0) return Status::singular;
  if (samples == 0) return Status::ok;
  if (!is_enough(workspace, evaluate_workspace_size(components_of(model), dimension_of(model), threads))) {
    return Status::workspace_too_small;
  }
  const Row row{.alpha = alpha, .sigma = sigma, .output = output};
  constexpr std::size_t grain = 32, most = 8;  // samples, a multiple of any region's kSide; grains taken at once
  const double sample_ns = evaluation_ns(model);
  const std::size_t grains = (samples + grain - 1) / grain;
  const std::size_t team = std::min(grains, team_of(sample_ns * static_cast<double>(samples), threads));
  const std::size_t chunk = team == 1 ? samples : std::min(grains / (4 * team) + 1, most) * grain;
  for_chunks(samples, chunk, threads, sample_ns, [&](std::size_t begin, std::size_t end, std::size_t worker) {
    LEGATO_DISPATCH(evaluate_range, model, row, x.data(), out.data(),
                    log_density.empty() ? nullptr : log_density.data(),
                    share_of(workspace, worker, workers_of(threads)), begin, end);
  });
  note_isa(active_isa());  // for this thread, where helpers did the work
  return outcome();
}

template <class Real>
Status run_chains(const Model<Real>& cond, const Model<Real>& uncond, std::span<const Row> rows, const Noise& noise,
                  std::size_t samples, std::span<Real> x, std::span<std::byte> workspace, int threads) noexcept {
  if (!sound(cond) || !sound(uncond)) return Status::invalid_argument;
  const std::size_t dimension = dimension_of(cond);
  if (dimension_of(uncond) != dimension || !(Size{samples} * dimension).is(x.size())) return Status::invalid_argument;
  bool noisy = false, remembers = false;
  for (const Row& row : rows) {
    for (const double value :
         {row.alpha, row.sigma, row.a, row.b, row.guidance, row.uncond, row.previous, row.earlier, row.base}) {
      if (!std::isfinite(value)) return Status::invalid_argument;
    }
    if (row.sigma < 0 || !std::isfinite(row.noise)) return Status::invalid_argument;
    const bool cloudy = cond.cloud != nullptr || uncond.cloud != nullptr;
    if (cloudy && row.output == Output::score && row.sigma == 0) return Status::singular;
    noisy = noisy || row.noise != 0;
    remembers = remembers || row.previous != 0 || row.earlier != 0 || row.base != 0;
  }
  const bool named = noise.generator == Generator::threefry || noise.generator == Generator::philox;
  const bool seeded = noise.stride <= 1 && noise.seeds.size() == (noise.stride == 0 ? 1 : samples);
  if ((noisy || !noise.seeds.empty()) && (!seeded || !named)) return Status::invalid_argument;
  if (noisy && noise.generator == Generator::philox && noise.stride == 0 &&
      noise.first_stream + samples > (std::uint64_t{1} << 32)) {
    return Status::invalid_argument;
  }
  if (samples == 0) return Status::ok;
  const std::size_t components = std::max(components_of(cond), components_of(uncond));
  if (!is_enough(workspace, chains_workspace_size(components, dimension, threads))) return Status::workspace_too_small;
  const double sample_ns = static_cast<double>(rows.size()) * evaluation_ns(cond);  // the least: of one model
  const std::size_t team = team_of(sample_ns * static_cast<double>(samples), threads);
  const std::size_t block = LEGATO_DISPATCH(samples_of_block<Real>, samples, dimension, team);
  for_chunks(samples, block, threads, sample_ns, [&](std::size_t begin, std::size_t end, std::size_t worker) {
    const std::span<std::byte> memory = share_of(workspace, worker, workers_of(threads));
    LEGATO_DISPATCH(run_block_any<Real>, cond, uncond, rows, noise, remembers, x.data(), begin, end, memory);
  });
  note_isa(active_isa());  // for this thread, where helpers did the work
  return outcome();
}

#define LEGATO_REAL(Real)                                                                                             \
  template Status pack_points(std::size_t, std::size_t, std::span<const Real>, std::span<Real>) noexcept;             \
  template Status evaluate(const Model<Real>&, double, double, Output, std::size_t, std::span<const Real>,            \
                           std::span<Real>, std::span<Real>, std::span<std::byte>, int) noexcept;                     \
  template Status run_chains(const Model<Real>&, const Model<Real>&, std::span<const Row>, const Noise&, std::size_t, \
                             std::span<Real>, std::span<std::byte>, int) noexcept;
LEGATO_REAL(float)
LEGATO_REAL(double)
#undef LEGATO_REAL

}  // namespace legato::diffusion
