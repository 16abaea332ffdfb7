#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>

#include "core/core.h"
#include "legato/video.hpp"

#define LEGATO_REGION_FILE "video/fit-inl.h"
#include "core/isa_region.h"

namespace legato::video {
namespace {

constexpr int kFreedom[] = {8, 6, 4, 2, 0};
constexpr int kSampleSize[] = {4, 3, 2, 1};
constexpr int kProbe = 64;  // matches scored before the rest are
constexpr double kMissRate = 1e-3;
constexpr int kRefitSteps = 12;
constexpr double kGate = 6.0;  // in thresholds: matches farther off do not tell of the noise
constexpr double kRefitStop = 1e-7;
// In standard deviations of the matches: where a match has lost three quarters of its weight, and where it stops
// counting as an inlier.
constexpr double kRefitScale = 4.0, kInlierScale = 4.0;

/// Entries of the directions of sl(3): two translations, rotation, scale, two shears, two keystones. The first k span
/// the group of each simpler model.
constexpr double kDirections[8][9] = {{0, 0, 1, 0, 0, 0, 0, 0, 0},  {0, 0, 0, 0, 0, 1, 0, 0, 0},
                                      {0, -1, 0, 1, 0, 0, 0, 0, 0}, {1, 0, 0, 0, 1, 0, 0, 0, -2},
                                      {1, 0, 0, 0, -1, 0, 0, 0, 0}, {0, 1, 0, 1, 0, 0, 0, 0, 0},
                                      {0, 0, 0, 0, 0, 0, 1, 0, 0},  {0, 0, 0, 0, 0, 0, 0, 1, 0}};
/// How a point moves along each of them: coefficients of 1, x, y, x^2, xy, y^2, across and down.
constexpr double kAcross[8][6] = {{1, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0}, {0, 0, -1, 0, 0, 0}, {0, 3, 0, 0, 0, 0},
                                  {0, 1, 0, 0, 0, 0}, {0, 0, 1, 0, 0, 0}, {0, 0, 0, -1, 0, 0}, {0, 0, 0, 0, -1, 0}};
constexpr double kDown[8][6] = {{0, 0, 0, 0, 0, 0},  {1, 0, 0, 0, 0, 0}, {0, 1, 0, 0, 0, 0},  {0, 0, 3, 0, 0, 0},
                                {0, 0, -1, 0, 0, 0}, {0, 1, 0, 0, 0, 0}, {0, 0, 0, 0, -1, 0}, {0, 0, 0, 0, 0, -1}};
constexpr int kPowers[6][2] = {{0, 0}, {1, 0}, {0, 1}, {2, 0}, {1, 1}, {0, 2}};
/// Where the moment x^i y^j stands.
constexpr int moment_at(int i, int j) { return (i + j) * (i + j + 1) / 2 + j; }

struct Random {
  std::uint32_t state;
  std::uint32_t operator()(std::uint32_t below) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return static_cast<std::uint32_t>((static_cast<std::uint64_t>(state) * below) >> 32);
  }
};

constexpr std::size_t kMostFitted = 1000000;  // matches

struct FitMemory {
  double *x, *y, *u, *v, *squared, *sorted;
  int* order;
};

FitMemory lay_out_fit(std::size_t n, Arena& arena) {
  const std::size_t padded = (n + 7) / 8 * 8;
  FitMemory m;
  m.x = arena.take<double>(padded);
  m.y = arena.take<double>(padded);
  m.u = arena.take<double>(padded);
  m.v = arena.take<double>(padded);
  m.squared = arena.take<double>(padded);
  m.sorted = arena.take<double>(padded);
  m.order = arena.take<int>(n);
  return m;
}

struct Matches {
  const FitMemory& m;
  int n;
};

double score(const double* h, const Matches& a, int begin, int end, double most) {
#if defined(__x86_64__)
  if (active_isa() == Isa::avx512) {
    return avx512::truncated_score(h, {a.m.x, a.m.y, a.m.u, a.m.v, a.n}, begin, end, most);
  }
  if (active_isa() == Isa::avx2) {
    return avx2::truncated_score(h, {a.m.x, a.m.y, a.m.u, a.m.v, a.n}, begin, end, most);
  }
#endif
  return baseline::truncated_score(h, {a.m.x, a.m.y, a.m.u, a.m.v, a.n}, begin, end, most);
}

void squared_errors(const double* h, const Matches& a) {
#if defined(__x86_64__)
  if (active_isa() == Isa::avx512) return avx512::errors(h, {a.m.x, a.m.y, a.m.u, a.m.v, a.n}, a.m.squared);
  if (active_isa() == Isa::avx2) return avx2::errors(h, {a.m.x, a.m.y, a.m.u, a.m.v, a.n}, a.m.squared);
#endif
  baseline::errors(h, {a.m.x, a.m.y, a.m.u, a.m.v, a.n}, a.m.squared);
}

void weighted_moments(const double* h, const Matches& a, double scale, double* out) {
#if defined(__x86_64__)
  if (active_isa() == Isa::avx512) return avx512::moments(h, {a.m.x, a.m.y, a.m.u, a.m.v, a.n}, scale, out);
  if (active_isa() == Isa::avx2) return avx2::moments(h, {a.m.x, a.m.y, a.m.u, a.m.v, a.n}, scale, out);
#endif
  baseline::moments(h, {a.m.x, a.m.y, a.m.u, a.m.v, a.n}, scale, out);
}

void multiply(const double* a, const double* b, double* out) {
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) out[3 * r + c] = a[3 * r] * b[c] + a[3 * r + 1] * b[3 + c] + a[3 * r + 2] * b[6 + c];
  }
}

