// Whole paths: the banded program of a path, linearized and solved in rounds (camera.hpp: smooth_path).
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

#include "camera/crop.h"
#include "camera/scene_motion.h"
#include "core/core.h"

namespace legato::camera {
namespace {

/// Coordinates of a model's algebra: eight, of which a subgroup holds some at zero. p = basis x, x = projection p.
/// For homographies eight of the nine entries, p33 = -p11 - p22; the first two are those tied to it.
struct Coordinates {
  double basis[9][8] = {};
  double projection[8][9] = {};
  double weight[9] = {};  // of the L1 term of each coordinate, and of the ninth component
  bool used[8] = {};

  Coordinates(PathModel model, double roll_weight) {
    constexpr int entry[8] = {0, 4, 1, 3, 2, 5, 6, 7};
    const auto take = [&](int i) {
      used[i] = true;
      basis[entry[i]][i] = projection[i][entry[i]] = weight[i] = 1;
    };
    if (model == PathModel::similarity) {  // scale diag(1, 1, -2) and roll: their entries' absolute values add up
      used[0] = used[2] = true;
      basis[0][0] = basis[4][0] = basis[1][2] = 1;
      basis[8][0] = -2;
      basis[3][2] = -1;
      projection[0][0] = projection[0][4] = projection[2][1] = 0.5;
      projection[2][3] = -0.5;
      weight[0] = 4;
      weight[2] = 2;
    } else if (model != PathModel::translation) {
      for (const int i : {0, 1, 2, 3}) take(i);
      basis[8][0] = basis[8][1] = -1;
      weight[8] = 1;
    }
    for (const int i : {4, 5}) take(i);
    if (model == PathModel::homography) {
      for (const int i : {6, 7}) take(i);
    }
    for (const int i : {2, 3}) weight[i] *= roll_weight;
  }

