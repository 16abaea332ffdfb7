#include <cstddef>
#include <span>

#include "core.h"
#include "legato/camera.hpp"

namespace legato {
using camera::BandedProblem;
using camera::SolverOptions;
using camera::SolverResult;
}  // namespace legato

#define LEGATO_REGION_FILE "path-inl.h"
#include "isa_region.h"

namespace legato::camera {

std::size_t banded_workspace_size(const BandedProblem& problem) noexcept {
  return LEGATO_DISPATCH(interior_size, problem);
}

Status solve_banded(const BandedProblem& problem, const SolverOptions& options, std::span<std::byte> workspace,
                    std::span<double> path, const double* fallback, SolverResult& result) noexcept {
  result = SolverResult{};
  const bool shaped = problem.pinned <= problem.frames && path.size() == 8 * problem.frames &&
                      (problem.frames == 0 || (problem.velocity != nullptr && problem.quadratic != nullptr)) &&
                      problem.soft_rows <= problem.rows && (problem.soft_rows == 0 || problem.penalty > 0) &&
                      (problem.rows == 0 || (problem.row_matrix != nullptr && problem.row_bound != nullptr)) &&
                      options.tolerance > 0 && options.max_iterations >= 0;
  if (!shaped) return Status::invalid_argument;
  return LEGATO_DISPATCH(interior_solve, problem, options, workspace, path.data(), fallback, result);
}

}  // namespace legato::camera