void adjugate(const double* m, double* out) {
  out[0] = m[4] * m[8] - m[5] * m[7];
  out[1] = m[2] * m[7] - m[1] * m[8];
  out[2] = m[1] * m[5] - m[2] * m[4];
  out[3] = m[5] * m[6] - m[3] * m[8];
  out[4] = m[0] * m[8] - m[2] * m[6];
  out[5] = m[2] * m[3] - m[0] * m[5];
  out[6] = m[3] * m[7] - m[4] * m[6];
  out[7] = m[1] * m[6] - m[0] * m[7];
  out[8] = m[0] * m[4] - m[1] * m[3];
}

/// Whether a hand-held camera could have moved so within one frame.
bool plausible(const double* h) {
  for (int i = 0; i < 9; ++i) {
    if (!std::isfinite(h[i])) return false;
  }
  if (std::abs(h[8]) < 1e-6) return false;
  const double a = h[0] / h[8], b = h[1] / h[8], c = h[3] / h[8], d = h[4] / h[8];
  const double p = 0.5 * std::hypot(a + d, b - c), q = 0.5 * std::hypot(a - d, b + c);  // singular values p + q, p - q
  const double det = a * d - b * c;
  return det > 0 && p - q > 0.8 && p + q < 1.25 && std::abs(h[6] / h[8]) < 0.25 && std::abs(h[7] / h[8]) < 0.25 &&
         std::abs(h[2] / h[8]) < 0.5 && std::abs(h[5] / h[8]) < 0.5;
}

/// Columns proportional to the first three points, scaled so that their sum is the fourth: the projective basis.
bool projective_basis(const double* x, const double* y, const int* id, double* out) {
  const double m[9] = {x[id[0]], x[id[1]], x[id[2]], y[id[0]], y[id[1]], y[id[2]], 1, 1, 1};
  double inverse[9];
  adjugate(m, inverse);
  if (std::abs(inverse[6] * m[2] + inverse[7] * m[5] + inverse[8]) < 2e-4) return false;  // twice the triangle's area
  for (int k = 0; k < 3; ++k) {
    const double share = inverse[3 * k] * x[id[3]] + inverse[3 * k + 1] * y[id[3]] + inverse[3 * k + 2];
    if (std::abs(share) < 2e-4) return false;
    for (int r = 0; r < 3; ++r) out[3 * r + k] = m[3 * r + k] * share;
  }
  return true;
}