  void from_entries(const double* entries, double* x) const {
    for (int i = 0; i < 8; ++i) {
      x[i] = 0;
      for (int e = 0; e < 9; ++e) x[i] += projection[i][e] * entries[e];
    }
  }
  void to_entries(const double* x, double* entries) const {
    for (int e = 0; e < 9; ++e) {
      entries[e] = 0;
      for (int i = 0; i < 8; ++i) entries[e] += basis[e][i] * x[i];
    }
  }
  /// A linear form on the nine entries, as one on the coordinates.
  void restrict_form(const double* form, double* out) const {
    for (int i = 0; i < 8; ++i) {
      out[i] = 0;
      for (int e = 0; e < 9; ++e) out[i] += basis[e][i] * form[e];
    }
  }
};

/// R of k = R t over the motion.
double estimate_ratio(const double* logs, std::size_t n) {
  double kt = 0, tt = 0;
  for (std::size_t t = 1; t < n; ++t) {
    const double* f = logs + 9 * t;
    kt += f[6] * f[2] + f[7] * f[5];
    tt += f[2] * f[2] + f[5] * f[5];
  }
  return ratio_of(kt, tt);
}

/// The quadratic cost 1/2 p'Q p of one frame, as 8 x 8 over the coordinates; coordinates that a model lacks get 1.
void quadratic_of(const PathOptions& options, const Coordinates& space, double fidelity, double ratio, double* out) {
  std::fill_n(out, 64, 0.0);
  const auto add = [&](const double (&form)[9], double weight) {
    double c[8];
    space.restrict_form(form, c);
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
  if (options.model == PathModel::homography) {
    add({0, 0, -ratio, 0, 0, 0, 1, 0, 0}, options.keystone);
    add({0, 0, 0, 0, 0, -ratio, 0, 1, 0}, options.keystone);
  }
  for (int i = 0; i < 8; ++i) {
    if (!space.used[i]) out[9 * i] = 1;
  }
}

/// The window corners' mean squared acceleration as 1/2 e'A e, 8 x 8 over the coordinates.
void acceleration_of(const Window& window, const Coordinates& space, double weight, double* out) {
  std::fill_n(out, 64, 0.0);
  for (const double (&corner)[2] : window.corner) {
    const double x = corner[0], y = corner[1];
    const double forms[2][9] = {{x, y, 1, 0, 0, 0, -x * x, -x * y, -x}, {0, 0, 0, x, y, 1, -x * y, -y * y, -y}};
    for (const auto& form : forms) {
      double c[8];
      space.restrict_form(form, c);
      for (int i = 0; i < 8; ++i) {
        for (int j = 0; j < 8; ++j)
          out[8 * i + j] += 0.5 * weight * c[i] * c[j];  // twice, for the half; a quarter each
      }
    }
  }
}

/// In the linear program, w0 = 0, fidelity has this share of the other weights: the solver needs a definite Q.
constexpr double kSmallestFidelity = 1e-9;

/// A pure zoom about the center that is strictly inside every row: halfway between the smallest window and the frame.
bool resting_point(const PathOptions& options, const Coordinates& space, double aspect, double (&coordinates)[8]) {
  const double scale = window_scale(options);
  const double largest = std::min(1.0 - 2.0 * options.inset, 1.0 - 2.0 * options.inset / aspect) / scale - 1.0;
  const double smallest = (1.0 - options.crop) / scale - 1.0;
  if (!(largest > smallest)) return false;
  double zoom = 0.5 * (smallest + largest);
  if (std::abs(zoom) < 1e-12) zoom = 0;
  const double entries[9] = {zoom / 3, 0, 0, 0, zoom / 3, 0, 0, 0, -2 * zoom / 3};
  space.from_entries(entries, coordinates);
  return true;
}

/// The part of the objective that lies wholly inside the pinned frames: a constant of the solve.
double held_cost(const BandedProblem& problem, const double* path) {
  double total = 0;
  const auto& weights = problem.weights;
  const double* velocity = problem.velocity.data();
  for (std::size_t t = 0; t < problem.pinned; ++t) {
    const double *p = path + 8 * t, *q = problem.quadratic.data() + problem.quadratic_stride * t;
    for (std::size_t i = 0; i < 8; ++i) {
      if (!problem.linear.empty()) total += problem.linear[8 * t + i] * p[i];
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
    for (std::size_t i = 0; i < 8 && !problem.acceleration.empty() && t >= 2; ++i) {
      for (std::size_t j = 0; j < 8; ++j) total += 0.5 * e[1][i] * problem.acceleration[8 * i + j] * e[1][j];
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
  double* rows;       // n x (15 + 4 points) x 8
  double* bounds;     // n x (15 + 4 points)
  double* quadratic;  // n x 64
  double* linear;     // n x 8
  std::span<std::byte> solver;
};

BandedProblem problem_shape(std::size_t frames, std::size_t points) {
  BandedProblem problem;
  problem.frames = frames;
  problem.rows = kCropRows + 2 + kPointRows * points;  // and p33 in its box
  problem.soft_rows = kPointRows * points;             // at least while an inner point is sought
  problem.row_matrix_stride = 8 * problem.rows;
  problem.row_bound_stride = problem.rows;
  problem.quadratic_stride = 64;
  return problem;
}

PathMemory lay_out_path(Size n, std::size_t points, Arena& arena) {
  const Size rows = kCropRows + 2 + kPointRows * Size{points};
  PathMemory m;
  m.logs = arena.take<double>(9 * n);
  m.steps = arena.take<double>(9 * n);
  m.velocity = arena.take<double>(8 * n);
  m.path = arena.take<double>(8 * n);
  m.interior = arena.take<double>(8 * n);
  m.rows = arena.take<double>(8 * rows * n);
  m.bounds = arena.take<double>(rows * n);
  m.quadratic = arena.take<double>(64 * n);
  m.linear = arena.take<double>(8 * n);
  m.solver = arena.take_workspace(rows.fits() ? banded_workspace_size(problem_shape(n.value(), points)) : 0);
  return m;
}

/// Rows of `frames` frames linearized at the path (or at rest, in the first round), the box of p33, salient points.
void fill_rows(const Window& window, const Coordinates& space, const PathOptions& options, const Subjects& subjects,
               const double* path, std::size_t frames, const PathMemory& m) {
  const std::size_t rows = kCropRows + 2 + kPointRows * subjects.points;
  for (std::size_t t = 0, end = 0; goes_on(t, end, frames, 256);) {
    for (; t < end; ++t) {
      double entries[9] = {};
      if (path != nullptr) space.to_entries(path + 8 * t, entries);
      double g[kCropRows][9], h[kCropRows];
      linear_rows(window, entries, g, h);
      double* matrix = m.rows + 8 * rows * t;
      double* bound = m.bounds + rows * t;
      for (std::size_t r = 0; r < kCropRows; ++r) {
        space.restrict_form(g[r], matrix + 8 * r);
        bound[r] = h[r];
      }
      for (std::size_t r = kCropRows; r < kCropRows + 2; ++r) {
        double form[9] = {};
        form[8] = r == kCropRows ? 1 : -1;
        space.restrict_form(form, matrix + 8 * r);
        bound[r] = options.bound;
      }
      for (std::size_t i = 0; i < subjects.points; ++i) {
        const double* point = subjects.salient.data() + 2 * (subjects.points * t + i);
        const std::size_t first = kCropRows + 2 + kPointRows * i;
        if (std::isnan(point[0]) || std::isnan(point[1])) {
          std::fill_n(matrix + 8 * first, 8 * kPointRows, 0.0);
          std::fill_n(bound + first, kPointRows, 1.0);  // 0 <= 1
          continue;
        }
        double sg[kPointRows][9], sh[kPointRows];
        salient_rows(window, point, entries, sg, sh);
        for (std::size_t r = 0; r < kPointRows; ++r) {
          space.restrict_form(sg[r], matrix + 8 * (first + r));
          bound[first + r] = sh[r];
        }
      }
    }
  }
}

/// A point strictly inside the rows of every frame, into m.interior, for hard salient points: the frames one by one as
/// a program without derivatives, the points' rows soft and a little tighter. Where that fails the frame cannot show
/// its points: `missing` gets by how much (frame widths), and the first such frame is returned, else n.
std::size_t find_interior(const BandedProblem& problem, const double* rest, const PathMemory& m,
                          std::span<double> missing) {
  const std::size_t n = problem.frames, hard = kCropRows + 2;
  double identity[64] = {};
  for (int i = 0; i < 8; ++i) identity[9 * i] = 1;
  BandedProblem inner = problem;
  for (auto& line : inner.weights) std::fill_n(line, 9, 0.0);
  inner.quadratic = identity;
  inner.quadratic_stride = 0;
  inner.acceleration = {};
  inner.linear = {};
  inner.constant = 0;
  inner.soft_rows = problem.rows - hard;
  inner.penalty = 1e3;
  std::size_t first = n;
  for (const double margin : {1e-3, 1e-6}) {
    const auto shift = [&](double by) {
      for (std::size_t t = 0; t < n; ++t) {
        for (std::size_t r = hard; r < problem.rows; ++r) m.bounds[problem.rows * t + r] += by;
      }
    };
    shift(-margin);
    for (std::size_t t = problem.pinned; t < n; ++t) std::copy_n(rest, 8, m.interior + 8 * t);
    SolverResult found;
    SolverOptions options;
    options.tolerance = 1e-9;
    const Status status = solve_banded(inner, options, m.solver, {m.interior, 8 * n}, {}, found);
    shift(margin);
    first = n;
    if (status == Status::infeasible || status == Status::invalid_argument) return found.bad_frame;
    if (status == Status::cancelled) return n;
    for (std::size_t t = n; t-- > problem.pinned;) {
      missing[t] = 0;
      for (std::size_t r = hard; r < problem.rows; ++r) {
        double value = -m.bounds[problem.rows * t + r];
        for (std::size_t i = 0; i < 8; ++i) {
          value += m.rows[8 * (problem.rows * t + r) + i] * m.interior[8 * t + i];
        }
        if (!(value < 0)) {
          missing[t] = std::max(missing[t], value);
          first = t;
        }
      }
    }
    if (first == n) return n;
  }
  return first;
}

}  // namespace

const char* path_problem(const PathOptions& options, double aspect) noexcept {
  if (const char* found = problem(options); found != nullptr) return found;
  if (!usable(options, aspect)) return "aspect: expected height / width, above 0";
  double rest[8];
  if (!resting_point(options, {options.model, options.roll_weight}, aspect, rest)) {
    return "crop, window_scale, inset: no place for the window inside the frame";
  }
  return nullptr;
}

bool sensible(const PathOptions& options, double aspect) noexcept { return path_problem(options, aspect) == nullptr; }

std::size_t path_workspace_size(std::size_t frames, const PathOptions& options, std::size_t points) noexcept {
  if (!usable(options)) return 0;
  Arena counter;
  lay_out_path(frames, points, counter);
  return counter.size();
}

Status smooth_path(std::span<const double> motion, double aspect, const PathOptions& options,
                   std::span<const double> fixed, std::span<const double> frame_weight, std::span<std::byte> workspace,
                   std::span<double> corrections, std::span<double> logs, std::span<double> violation,
                   PathResult& result, const Subjects& subjects) noexcept {
  result = PathResult{};
  const std::size_t n = motion.size() / 9, pinned = fixed.size() / 9, points = subjects.points;
  const bool shaped = motion.size() % 9 == 0 && fixed.size() % 9 == 0 && pinned <= n && corrections.size() == 9 * n &&
                      logs.size() == 9 * n && violation.size() == n &&
                      (frame_weight.empty() || frame_weight.size() == n) &&
                      (2 * Size{points} * n).is(subjects.salient.size()) &&
                      (subjects.targets.empty() || subjects.targets.size() == 2 * n) && subjects.salient_weight >= 0 &&
                      subjects.target_weight >= 0;
  if (!shaped || !usable(options, aspect)) return Status::invalid_argument;
  const Coordinates space(options.model, options.roll_weight);
  double rest[8];
  if (!resting_point(options, space, aspect, rest)) return Status::invalid_argument;
  for (const double w : frame_weight) {
    if (!(w > 0 && w < 1e12)) return Status::invalid_argument;
  }
  if (n == 0) return Status::ok;

  Arena arena(workspace);
  const PathMemory m = lay_out_path(n, points, arena);
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
    std::copy_n(rest, 8, m.interior + 8 * t);
    space.from_entries(m.logs + 9 * t, m.velocity + 8 * t);
    if (t < pinned) {
      space.from_entries(logs.data() + 9 * t, m.path + 8 * t);
    } else {
      std::fill_n(m.path + 8 * t, 8, 0.0);
    }
  }
  const Window window = window_of(aspect, options);

  BandedProblem problem = problem_shape(n, points);
  problem.pinned = pinned;
  problem.velocity = {m.velocity, 8 * n};
  for (int k = 0; k < 3; ++k) {
    for (int i = 0; i < 9; ++i) problem.weights[k][i] = options.weights[k + 1] * space.weight[i];
  }
  double acceleration[64];
  if (options.acceleration > 0) {
    acceleration_of(window, space, options.acceleration, acceleration);
    problem.acceleration = acceleration;
  }
  problem.soft_rows = subjects.salient_weight > 0 ? kPointRows * points : 0;
  problem.penalty = subjects.salient_weight;
  std::fill_n(problem.lower, 8, -options.bound);
  std::fill_n(problem.upper, 8, options.bound);

  const double regular = kSmallestFidelity * (options.weights[1] + options.weights[2] + options.weights[3]);
  const bool linear_program = options.weights[0] < regular;
  const bool centered = !subjects.targets.empty() && subjects.target_weight > 0;
  const bool even =
      std::all_of(frame_weight.begin(), frame_weight.end(), [&](double w) { return w == frame_weight[0]; });
  const bool same = even && !centered;  // every frame has the quadratic terms of the first
  problem.quadratic = {m.quadratic, same ? 64 : 64 * n};
  problem.quadratic_stride = same ? 0 : 64;
  if (centered) problem.linear = {m.linear, 8 * n};
  for (std::size_t t = 0; t < (same ? 1 : n); ++t) {
    double fidelity = (frame_weight.empty() ? 1.0 : frame_weight[t]) * (linear_program ? regular : options.weights[0]);
    if (centered) {
      std::fill_n(m.linear + 8 * t, 8, 0.0);
      const double *target = subjects.targets.data() + 2 * t, weight = subjects.target_weight;
      if (!std::isnan(target[0]) && !std::isnan(target[1])) {
        fidelity += 2 * weight;
        problem.constant += weight * (target[0] * target[0] + target[1] * target[1]);
        const double form[9] = {0, 0, -2 * weight * target[0], 0, 0, -2 * weight * target[1], 0, 0, 0};
        space.restrict_form(form, m.linear + 8 * t);
      }
    }
    quadratic_of(options, space, fidelity, result.keystone_ratio, m.quadratic + 64 * t);
  }

  const double accepted = 0.05 * options.pixel;
  constexpr int kExtraRounds = 4;
  for (int round = 0;; ++round) {
    const bool alike = round == 0 && points == 0;  // every frame has the rows of the window at rest
    problem.row_matrix_stride = alike ? 0 : 8 * problem.rows;
    problem.row_bound_stride = alike ? 0 : problem.rows;
    problem.row_matrix = {m.rows, 8 * problem.rows * (alike ? 1 : n)};
    problem.row_bound = {m.bounds, problem.rows * (alike ? 1 : n)};
    fill_rows(window, space, options, subjects, round == 0 ? nullptr : m.path, alike ? 1 : n, m);
    if (cancelled()) return Status::cancelled;
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
        space.from_entries(m.logs + 9 * t, m.velocity + 8 * t);
        for (std::size_t i = 0; i < 8; ++i) {
          m.velocity[8 * t + i] -= m.path[8 * t + i] - m.path[8 * (t - 1) + i];
        }
      }
    }
    if (points > 0 && problem.soft_rows == 0) {
      std::fill(violation.begin(), violation.end(), 0.0);
      result.bad_frame = find_interior(problem, rest, m, violation);
      if (result.bad_frame < n) return Status::infeasible;
      if (cancelled()) return Status::cancelled;
    }
    if (round > 0) {
      for (std::size_t t = pinned; t < n; ++t) {  // the old optimum lies on the boundary; start well inside
        for (std::size_t i = 8 * t; i < 8 * (t + 1); ++i) {
          m.path[i] = m.interior[i] + 0.9 * (m.path[i] - m.interior[i]);
        }
      }
    }
    SolverResult solved;
    status = solve_banded(problem, options.solver, m.solver, {m.path, 8 * n}, {m.interior, 8 * n}, solved);
    result.iterations += solved.iterations;
    result.rounds = round;
    result.objective = solved.objective + held_cost(problem, m.path);
    result.gap = solved.gap;
    result.bad_frame = solved.bad_frame;
    if (status == Status::infeasible || status == Status::invalid_argument || status == Status::cancelled)
      return status;
    if (linear_program) {  // what the added fidelity can hide: |entries| <= bound
      result.gap += 0.5 * regular * 9 * options.bound * options.bound * static_cast<double>(n - pinned);
    }

    for (std::size_t t = 0; t < n; ++t) space.to_entries(m.path + 8 * t, logs.data() + 9 * t);
    std::size_t bad = 0;
    const Status exact = exp_homography(logs, corrections, bad);
    if (exact != Status::ok) return exact;
    double most = 0;
    for (std::size_t t = 0, end = 0; goes_on(t, end, n);) {
      for (; t < end; ++t) {
        violation[t] = violation_of(window, read(corrections.data() + 9 * t));
        if (t >= pinned) most = std::max(most, violation[t]);
      }
    }
    if (outcome() != Status::ok) return outcome();
    const bool enough = round >= options.relinearize && (most <= accepted || options.pixel == 0);
    if (options.relinearize == 0 || enough || round - kExtraRounds >= options.relinearize) return status;
  }
}

}  // namespace legato::camera
