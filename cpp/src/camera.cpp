#include "legato/camera.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <span>

#include "core.h"

#define LEGATO_REGION_FILE "camera-inl.h"
#include "isa_region.h"

#undef LEGATO_MATH_HD_H
#undef LEGATO_MATH_HOMOGRAPHY_H
#include "legato/math/homography.h"

namespace legato::camera {
namespace {

constexpr std::size_t kGrain = 512;  // homographies a thread; fewer are not worth one
constexpr double kNoRatio = -1.4;    // R = -1/f^2 for a lens of 0.85 frame widths, where the motion tells nothing

using Matrix = math::Matrix3<double>;

Matrix read(const double* x) {
  Matrix m;
  std::copy_n(x, 9, m.at);
  return m;
}

void keep_smaller(std::atomic<std::size_t>& least, std::size_t value) noexcept {
  std::size_t seen = least.load();
  while (value < seen && !least.compare_exchange_weak(seen, value)) {
  }
}

/// Free coordinates of sl(3): eight of the nine entries, p33 = -p11 - p22. The first two are those tied to it.
constexpr int kEntry[8] = {0, 4, 1, 3, 2, 5, 6, 7};

void to_coordinates(const double* entries, double* coordinates) {
  for (int i = 0; i < 8; ++i) coordinates[i] = entries[kEntry[i]];
}

void to_entries(const double* coordinates, double* entries) {
  for (int i = 0; i < 8; ++i) entries[kEntry[i]] = coordinates[i];
  entries[8] = -(coordinates[0] + coordinates[1]);
}

/// A linear form on the nine entries, as one on the eight coordinates.
void restrict_form(const double* form, double* out) {
  for (int i = 0; i < 8; ++i) out[i] = form[kEntry[i]];
  out[0] -= form[8];
  out[1] -= form[8];
}

struct Window {
  double corner[4][2];   // TL TR BR BL
  double half[2];        // allowed |x|, |y| of a corner
  double area, side[2];  // smallest area, width, height
};

Window window_of(double aspect, const PathOptions& options) {
  const double scale = window_scale(options), keep = 1.0 - options.crop;
  Window w;
  constexpr double sign[4][2] = {{-1, -1}, {1, -1}, {1, 1}, {-1, 1}};
  for (int i = 0; i < 4; ++i) {
    w.corner[i][0] = 0.5 * scale * sign[i][0];
    w.corner[i][1] = 0.5 * scale * aspect * sign[i][1];
  }
  w.half[0] = 0.5 - options.inset;
  w.half[1] = 0.5 * aspect - options.inset;
  w.area = keep * keep * aspect;
  w.side[0] = keep;
  w.side[1] = keep * aspect;
  return w;
}

/// Images of the window corners under exp(p).
void moved_corners(const Window& w, const Matrix& transform, double (&out)[4][2]) {
  const double* m = transform.at;
  for (int i = 0; i < 4; ++i) {
    const double x = w.corner[i][0], y = w.corner[i][1];
    const double z = m[6] * x + m[7] * y + m[8];
    out[i][0] = (m[0] * x + m[1] * y + m[2]) / z;
    out[i][1] = (m[3] * x + m[4] * y + m[5]) / z;
  }
}

double violation_of(const Window& w, const Matrix& transform) {
  double corner[4][2];
  moved_corners(w, transform, corner);
  double most = 0;
  for (const auto& c : corner) {
    most = std::max({most, std::abs(c[0]) - w.half[0], std::abs(c[1]) - w.half[1]});
  }
  return most;
}

/// Crop, area and side rows linearized at p, over the nine entries: G p' <= h.
void linear_rows(const Window& w, const double* p, double (&g)[kCropRows][9], double (&h)[kCropRows]) {
  const Matrix log = read(p);
  double corner[4][2];
  moved_corners(w, math::exponential(log), corner);
  // d corner = point Jacobian (at the moved corner) times d exp(p) exp(-p).
  double generator[9][9];
  math::exponential_derivative(log, generator);
  double jacobian[8][9];
  for (int i = 0; i < 4; ++i) {
    const double x = corner[i][0], y = corner[i][1];
    const double dx[9] = {x, y, 1, 0, 0, 0, -x * x, -x * y, -x};
    const double dy[9] = {0, 0, 0, x, y, 1, -x * y, -y * y, -y};
    for (int j = 0; j < 9; ++j) {
      jacobian[2 * i][j] = jacobian[2 * i + 1][j] = 0;
      for (int k = 0; k < 9; ++k) {
        jacobian[2 * i][j] += dx[k] * generator[j][k];
        jacobian[2 * i + 1][j] += dy[k] * generator[j][k];
      }
    }
  }
  const auto set = [&](std::size_t row, const double (&form)[9], double value, double limit) {
    double at_p = 0;
    for (int j = 0; j < 9; ++j) {
      g[row][j] = form[j];
      at_p += form[j] * p[j];
    }
    h[row] = limit - value + at_p;
  };
  for (int i = 0; i < 4; ++i) {
    for (int axis = 0; axis < 2; ++axis) {  // the side of the frame on which the corner lies
      const double sign = w.corner[i][axis] < 0 ? -1.0 : 1.0;
      double form[9];
      for (int j = 0; j < 9; ++j) form[j] = sign * jacobian[2 * i + axis][j];
      set(static_cast<std::size_t>(2 * i + axis), form, sign * corner[i][axis], w.half[axis]);
    }
  }
  double area = 0, form[9] = {};
  for (int i = 0; i < 4; ++i) {
    const double *next = corner[(i + 1) % 4], *last = corner[(i + 3) % 4];
    area += 0.5 * (corner[i][0] * next[1] - next[0] * corner[i][1]);
    for (int j = 0; j < 9; ++j) {
      form[j] -= 0.5 * ((next[1] - last[1]) * jacobian[2 * i][j] + (last[0] - next[0]) * jacobian[2 * i + 1][j]);
    }
  }
  set(8, form, -area, -w.area);
  for (int i = 0; i < 4; ++i) {
    const int next = (i + 1) % 4;
    const double x = corner[next][0] - corner[i][0], y = corner[next][1] - corner[i][1];
    const double length = std::sqrt(x * x + y * y);
    for (int j = 0; j < 9; ++j) {
      form[j] = -(x * (jacobian[2 * next][j] - jacobian[2 * i][j]) +
                  y * (jacobian[2 * next + 1][j] - jacobian[2 * i + 1][j])) /
                length;
    }
    set(static_cast<std::size_t>(9 + i), form, -length, -w.side[i % 2]);
  }
}

/// R of k = R t: least squares over the motion, clipped.
double estimate_ratio(const double* logs, std::size_t n) {
  double kt = 0, tt = 0;
  for (std::size_t t = 1; t < n; ++t) {
    const double* f = logs + 9 * t;
    kt += f[6] * f[2] + f[7] * f[5];
    tt += f[2] * f[2] + f[5] * f[5];
  }
  return tt > 0 ? std::clamp(kt / tt, -3.0, -0.3) : kNoRatio;
}

/// The quadratic cost 1/2 p'Q p of one frame, as 8 x 8 over the coordinates.
void quadratic_of(const PathOptions& options, double fidelity, double ratio, double* out) {
  std::fill_n(out, 64, 0.0);
  const auto add = [out](const double (&form)[9], double weight) {
    double c[8];
    restrict_form(form, c);
    for (int i = 0; i < 8; ++i) {
      for (int j = 0; j < 8; ++j) out[8 * i + j] += 2.0 * weight * c[i] * c[j];
    }
  };
  for (int e = 0; e < 9; ++e) {
    double form[9] = {};
    form[e] = 1;
    add(form, 0.5 * fidelity);
  }
  add({1, 0, 0, 0, -1, 0, 0, 0, 0}, options.anisotropy);
  add({0, 1, 0, 1, 0, 0, 0, 0, 0}, options.shear);
  add({0, 0, -ratio, 0, 0, 0, 1, 0, 0}, options.keystone);
  add({0, 0, 0, 0, 0, -ratio, 0, 1, 0}, options.keystone);
}

bool usable(const PathOptions& o, double aspect) {
  const auto at_least_zero = [](double x) { return x >= 0 && x < 1e12; };
  const double scale = window_scale(o);
  return o.crop > 0 && o.crop < 1 && scale > 0 && scale <= 1 && aspect > 0 && aspect < 1e6 && o.weights[0] > 0 &&
         o.weights[0] < 1e12 && at_least_zero(o.weights[1]) && at_least_zero(o.weights[2]) &&
         at_least_zero(o.weights[3]) && at_least_zero(o.anisotropy) && at_least_zero(o.shear) &&
         at_least_zero(o.keystone) && !std::isinf(o.keystone_ratio) && o.bound > 0 && at_least_zero(o.inset) &&
         at_least_zero(o.pixel) && o.relinearize >= 0 && o.solver.max_iterations >= 0 && o.solver.tolerance > 0;
}

/// A pure zoom about the center that is strictly inside every row: halfway between the smallest window and the frame.
bool resting_point(const PathOptions& options, double aspect, double (&coordinates)[8]) {
  const double scale = window_scale(options);
  const double largest = std::min(1.0 - 2.0 * options.inset, 1.0 - 2.0 * options.inset / aspect) / scale - 1.0;
  const double smallest = (1.0 - options.crop) / scale - 1.0;
  if (!(largest > smallest)) return false;
  double zoom = 0.5 * (smallest + largest);
  if (std::abs(zoom) < 1e-12) zoom = 0;
  std::fill_n(coordinates, 8, 0.0);
  coordinates[0] = coordinates[1] = zoom / 3;
  return true;
}

/// The part of the objective that lies wholly inside the pinned frames: a constant of the solve.
double held_cost(const double* path, const double* velocity, const double* quadratic, const double (&weights)[3][9],
                 std::size_t pinned) {
  double total = 0;
  for (std::size_t t = 0; t < pinned; ++t) {
    const double *p = path + 8 * t, *q = quadratic + 64 * t;
    for (std::size_t i = 0; i < 8; ++i) {
      for (std::size_t j = 0; j < 8; ++j) total += 0.5 * p[i] * q[8 * i + j] * p[j];
    }
    double e[3][9] = {};  // the derivatives at t
    for (std::size_t i = 0; i < 8; ++i) {
      double first[3] = {};  // e_1 at t, t-1, t-2
      for (std::size_t j = 0; j < 3 && j + 1 <= t; ++j) {
        const std::size_t at = 8 * (t - j) + i;
        first[j] = path[at] - path[at - 8] + velocity[at];
      }
      e[0][i] = first[0];
      e[1][i] = first[0] - first[1];
      e[2][i] = first[0] - 2 * first[1] + first[2];
    }
    for (std::size_t k = 0; k < 3 && k + 1 <= t; ++k) {
      e[k][8] = e[k][0] + e[k][1];
      for (std::size_t i = 0; i < 9; ++i) total += weights[k][i] * std::abs(e[k][i]);
    }
  }
  return total;
}

struct PathMemory {
  double* logs;       // n x 9: of the motion
  double* steps;      // n x 9: exact stabilized motions, then their logs
  double* velocity;   // n x 8
  double* path;       // n x 8
  double* interior;   // n x 8: a point strictly inside the rows of each frame
  double* rows;       // n x 13 x 8
  double* bounds;     // n x 13
  double* quadratic;  // n x 64
  std::byte* solver;
  std::size_t solver_size;
};

BandedProblem problem_shape(std::size_t frames) {
  BandedProblem problem;
  problem.frames = frames;
  problem.rows = kCropRows + 2;  // and p33 in its box
  problem.row_matrix_stride = 8 * problem.rows;
  problem.row_bound_stride = problem.rows;
  problem.quadratic_stride = 64;
  return problem;
}

PathMemory lay_out_path(std::size_t n, Arena& arena) {
  const BandedProblem shape = problem_shape(n);
  PathMemory m;
  m.logs = arena.take<double>(9 * n);
  m.steps = arena.take<double>(9 * n);
  m.velocity = arena.take<double>(8 * n);
  m.path = arena.take<double>(8 * n);
  m.interior = arena.take<double>(8 * n);
  m.rows = arena.take<double>(shape.row_matrix_stride * n);
  m.bounds = arena.take<double>(shape.row_bound_stride * n);
  m.quadratic = arena.take<double>(64 * n);
  m.solver_size = banded_workspace_size(shape);
  m.solver = arena.take<std::byte>(m.solver_size);
  return m;
}

/// Rows of every frame linearized at the path (or at rest, in the first round), and the box of p33.
void fill_rows(const Window& window, const PathOptions& options, const double* path, std::size_t n,
               const PathMemory& m) {
  const std::size_t rows = kCropRows + 2;
  for (std::size_t t = 0; t < n; ++t) {
    double entries[9] = {};
    if (path != nullptr) to_entries(path + 8 * t, entries);
    double g[kCropRows][9], h[kCropRows];
    linear_rows(window, entries, g, h);
    double* matrix = m.rows + 8 * rows * t;
    double* bound = m.bounds + rows * t;
    for (std::size_t r = 0; r < kCropRows; ++r) {
      restrict_form(g[r], matrix + 8 * r);
      bound[r] = h[r];
    }
    for (std::size_t r = kCropRows; r < rows; ++r) {
      double form[9] = {};
      form[8] = r == kCropRows ? 1 : -1;
      restrict_form(form, matrix + 8 * r);
      bound[r] = options.bound;
    }
  }
}

}  // namespace

Status log_homography(std::span<const double> homographies, std::span<double> logs, std::size_t& first_bad,
                      int threads) noexcept {
  first_bad = 0;
  if (homographies.size() != logs.size() || logs.size() % 9 != 0 || threads < 1) return Status::invalid_argument;
  const std::size_t n = logs.size() / 9;
  std::atomic<std::size_t> least{n};
  for_chunks(n, kGrain, threads, [&](std::size_t begin, std::size_t end) {
    const std::size_t bad = LEGATO_DISPATCH(log_batch, homographies.data(), logs.data(), begin, end);
    if (bad < end) keep_smaller(least, bad);
  });
  note_isa(active_isa());  // with no item, and for this thread where helpers did the work
  first_bad = least.load();
  if (first_bad == n) return Status::ok;
  // Which kind of defect: the one matrix again, unless it was overwritten in place.
  if (homographies.data() == logs.data()) return Status::no_principal_log;
  const auto result = math::logarithm(read(homographies.data() + 9 * first_bad));
  if (result.defect == 2.0) return Status::no_principal_log;
  for (int i = 0; i < 9; ++i) {
    if (!std::isfinite(homographies[9 * first_bad + static_cast<std::size_t>(i)])) return Status::not_finite;
  }
  return Status::singular;
}

Status exp_homography(std::span<const double> logs, std::span<double> homographies, std::size_t& first_bad,
                      int threads) noexcept {
  first_bad = 0;
  if (homographies.size() != logs.size() || logs.size() % 9 != 0 || threads < 1) return Status::invalid_argument;
  const std::size_t n = logs.size() / 9;
  std::atomic<std::size_t> least{n};
  for_chunks(n, kGrain, threads, [&](std::size_t begin, std::size_t end) {
    const std::size_t bad = LEGATO_DISPATCH(exp_batch, logs.data(), homographies.data(), begin, end);
    if (bad < end) keep_smaller(least, bad);
  });
  note_isa(active_isa());
  first_bad = least.load();
  return first_bad == n ? Status::ok : Status::not_finite;
}

double window_scale(const PathOptions& options) noexcept {
  return options.window_scale != 0.0 ? options.window_scale : 1.0 - 0.5 * options.crop;
}

Status crop_rows(std::span<const double> log_correction, double aspect, const PathOptions& options,
                 std::span<double> row_matrix, std::span<double> row_bound) noexcept {
  if (log_correction.size() != 9 || row_matrix.size() != 9 * kCropRows || row_bound.size() != kCropRows ||
      !usable(options, aspect)) {
    return Status::invalid_argument;
  }
  double g[kCropRows][9], h[kCropRows];
  linear_rows(window_of(aspect, options), log_correction.data(), g, h);
  std::copy_n(&g[0][0], 9 * kCropRows, row_matrix.data());
  std::copy_n(h, kCropRows, row_bound.data());
  return Status::ok;
}

std::size_t path_workspace_size(std::size_t frames, const PathOptions&) noexcept {
  Arena counter;
  lay_out_path(frames, counter);
  return counter.size();
}

Status smooth_path(std::span<const double> motion, double aspect, const PathOptions& options,
                   std::span<const double> fixed, std::span<const double> frame_weight, std::span<std::byte> workspace,
                   std::span<double> corrections, std::span<double> logs, std::span<double> violation,
                   PathResult& result) noexcept {
  result = PathResult{};
  const std::size_t n = motion.size() / 9, pinned = fixed.size() / 9;
  const bool shaped = motion.size() % 9 == 0 && fixed.size() % 9 == 0 && pinned <= n && corrections.size() == 9 * n &&
                      logs.size() == 9 * n && violation.size() == n &&
                      (frame_weight.empty() || frame_weight.size() == n);
  if (!shaped || !usable(options, aspect)) return Status::invalid_argument;
  double rest[8];
  if (!resting_point(options, aspect, rest)) return Status::invalid_argument;
  for (const double w : frame_weight) {
    if (!(w > 0 && w < 1e12)) return Status::invalid_argument;
  }
  if (n == 0) return Status::ok;

  Arena arena(workspace);
  const PathMemory m = lay_out_path(n, arena);
  if (arena.overflowed()) return Status::workspace_too_small;

  // Frame 0 has no motion; whatever stands there is not read.
  constexpr double identity[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  std::copy_n(motion.data(), 9 * n, m.steps);
  std::copy_n(identity, 9, m.steps);
  Status status = log_homography({m.steps, 9 * n}, {m.logs, 9 * n}, result.bad_frame);
  if (status != Status::ok) return status;
  if (pinned > 0) {
    status = log_homography(fixed, logs.first(9 * pinned), result.bad_frame);
    if (status != Status::ok) return status;
  }

  result.keystone_ratio = std::isnan(options.keystone_ratio) ? estimate_ratio(m.logs, n) : options.keystone_ratio;
  for (std::size_t t = 0; t < n; ++t) {
    const double factor = frame_weight.empty() ? 1.0 : frame_weight[t];
    std::copy_n(rest, 8, m.interior + 8 * t);
    quadratic_of(options, factor * options.weights[0], result.keystone_ratio, m.quadratic + 64 * t);
    to_coordinates(m.logs + 9 * t, m.velocity + 8 * t);
    if (t < pinned) {
      to_coordinates(logs.data() + 9 * t, m.path + 8 * t);
    } else {
      std::fill_n(m.path + 8 * t, 8, 0.0);
    }
  }
  const Window window = window_of(aspect, options);

  BandedProblem problem = problem_shape(n);
  problem.pinned = pinned;
  problem.velocity = m.velocity;
  for (int k = 0; k < 3; ++k) std::fill_n(problem.weights[k], 9, options.weights[k + 1]);
  problem.quadratic = m.quadratic;
  problem.row_matrix = m.rows;
  problem.row_bound = m.bounds;
  std::fill_n(problem.lower, 8, -options.bound);
  std::fill_n(problem.upper, 8, options.bound);

  const double accepted = 0.05 * options.pixel;
  constexpr int kExtraRounds = 4;
  for (int round = 0;; ++round) {
    fill_rows(window, options, round == 0 ? nullptr : m.path, n, m);
    if (round > 0) {
      // The linear model's velocity is exact at the present path: v = log(P_{t-1}^-1 F_t P_t) - (p_t - p_{t-1}).
      for (std::size_t t = n; t-- > 1;) {
        const Matrix before = math::adjugate(read(corrections.data() + 9 * (t - 1)));  // the inverse, up to scale
        const Matrix step =
            math::product(math::product(before, read(motion.data() + 9 * t)), read(corrections.data() + 9 * t));
        std::copy_n(step.at, 9, m.steps + 9 * t);
      }
      std::copy_n(identity, 9, m.steps);
      status = log_homography({m.steps, 9 * n}, {m.logs, 9 * n}, result.bad_frame);
      if (status != Status::ok) return status;
      for (std::size_t t = 1; t < n; ++t) {
        to_coordinates(m.logs + 9 * t, m.velocity + 8 * t);
        for (int i = 0; i < 8; ++i) {
          m.velocity[8 * t + static_cast<std::size_t>(i)] -=
              m.path[8 * t + static_cast<std::size_t>(i)] - m.path[8 * (t - 1) + static_cast<std::size_t>(i)];
        }
      }
      for (std::size_t t = pinned; t < n; ++t) {  // the old optimum lies on the boundary; start well inside
        for (int i = 0; i < 8; ++i) {
          double& x = m.path[8 * t + static_cast<std::size_t>(i)];
          x = rest[i] + 0.9 * (x - rest[i]);
        }
      }
    }
    SolverResult solved;
    status = solve_banded(problem, options.solver, {m.solver, m.solver_size}, {m.path, 8 * n}, m.interior, solved);
    result.iterations += solved.iterations;
    result.rounds = round;
    result.objective = solved.objective + held_cost(m.path, m.velocity, m.quadratic, problem.weights, pinned);
    result.gap = solved.gap;
    result.bad_frame = solved.bad_frame;
    if (status == Status::infeasible || status == Status::invalid_argument) return status;

    for (std::size_t t = 0; t < n; ++t) to_entries(m.path + 8 * t, logs.data() + 9 * t);
    std::size_t bad = 0;
    const Status exact = exp_homography(logs, corrections, bad);
    if (exact != Status::ok) return exact;
    double most = 0;
    for (std::size_t t = 0; t < n; ++t) {
      violation[t] = violation_of(window, read(corrections.data() + 9 * t));
      if (t >= pinned) most = std::max(most, violation[t]);
    }
    const bool enough = round >= options.relinearize && (most <= accepted || options.pixel == 0);
    if (options.relinearize == 0 || enough || round >= options.relinearize + kExtraRounds) return status;
  }
}

}  // namespace legato::camera