/// The motion that takes the sampled matches exactly from here to there.
bool through_sample(Model model, const FitMemory& m, const int* id, double* h) {
  if (model == Model::homography) {
    double here[9], there[9], inverse[9];
    if (!projective_basis(m.x, m.y, id, here) || !projective_basis(m.u, m.v, id, there)) return false;
    adjugate(here, inverse);
    multiply(there, inverse, h);
    if (std::abs(h[8]) < 1e-12) return false;
    for (int i = 0; i < 9; ++i) h[i] /= i < 8 ? h[8] : 1.0;
    h[8] = 1;
    return true;
  }
  h[6] = h[7] = 0;
  h[8] = 1;
  const double x0 = m.x[id[0]], y0 = m.y[id[0]], u0 = m.u[id[0]], v0 = m.v[id[0]];
  const double ax = m.x[id[1]] - x0, ay = m.y[id[1]] - y0, au = m.u[id[1]] - u0, av = m.v[id[1]] - v0;
  if (model == Model::similarity) {
    const double length = ax * ax + ay * ay;
    if (length < 1e-4) return false;
    h[0] = h[4] = (ax * au + ay * av) / length;
    h[3] = (ax * av - ay * au) / length;
    h[1] = -h[3];
  } else {
    const double bx = m.x[id[2]] - x0, by = m.y[id[2]] - y0, bu = m.u[id[2]] - u0, bv = m.v[id[2]] - v0;
    const double det = ax * by - ay * bx;
    if (std::abs(det) < 2e-4) return false;
    h[0] = (au * by - bu * ay) / det;
    h[1] = (bu * ax - au * bx) / det;
    h[3] = (av * by - bv * ay) / det;
    h[4] = (bv * ax - av * bx) / det;
  }
  h[2] = u0 - h[0] * x0 - h[1] * y0;
  h[5] = v0 - h[3] * x0 - h[4] * y0;
  return true;
}

/// Cholesky factor in place of the lower half of a k x k matrix in rows of 8.
bool factor(double (&a)[8][8], int k) {
  for (int j = 0; j < k; ++j) {
    for (int i = j; i < k; ++i) {
      double s = a[i][j];
      for (int l = 0; l < j; ++l) s -= a[i][l] * a[j][l];
      if (i == j) {
        if (!(s > 0)) return false;
        a[j][j] = std::sqrt(s);
      } else {
        a[i][j] = s / a[j][j];
      }
    }
  }
  return true;
}

void solve_lower(const double (&a)[8][8], int k, double* b) {
  for (int i = 0; i < k; ++i) {
    for (int l = 0; l < i; ++l) b[i] -= a[i][l] * b[l];
    b[i] /= a[i][i];
  }
}

void solve_upper(const double (&a)[8][8], int k, double* b) {
  for (int i = k; i-- > 0;) {
    for (int l = i + 1; l < k; ++l) b[i] -= a[l][i] * b[l];
    b[i] /= a[i][i];
  }
}

/// Normal matrix and gradient of the directions from the sums of moments().
void normal_equations(const double* sums, int k, double (&normal)[8][8], double (&gradient)[8]) {
  // Error times monomial: 1, x, y, x^2, xy across; 1, x, y, xy, y^2 down.
  const double across[6] = {sums[15], sums[16], sums[17], sums[18], sums[19], 0};
  const double down[6] = {sums[20], sums[21], sums[22], 0, sums[23], sums[24]};
  for (int a = 0; a < k; ++a) {
    gradient[a] = 0;
    for (int i = 0; i < 6; ++i) gradient[a] += kAcross[a][i] * across[i] + kDown[a][i] * down[i];
    for (int b = 0; b <= a; ++b) {
      double total = 0;
      for (int i = 0; i < 6; ++i) {
        for (int j = 0; j < 6; ++j) {
          const double share = kAcross[a][i] * kAcross[b][j] + kDown[a][i] * kDown[b][j];
          if (share != 0) {
            total += share * sums[moment_at(kPowers[i][0] + kPowers[j][0], kPowers[i][1] + kPowers[j][1])];
          }
        }
      }
      normal[a][b] = total;
    }
    normal[a][a] += 1e-12;
  }
}

