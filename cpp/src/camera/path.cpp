#include <cstddef>
#include <span>

#include "core/core.h"
#include "legato/camera.hpp"

namespace legato {
using camera::BandedProblem;
using camera::SolverOptions;
using camera::SolverResult;
}  // namespace legato

#define LEGATO_REGION_FILE "camera/path-inl.h"
#include "core/isa_region.h"

namespace legato::camera {

namespace {

/// Whether frames, rows and strides agree; of rows with one stride for all frames there is no more than memory.
bool shaped(const BandedProblem& p) {
  const bool same_rows = p.row_matrix_stride == 0, same_bounds = p.row_bound_stride == 0;
  return p.pinned <= p.frames && p.soft_rows <= p.rows && (8 * Size{p.rows}).fits() &&
         (p.quadratic_stride == 0 || p.quadratic_stride == 64) && (same_rows || p.row_matrix_stride == 8 * p.rows) &&
         (same_bounds || p.row_bound_stride == p.rows);
}

bool has(std::span<const double> numbers, Size of_frame, std::size_t stride, std::size_t frames) {
  return (of_frame * (stride == 0 ? 1 : frames)).is(numbers.size());
}

}  // namespace

std::size_t banded_workspace_size(const BandedProblem& problem) noexcept {
  if (!shaped(problem)) return 0;
  return LEGATO_DISPATCH(interior_size, problem);
}

Status solve_banded(const BandedProblem& problem, const SolverOptions& options, std::span<std::byte> workspace,
                    std::span<double> path, std::span<const double> fallback, SolverResult& result) noexcept {
  result = SolverResult{};
  const BandedProblem& p = problem;
  const std::size_t n = p.frames;
  const Size all = 8 * Size{n};
  const bool whole =
      shaped(p) && all.is(path.size()) && all.is(p.velocity.size()) && (p.linear.empty() || all.is(p.linear.size())) &&
      (fallback.empty() || all.is(fallback.size())) && (n == 0 || has(p.quadratic, 64, p.quadratic_stride, n)) &&
      (p.acceleration.empty() || p.acceleration.size() == 64) &&
      has(p.row_matrix, 8 * Size{p.rows}, p.row_matrix_stride, n) && has(p.row_bound, p.rows, p.row_bound_stride, n) &&
      (p.soft_rows == 0 || p.penalty > 0) && options.tolerance > 0 && options.max_iterations >= 0;
  if (!whole) return Status::invalid_argument;
  return LEGATO_DISPATCH(interior_solve, problem, options, workspace, path.data(),
                         fallback.empty() ? nullptr : fallback.data(), result);
}

}  // namespace legato::camera
