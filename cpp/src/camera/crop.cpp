// The window of the crop: where it may lie, and a correction brought inside.
#include "camera/crop.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

#include "core/core.h"

namespace legato::camera {
namespace {

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

bool lies_inside(const Window& w, const Matrix& transform) {
  const double* m = transform.at;
  for (const double (&c)[2] : w.corner) {
    const double z = m[6] * c[0] + m[7] * c[1] + m[8];
    const bool inside = z > 0 && std::abs(m[0] * c[0] + m[1] * c[1] + m[2]) <= w.half[0] * z &&
                        std::abs(m[3] * c[0] + m[4] * c[1] + m[5]) <= w.half[1] * z;
    if (!inside) return false;
  }
  return true;
}

}  // namespace

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

double violation_of(const Window& w, const Matrix& transform) {
  double corner[4][2];
  moved_corners(w, transform, corner);
  double most = 0;
  for (const auto& c : corner) {
    most = std::max({most, std::abs(c[0]) - w.half[0], std::abs(c[1]) - w.half[1]});
  }
  return most;
}

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

void salient_rows(const Window& w, const double* point, const double* p, double (&g)[kPointRows][9],
                  double (&h)[kPointRows]) {
  Matrix log = read(p);
  for (double& x : log.at) x = -x;
  const Matrix m = math::exponential(log);
  const double z = m.at[6] * point[0] + m.at[7] * point[1] + m.at[8];
  const double x = (m.at[0] * point[0] + m.at[1] * point[1] + m.at[2]) / z;
  const double y = (m.at[3] * point[0] + m.at[4] * point[1] + m.at[5]) / z;
  double generator[9][9];
  math::exponential_derivative(log, generator);
  const double forms[2][9] = {{x, y, 1, 0, 0, 0, -x * x, -x * y, -x}, {0, 0, 0, x, y, 1, -x * y, -y * y, -y}};
  const double half[2] = {w.corner[2][0], w.corner[2][1]}, at[2] = {x, y};
  for (std::size_t axis = 0; axis < 2; ++axis) {
    double form[9] = {}, shift = 0;  // of the moved coordinate: the log's sign turns it
    for (int j = 0; j < 9; ++j) {
      for (int k = 0; k < 9; ++k) form[j] -= forms[axis][k] * generator[j][k];
      shift += form[j] * p[j];
    }
    for (std::size_t side = 0; side < 2; ++side) {
      const double sign = side == 0 ? -1.0 : 1.0;
      for (int j = 0; j < 9; ++j) g[2 * axis + side][j] = sign * form[j];
      h[2 * axis + side] = half[axis] - sign * (at[axis] - shift);
    }
  }
}

const char* problem(const PathOptions& o) {
  constexpr int kMostRounds = 1000;
  const auto at_least_zero = [](double x) { return x >= 0 && x < 1e12; };
  const double scale = window_scale(o);
  if (!(o.crop > 0 && o.crop < 1)) return "crop: expected more than 0 and less than 1";
  if (!(scale > 0 && scale <= 1)) return "window_scale: expected more than 0 and at most 1, or 0 for 1 - crop / 2";
  if (!(o.model >= PathModel::homography && o.model <= PathModel::translation))
    return "model: expected one of the enum";
  for (const double weight : o.weights) {
    if (!at_least_zero(weight)) return "weights: expected each from 0 to below 1e12";
  }
  if (!(o.weights[0] + o.weights[1] + o.weights[2] + o.weights[3] > 0)) return "weights: expected one above 0";
  if (!at_least_zero(o.anisotropy)) return "anisotropy: expected from 0 to below 1e12";
  if (!at_least_zero(o.shear)) return "shear: expected from 0 to below 1e12";
  if (!at_least_zero(o.keystone)) return "keystone: expected from 0 to below 1e12";
  if (!at_least_zero(o.acceleration)) return "acceleration: expected from 0 to below 1e12";
  if (!at_least_zero(o.roll_weight)) return "roll_weight: expected from 0 to below 1e12";
  if (std::isinf(o.keystone_ratio)) return "keystone_ratio: expected a finite number, or NaN to have it estimated";
  if (!(o.bound > 0)) return "bound: expected more than 0";
  if (!at_least_zero(o.inset)) return "inset: expected from 0 to below 1e12, in frame widths";
  if (!at_least_zero(o.pixel)) return "pixel: expected from 0 to below 1e12, in frame widths";
  if (o.relinearize < 0 || o.relinearize > kMostRounds) return "relinearize: expected 0 to 1000 rounds";
  if (o.solver.max_iterations < 0) return "max_iterations: expected 0 or more";
  if (!(o.solver.tolerance > 0)) return "tolerance: expected more than 0";
  return nullptr;
}

bool usable(const PathOptions& o) { return problem(o) == nullptr; }
bool usable(const PathOptions& o, double aspect) { return usable(o) && aspect > 0 && aspect < 1e6; }

double window_scale(const PathOptions& options) noexcept {
  return options.window_scale != 0.0 ? options.window_scale : 1.0 - 0.5 * options.crop;
}

PathOptions at_frame_rate(const PathOptions& options, double fps) noexcept {
  // Differences of order k scale as dt^k, the quadratic weights of the corrections as dt.
  const double rate = fps / 30;
  PathOptions o = options;
  o.weights[0] = options.weights[0] / rate;
  o.weights[2] = options.weights[2] * rate;
  o.weights[3] = options.weights[3] * (rate * rate);
  o.anisotropy = options.anisotropy / rate;
  o.shear = options.shear / rate;
  o.keystone = options.keystone / rate;
  o.acceleration = std::min(options.acceleration * (rate * rate * rate), 9e11);  // damaged timestamps give any rate
  return o;
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

Status contain(std::span<const double> corrections, double aspect, const PathOptions& options,
               std::span<double> contained, std::size_t& bad_frame) noexcept {
  const std::size_t n = corrections.size() / 9;
  bad_frame = n;
  if (corrections.size() % 9 != 0 || contained.size() != 9 * n || !usable(options, aspect)) {
    return Status::invalid_argument;
  }
  const Window window = window_of(aspect, options);
  for (std::size_t t = 0, end = 0; goes_on(t, end, n);) {
    for (; t < end; ++t) {
      Matrix present = read(corrections.data() + 9 * t);
      if (!lies_inside(window, present)) {
        Matrix log;
        std::size_t bad = 0;
        const Status status = log_homography(present.at, log.at, bad);
        if (status != Status::ok) {
          bad_frame = t;
          return status;
        }
        double inside = 0, outside = 1;
        for (int halving = 0; halving < 30; ++halving) {
          const double factor = 0.5 * (inside + outside);
          Matrix scaled = log;
          for (double& x : scaled.at) x *= factor;
          (lies_inside(window, math::exponential(scaled)) ? inside : outside) = factor;
        }
        for (double& x : log.at) x *= inside;
        present = math::exponential(log);
      }
      std::copy_n(present.at, 9, contained.data() + 9 * t);
    }
  }
  return outcome();
}

}  // namespace legato::camera