/// One step of reweighted least squares from h; false when the equations break down. Gives the size of the step.
bool refit_step(int k, const Matches& all, double sigma, double* h, double (&normal)[8][8], double (&sums)[26],
                double& largest) {
  double gradient[8];
  weighted_moments(h, all, kRefitScale * kRefitScale * sigma * sigma, sums);
  normal_equations(sums, k, normal, gradient);
  if (!factor(normal, k)) return false;
  solve_lower(normal, k, gradient);
  solve_upper(normal, k, gradient);
  // I + step lies in each model's group up to scale: no exponential is needed to move in it.
  double step[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, next[9];
  largest = 0;
  for (int a = 0; a < k; ++a) {
    largest = std::max(largest, std::abs(gradient[a]));
    for (int i = 0; i < 9; ++i) step[i] -= gradient[a] * kDirections[a][i];
  }
  multiply(step, h, next);
  for (int i = 0; i < 9; ++i) h[i] = next[i] / next[8];
  return std::isfinite(largest);
}

/// Median distance of the matches within `gate`: of all of them in an ordinary pair, of the part that a hypothesis
/// explains where outliers are the majority.
double median_error(const Matches& all, double gate) {
  int count = 0;
  for (int i = 0; i < all.n; ++i) {
    if (all.m.squared[i] < gate * gate) all.m.sorted[count++] = all.m.squared[i];
  }
  if (count < 4) {
    std::copy_n(all.m.squared, all.n, all.m.sorted);
    count = all.n;
  }
  std::nth_element(all.m.sorted, all.m.sorted + count / 2, all.m.sorted + count);
  return std::sqrt(all.m.sorted[count / 2]);
}

double median(double* values, int n) {
  std::nth_element(values, values + n / 2, values + n);
  const double upper = values[n / 2];
  return n % 2 == 1 ? upper : 0.5 * (upper + *std::max_element(values, values + n / 2));
}

int search(Model model, const Matches& all, double threshold, const FitOptions& options, double* best_h) {
  const int n = all.n, needed = kSampleSize[static_cast<int>(model)];
  const double most = threshold * threshold;
  Random random{options.seed * 2654435761u + 12345u};
  if (random.state == 0) random.state = 1;
  double best = std::numeric_limits<double>::infinity();
  int rounds = std::max(options.hypotheses, 1), round = 0;
  for (; round < rounds; ++round) {
    if (round % 16 == 0 && cancelled()) return 0;
    int id[4];
    for (int i = 0; i < needed; ++i) {
      bool again = true;
      while (again) {
        id[i] = static_cast<int>(random(static_cast<std::uint32_t>(n)));
        again = std::find(id, id + i, id[i]) != id + i;
      }
    }
    double h[9];
    if (!through_sample(model, all.m, id, h) || !plausible(h)) continue;
    const int probe = std::min(n, kProbe);
    double cost = score(h, all, 0, probe, most);
    if (!(cost < best)) continue;
    if (n > probe) cost += score(h, all, probe, n, most);
    if (!(cost < best)) continue;
    // A sample of noisy points is bent; two steps of least squares about it are less so.
    double polished[9], sums[26], normal[8][8], size;
    std::copy_n(h, 9, polished);
    const double sigma = threshold / kRefitScale;
    const int k = kFreedom[static_cast<int>(model)];
    if (refit_step(k, all, sigma, polished, normal, sums, size) &&
        refit_step(k, all, sigma, polished, normal, sums, size) && plausible(polished)) {
      const double better = score(polished, all, 0, n, most);
      if (better < cost) {
        cost = better;
        std::copy_n(polished, 9, h);
      }
    }
    best = cost;
    std::copy_n(h, 9, best_h);
    squared_errors(h, all);
    const auto agreeing = std::count_if(all.m.squared, all.m.squared + n, [most](double e) { return e < most; });
    const double miss = 1.0 - std::pow(static_cast<double>(agreeing) / n, needed);
    const int enough = miss <= 0 ? 1 : static_cast<int>(std::min(1e6, std::log(kMissRate) / std::log(miss))) + 1;
    rounds = std::min(rounds, std::max(enough, 10));
  }
  return std::isfinite(best) ? round : 0;
}

}  // namespace

std::size_t fit_workspace_size(std::size_t matches) noexcept {
  if (matches > kMostFitted) return 0;
  Arena counter;
  lay_out_fit(matches, counter);
  return counter.size();
}

