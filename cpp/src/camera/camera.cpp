#include "legato/camera.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <span>

#include "core/core.h"

#define LEGATO_REGION_FILE "camera/camera-inl.h"
#include "core/isa_region.h"

#undef LEGATO_MATH_HD_H
#undef LEGATO_MATH_HOMOGRAPHY_H
#include "legato/math/homography.h"

namespace legato::camera {
namespace {

constexpr std::size_t kGrain = 512;   // homographies
constexpr double kHomographyNs = 40;  // the exponential; the logarithm takes half as long again

void keep_smaller(std::atomic<std::size_t>& least, std::size_t value) noexcept {
  std::size_t seen = least.load();
  while (value < seen && !least.compare_exchange_weak(seen, value)) {
  }
}

/// Runs a batch over n matrices; the batches say where they stopped, and `first_bad` is the first such place, else n.
template <class Batch>
Status over_matrices(std::span<const double> from, std::span<double> to, std::size_t& first_bad, int threads,
                     const Batch& batch) noexcept {
  first_bad = 0;
  if (from.size() != to.size() || to.size() % 9 != 0 || threads < 1) return Status::invalid_argument;
  const std::size_t n = to.size() / 9;
  std::atomic<std::size_t> least{n};
  for_chunks(n, kGrain, threads, kHomographyNs, [&](std::size_t begin, std::size_t end, std::size_t) {
    const std::size_t bad = batch(begin, end);
    if (bad < end) keep_smaller(least, bad);
  });
  note_isa(active_isa());  // with no item, and for this thread where helpers did the work
  first_bad = least.load();
  return first_bad == n ? outcome() : Status::not_finite;
}

}  // namespace

Status log_homography(std::span<const double> homographies, std::span<double> logs, std::size_t& first_bad,
                      int threads) noexcept {
  const Status status = over_matrices(homographies, logs, first_bad, threads, [&](std::size_t begin, std::size_t end) {
    return LEGATO_DISPATCH(log_batch, homographies.data(), logs.data(), begin, end);
  });
  if (status != Status::not_finite) return status;
  // Which kind of defect: the one matrix again, unless it was overwritten in place.
  if (homographies.data() == logs.data()) return Status::no_principal_log;
  const double* at = homographies.data() + 9 * first_bad;
  math::Matrix3<double> matrix;
  std::copy_n(at, 9, matrix.at);
  if (math::logarithm(matrix).defect == 2.0) return Status::no_principal_log;
  return std::all_of(at, at + 9, [](double x) { return std::isfinite(x); }) ? Status::singular : Status::not_finite;
}

Status exp_homography(std::span<const double> logs, std::span<double> homographies, std::size_t& first_bad,
                      int threads) noexcept {
  return over_matrices(logs, homographies, first_bad, threads, [&](std::size_t begin, std::size_t end) {
    return LEGATO_DISPATCH(exp_batch, logs.data(), homographies.data(), begin, end);
  });
}

}  // namespace legato::camera