Status fit_motion(std::span<const float> here, std::span<const float> there, int width, int height,
                  const FitOptions& options, std::span<std::byte> workspace, std::span<std::uint8_t> inlier,
                  FitResult& result) noexcept {
  result = FitResult{};
  const std::size_t size = here.size() / 2;
  const int k = options.model < Model::homography || options.model > Model::translation
                    ? 0
                    : kFreedom[static_cast<int>(options.model)];
  if (here.size() != 2 * size || there.size() != 2 * size || inlier.size() != size || width < 1 || height < 1 ||
      k == 0 || size > kMostFitted || !(options.threshold_px > 0) || !(options.least_sigma_px > 0)) {
    return Status::invalid_argument;
  }
  Arena arena(workspace);
  const FitMemory m = lay_out_fit(size, arena);
  if (arena.overflowed()) return Status::workspace_too_small;
  for (const auto& values : {here, there}) {
    for (const float x : values) {
      if (!std::isfinite(x)) return Status::not_finite;
    }
  }
  std::fill(inlier.begin(), inlier.end(), std::uint8_t{0});
  const int n = static_cast<int>(size);
  if (n < kSampleSize[static_cast<int>(options.model)]) return Status::ok;

  // The order of the matches is shuffled, so that the first of them stand for all.
  Random random{options.seed | 1u};
  for (int i = 0; i < n; ++i) m.order[i] = i;
  for (int i = n - 1; i > 0; --i) std::swap(m.order[i], m.order[random(static_cast<std::uint32_t>(i + 1))]);
  const double unit = 1.0 / width, cx = 0.5 * (width - 1), cy = 0.5 * (height - 1);
  for (int i = 0; i < (n + 7) / 8 * 8; ++i) {
    const auto from = static_cast<std::size_t>(2 * m.order[std::min(i, n - 1)]);
    m.x[i] = (here[from] - cx) * unit;
    m.y[i] = (here[from + 1] - cy) * unit;
    m.u[i] = (there[from] - cx) * unit;
    m.v[i] = (there[from + 1] - cy) * unit;
  }
  const Matches all{m, n};
  double h[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  if (options.model == Model::translation) {
    for (int i = 0; i < n; ++i) m.sorted[i] = m.u[i] - m.x[i];
    h[2] = median(m.sorted, n);
    for (int i = 0; i < n; ++i) m.sorted[i] = m.v[i] - m.y[i];
    h[5] = median(m.sorted, n);
  } else {
    result.hypotheses = search(options.model, all, options.threshold_px * unit, options, h);
    if (result.hypotheses == 0) return outcome();
  }
  if (!plausible(h)) return Status::ok;

  const double floor = options.least_sigma_px * unit;
  double sums[26], normal[8][8], sigma = floor;
  for (int step = 0; step < kRefitSteps; ++step) {
    squared_errors(h, all);
    sigma = std::max(1.4826 * median_error(all, kGate * options.threshold_px * unit),
                     floor);  // falls while the fit improves, which anneals the cost
    double largest;
    if (!refit_step(k, all, sigma, h, normal, sums, largest)) return Status::ok;
    if (largest < kRefitStop) break;
  }
  if (!plausible(h)) return Status::ok;
  squared_errors(h, all);
  const double limit = kInlierScale * sigma;
  int count = 0;
  for (int i = 0; i < n; ++i) {
    const bool agrees = m.squared[i] <= limit * limit;
    inlier[static_cast<std::size_t>(m.order[i])] = agrees;
    if (agrees) m.sorted[count++] = m.squared[i];
  }
  if (count == 0) return Status::ok;
  std::nth_element(m.sorted, m.sorted + count / 2, m.sorted + count);
  result.residual_px = std::sqrt(m.sorted[count / 2]) * width;
  result.inliers = count;
  // No match is better than the floor says: few of them in a line agree with anything.
  const double variance = std::max(sums[25] / (2 * sums[0]), floor * floor);
  double rows[8][8] = {};  // how the corners' coordinates move with the parameters, in units of their deviation
  for (int corner = 0; corner < 4; ++corner) {
    const double x = corner % 2 == 0 ? -0.5 : 0.5, y = (corner < 2 ? -0.5 : 0.5) * height / width;
    const double monomial[6] = {1, x, y, x * x, x * y, y * y};
    double *across = rows[2 * corner], *down = rows[2 * corner + 1];
    for (int a = 0; a < k; ++a) {
      for (int i = 0; i < 6; ++i) {
        across[a] += kAcross[a][i] * monomial[i];
        down[a] += kDown[a][i] * monomial[i];
      }
    }
    solve_lower(normal, k, across);
    solve_lower(normal, k, down);
  }
  double spread = 0;
  for (int i = 0; i < 8; ++i) {
    for (int j = 0; j < 8; ++j) {
      double total = 0;
      for (int a = 0; a < k; ++a) total += rows[i][a] * rows[j][a];
      result.corner_covariance[8 * i + j] = variance * total * width * width;
    }
    spread += result.corner_covariance[9 * i];
  }
  result.corner_sd_px = std::sqrt(spread / 4);
  if (!std::isfinite(result.corner_sd_px)) return Status::ok;
  // Back to pixels: T^-1 H T with T = [[unit, 0, -cx unit], [0, unit, -cy unit], [0, 0, 1]].
  const double to_units[9] = {unit, 0, -cx * unit, 0, unit, -cy * unit, 0, 0, 1};
  const double to_pixels[9] = {static_cast<double>(width), 0, cx, 0, static_cast<double>(width), cy, 0, 0, 1};
  double half[9];
  multiply(h, to_units, half);
  multiply(to_pixels, half, result.matrix);
  for (int i = 0; i < 8; ++i) result.matrix[i] /= result.matrix[8];
  result.matrix[8] = 1;
  result.found = true;
  return Status::ok;
}

}  // namespace legato::video
