// The interior point of the banded program (camera.hpp: BandedProblem). Compiled once per ISA region.
//
// Every L1 term w |r| is split, r = s+ - s-, with the multiplier y in [-w, w] and z+ = w - y, z- = w + y; every
// inequality has a slack s and a multiplier z. Eliminating all of them exactly leaves one positive definite system in b
// with 8 x 8 blocks and half-bandwidth 3. z+ and z- are both stored: w - y would cancel.
#include "lanes-inl.h"

#include "banded-inl.h"

namespace legato::LEGATO_REGION {

using math::LaneMask;
using math::load;

/// State of the L1 terms of one group: eight components of one derivative, or the ninth components of all three.
struct L1Terms {
  Lanes s_plus, s_minus, z_plus, z_minus;
  Lanes ds_plus, ds_minus, dy;
};

struct Inequality {
  Lanes s, z, ds, dz;
};

constexpr int kDerivatives = 3;
constexpr int kGroups = kDerivatives + 1;  // the last group: lane k is the ninth component of derivative k
constexpr double kBinomial[kDerivatives][4] = {{1, -1, 0, 0}, {1, -2, 1, 0}, {1, -3, 3, -1}};

struct FrameTerms {
  L1Terms l1[kGroups];
  Inequality high, low;  // the box
};

/// What the condensed system takes from the L1 terms of a frame, the ninth component folded into the first two.
struct FrameCurvature {
  Lanes weight[kDerivatives];  // D_k
  Lanes shift[kDerivatives];   // q_k
  double tie[kDerivatives];    // D of the ninth component: couples variables 0 and 1
};

/// Eight rows of one frame, stored twice: by variable (lanes are rows) and by row (lanes are variables).
struct RowBlock {
  Lanes by_variable[kBlock];
  Lanes by_row[kBlock];
};

struct InteriorMemory {
  Lanes* b;                       // n + 3: three pinned frames, then the free ones
  Lanes* saved;                   // n
  Lanes* step;                    // n + 6: three zeros, the direction, room for the solve
  Lanes* gradient;                // n
  Lanes* right;                   // n
  Lanes* constant[kDerivatives];  // n each: e_k without the b of this problem
  FrameTerms* terms;              // n
  FrameCurvature* curvature;      // n + 3, zero past the end
  Inequality* rows;               // n x row blocks
  RowBlock* row_blocks;           // 1 or n, x row blocks
  Lanes* row_bound;               // n x row blocks
  Lanes* quadratic;               // 1 or n, x 8
  Lanes* quadratic_inverse;       // the same
  Panel* panels;                  // n
};

LEGATO_HD InteriorMemory lay_out(const BandedProblem& problem, Arena& arena) {
  const std::size_t n = problem.frames - problem.pinned;
  const std::size_t blocks = (problem.rows + kBlock - 1) / kBlock;
  const std::size_t row_frames = problem.row_matrix_stride == 0 ? 1 : n;
  const std::size_t quadratic_frames = problem.quadratic_stride == 0 ? 1 : n;
  InteriorMemory m;
  m.b = arena.take<Lanes>(n + 3);
  m.saved = arena.take<Lanes>(n);
  m.step = arena.take<Lanes>(n + 6);
  m.gradient = arena.take<Lanes>(n);
  m.right = arena.take<Lanes>(n);
  for (auto& line : m.constant) line = arena.take<Lanes>(n);
  m.terms = arena.take<FrameTerms>(n);
  m.curvature = arena.take<FrameCurvature>(n + 3);
  m.rows = arena.take<Inequality>(n * blocks);
  m.row_blocks = arena.take<RowBlock>(row_frames * blocks);
  m.row_bound = arena.take<Lanes>(n * blocks);
  m.quadratic = arena.take<Lanes>(quadratic_frames * kBlock);
  m.quadratic_inverse = arena.take<Lanes>(quadratic_frames * kBlock);
  m.panels = arena.take<Panel>(n);
  return m;
}

/// Inverse of a symmetric positive definite 8 x 8 matrix by Cholesky; false where it is not positive definite.
LEGATO_HD bool invert_positive(const double* a, Lanes* inverse) {
  double l[kBlock][kBlock] = {};
  for (int i = 0; i < kBlock; ++i) {
    for (int j = 0; j <= i; ++j) {
      double x = a[kBlock * i + j];
      for (int k = 0; k < j; ++k) x -= l[i][k] * l[j][k];
      if (i == j) {
        if (!(x > 0)) return false;
        l[i][i] = __builtin_sqrt(x);
      } else {
        l[i][j] = x / l[j][j];
      }
    }
  }
  for (int c = 0; c < kBlock; ++c) {
    double x[kBlock];
    for (int i = 0; i < kBlock; ++i) {
      x[i] = i == c ? 1.0 : 0.0;
      for (int k = 0; k < i; ++k) x[i] -= l[i][k] * x[k];
      x[i] /= l[i][i];
    }
    for (int i = kBlock - 1; i >= 0; --i) {
      for (int k = i + 1; k < kBlock; ++k) x[i] -= l[k][i] * x[k];
      x[i] /= l[i][i];
    }
    for (int i = 0; i < kBlock; ++i) inverse[c][i] = x[i];
  }
  return true;
}

class Interior {
 public:
  Interior(const BandedProblem& problem, const InteriorMemory& memory)
      : problem_(problem),
        m_(memory),
        n_(problem.frames - problem.pinned),
        blocks_((problem.rows + kBlock - 1) / kBlock) {}

  Status run(const SolverOptions& options, double* path, const double* fallback, SolverResult& result) {
    result = SolverResult{};
    if (n_ == 0) return Status::ok;
    if (!load_problem(path)) return Status::invalid_argument;
    for (std::size_t t = 0; t < n_; ++t) {
      const double* start = path + kBlock * (problem_.pinned + t);
      b(t) = load(start);
      if (!inside(t)) b(t) = fallback != nullptr ? load(fallback) : Lanes{};
      if (!inside(t)) {
        result.bad_frame = problem_.pinned + t;
        return Status::infeasible;
      }
    }
    const double start_objective = objective();
    const double scale = 1e-5 * start_objective;
    Status status = Status::iteration_limit;
    if (start_objective == 0.0 && problem_.linear == nullptr) {  // nothing is negative: this is the optimum
      status = Status::ok;
    } else {
      center(mu_start(start_objective));
      status = iterate(options, scale, result);
    }
    result.objective = objective();
    for (std::size_t t = 0; t < n_; ++t) {
      __builtin_memcpy(path + kBlock * (problem_.pinned + t), &b(t), sizeof(Lanes));
    }
    return status;
  }

 private:
  Lanes& b(std::size_t t) { return m_.b[t + 3]; }
  Lanes& step(std::size_t t) { return m_.step[t + 3]; }
  Inequality& row(std::size_t t, std::size_t g) { return m_.rows[t * blocks_ + g]; }
  const RowBlock& row_block(std::size_t t, std::size_t g) {
    return m_.row_blocks[(problem_.row_matrix_stride == 0 ? 0 : t) * blocks_ + g];
  }
  Lanes* quadratic(std::size_t t) { return m_.quadratic + (problem_.quadratic_stride == 0 ? 0 : t) * kBlock; }
  Lanes* quadratic_inverse(std::size_t t) {
    return m_.quadratic_inverse + (problem_.quadratic_stride == 0 ? 0 : t) * kBlock;
  }

  /// Lanes of group k that are real terms at free frame t: a derivative of order k+1 needs k+1 frames before it.
  const Lanes& active(std::size_t t, int group) {
    const std::size_t before = t + problem_.pinned;
    return active_[before < 3 ? before : 3][group];
  }

  bool load_problem(const double* path) {
    const BandedProblem& p = problem_;
    has_box_ = false;
    for (int i = 0; i < kBlock; ++i) {
      const bool bounded = p.lower[i] > -1e300 && p.upper[i] < 1e300;
      has_box_ = has_box_ || bounded;
      box_[i] = bounded ? 1.0 : 0.0;
      lower_[i] = bounded ? p.lower[i] : -1.0;
      upper_[i] = bounded ? p.upper[i] : 1.0;
    }
    for (std::size_t before = 0; before < 4; ++before) {
      for (int k = 0; k < kGroups; ++k) active_[before][k] = Lanes{};
      for (int k = 0; k < kDerivatives; ++k) {
        if (static_cast<std::size_t>(k) >= before) continue;
        for (int i = 0; i < kBlock; ++i) active_[before][k][i] = p.weights[k][i] > 0 ? 1.0 : 0.0;
        active_[before][kDerivatives][k] = p.weights[k][kBlock] > 0 ? 1.0 : 0.0;
      }
    }
    // A term that is absent keeps weight 1 and residual 0: it stays centered and moves nothing.
    weight_[kDerivatives] = constant<Lanes>(1.0);
    for (int k = 0; k < kDerivatives; ++k) {
      for (int i = 0; i < kBlock; ++i) weight_[k][i] = p.weights[k][i] > 0 ? p.weights[k][i] : 1.0;
      if (p.weights[k][kBlock] > 0) weight_[kDerivatives][k] = p.weights[k][kBlock];
    }
    pairs_ = 0;
    for (std::size_t t = 0; t < n_; ++t) {
      for (int k = 0; k < kGroups; ++k) pairs_ += 2 * math::sum(active(t, k));
    }
    pairs_ += static_cast<double>(n_) * (2 * math::sum(box_) + static_cast<double>(blocks_ * kBlock));

    for (std::size_t t = 0; t < n_; ++t) {
      Lanes v[3];  // v_t, v_{t-1}, v_{t-2}; those before the first are never used by an active term
      for (std::size_t j = 0; j < 3; ++j) {
        const std::size_t frame = t + p.pinned;
        v[j] = frame >= j + 1 ? load(p.velocity + kBlock * (frame - j)) : Lanes{};
      }
      m_.constant[0][t] = v[0];
      m_.constant[1][t] = v[0] - v[1];
      m_.constant[2][t] = v[0] - v[1] - v[1] + v[2];
    }
    const std::size_t quadratics = p.quadratic_stride == 0 ? 1 : n_;
    for (std::size_t t = 0; t < quadratics; ++t) {
      const double* q = p.quadratic + (p.quadratic_stride == 0 ? 0 : (t + p.pinned) * p.quadratic_stride);
      for (int c = 0; c < kBlock; ++c) m_.quadratic[t * kBlock + c] = load(q + kBlock * c);
      if (!invert_positive(q, m_.quadratic_inverse + t * kBlock)) return false;
    }
    const std::size_t row_frames = p.row_matrix_stride == 0 ? 1 : n_;
    for (std::size_t t = 0; t < row_frames; ++t) {
      const double* matrix = p.row_matrix + (p.row_matrix_stride == 0 ? 0 : (t + p.pinned) * p.row_matrix_stride);
      for (std::size_t g = 0; g < blocks_; ++g) {
        RowBlock& block = m_.row_blocks[t * blocks_ + g];
        for (int r = 0; r < kBlock; ++r) {
          const std::size_t index = g * kBlock + static_cast<std::size_t>(r);
          block.by_row[r] = index < p.rows ? load(matrix + kBlock * index) : Lanes{};
          for (int i = 0; i < kBlock; ++i) block.by_variable[i][r] = block.by_row[r][i];
        }
      }
    }
    for (std::size_t t = 0; t < n_; ++t) {
      const double* bound = p.row_bound + (p.row_bound_stride == 0 ? 0 : (t + p.pinned) * p.row_bound_stride);
      for (std::size_t g = 0; g < blocks_; ++g) {
        Lanes& h = m_.row_bound[t * blocks_ + g];
        for (int r = 0; r < kBlock; ++r) {  // no bound is a bound that is never near; padding is 0'b <= 1
          const std::size_t index = g * kBlock + static_cast<std::size_t>(r);
          h[r] = index < p.rows ? (bound[index] < kNoBound ? bound[index] : kNoBound) : 1.0;
        }
      }
    }
    for (std::size_t j = 0; j < 3; ++j) {
      m_.b[j] = p.pinned + j >= 3 ? load(path + kBlock * (p.pinned + j - 3)) : Lanes{};
      m_.step[j] = Lanes{};
      m_.curvature[n_ + j] = FrameCurvature{};
    }
    return true;
  }

  Lanes row_values(std::size_t t, std::size_t g, Lanes x) {
    const RowBlock& block = row_block(t, g);
    Lanes sum{};
    for (int i = 0; i < kBlock; ++i) sum += block.by_variable[i] * x[i];
    return sum;
  }
  Lanes rows_transposed(std::size_t t, std::size_t g, Lanes y) {
    const RowBlock& block = row_block(t, g);
    Lanes sum{};
    for (int r = 0; r < kBlock; ++r) sum += block.by_row[r] * y[r];
    return sum;
  }

  /// Derivative k of x at t; x points at free frame 0 and has three entries before it.
  static Lanes difference(int k, const Lanes* x, std::size_t t) {
    const Lanes* at = x + t;
    if (k == 0) return at[0] - at[-1];
    if (k == 1) return at[0] - 2.0 * at[-1] + at[-2];
    return at[0] - 3.0 * at[-1] + 3.0 * at[-2] - at[-3];
  }
  /// The four groups' differences of x at t; group 3 holds the sums of the first two components.
  static void differences(const Lanes* x, std::size_t t, Lanes (&out)[kGroups]) {
    out[kDerivatives] = Lanes{};
    for (int k = 0; k < kDerivatives; ++k) {
      out[k] = difference(k, x, t);
      out[kDerivatives][k] = out[k][0] + out[k][1];
    }
  }
  /// e_k(t), zero in lanes that are no terms.
  void residuals(std::size_t t, Lanes (&out)[kGroups]) {
    out[kDerivatives] = Lanes{};
    for (int k = 0; k < kDerivatives; ++k) {
      const Lanes e = difference(k, m_.b + 3, t) + m_.constant[k][t];
      out[k] = e * active(t, k);
      out[kDerivatives][k] = (e[0] + e[1]) * active(t, kDerivatives)[k];
    }
  }

  bool inside(std::size_t t) {
    const Lanes x = b(t);
    LaneMask outside = (upper_ - x <= Lanes{}) | (x - lower_ <= Lanes{});
    outside = outside & (box_ > Lanes{});
    for (std::size_t g = 0; g < blocks_; ++g) {
      outside = outside | ~(m_.row_bound[t * blocks_ + g] - row_values(t, g, x) > Lanes{});
    }
    return !math::any(outside) && !math::any(x != x);
  }

  double objective() {
    double total = 0;
    for (std::size_t t = 0; t < n_; ++t) {
      const Lanes x = b(t);
      Lanes product{};
      for (int c = 0; c < kBlock; ++c) product += quadratic(t)[c] * x[c];
      Lanes cost = 0.5 * product * x;
      if (problem_.linear != nullptr) {
        cost += load(problem_.linear + kBlock * (t + problem_.pinned)) * x;
      }
      Lanes e[kGroups];
      residuals(t, e);
      for (int k = 0; k < kGroups; ++k) cost += weight_[k] * math::magnitude(e[k]);
      total += math::sum(cost);
    }
    return total;
  }

  double mu_start(double start_objective) const {
    const double mu = 10.0 * start_objective / (27.0 * static_cast<double>(n_));
    return mu > 1e-12 ? mu : 1e-12;
  }

  /// Puts every slack and multiplier on the central path of `mu` for the present b. The split r = s+ - s- then holds
  /// exactly and goes on to hold: only the gradient is left to bring to zero.
  void center(double mu_value) {
    const Lanes mu = constant<Lanes>(mu_value);
    for (std::size_t t = 0; t < n_; ++t) {
      Lanes e[kGroups];
      residuals(t, e);
      for (int k = 0; k < kGroups; ++k) {
        L1Terms& a = m_.terms[t].l1[k];
        const Lanes w = weight_[k], size = math::magnitude(e[k]);
        const Lanes root = math::square_root(mu * mu + size * size * w * w);
        const Lanes y = size * w * w / (mu + root);
        const Lanes big = (mu + root + size * w) / (w + w), small = mu / (w + y);
        const LaneMask negative = e[k] < Lanes{};
        a.s_plus = math::select(negative, small, big);
        a.s_minus = math::select(negative, big, small);
        a.z_plus = mu / a.s_plus;
        a.z_minus = mu / a.s_minus;
        a.ds_plus = a.ds_minus = a.dy = Lanes{};
      }
      const Lanes x = b(t);
      Inequality &high = m_.terms[t].high, &low = m_.terms[t].low;
      const Lanes one = constant<Lanes>(1.0);
      high.s = math::select(box_ > Lanes{}, upper_ - x, one);
      low.s = math::select(box_ > Lanes{}, x - lower_, one);
      high.z = mu / high.s;
      low.z = mu / low.s;
      high.ds = high.dz = low.ds = low.dz = Lanes{};
      for (std::size_t g = 0; g < blocks_; ++g) {
        Inequality& a = row(t, g);
        a.s = m_.row_bound[t * blocks_ + g] - row_values(t, g, x);
        a.z = mu / a.s;
        a.ds = a.dz = Lanes{};
      }
    }
  }

  /// sum s z, after a trial step of lengths (primal, dual).
  double complementarity(double primal, double dual) {
    double total = 0;
    for (std::size_t t = 0; t < n_; ++t) {
      const FrameTerms& f = m_.terms[t];
      Lanes sum{};
      for (int k = 0; k < kGroups; ++k) {
        const L1Terms& a = f.l1[k];
        sum += active(t, k) * ((a.s_plus + primal * a.ds_plus) * (a.z_plus - dual * a.dy) +
                               (a.s_minus + primal * a.ds_minus) * (a.z_minus + dual * a.dy));
      }
      if (has_box_) {
        sum += box_ * ((f.high.s + primal * f.high.ds) * (f.high.z + dual * f.high.dz) +
                       (f.low.s + primal * f.low.ds) * (f.low.z + dual * f.low.dz));
      }
      for (std::size_t g = 0; g < blocks_; ++g) {
        const Inequality& a = row(t, g);
        sum += (a.s + primal * a.ds) * (a.z + dual * a.dz);
      }
      total += math::sum(sum);
    }
    return total;
  }

  /// Gradient of the Lagrangian; returns 1/2 gradient' Q^-1 gradient, its share of the certified gap.
  double update_gradient() {
    double total = 0;
    for (std::size_t t = 0; t < n_; ++t) {
      const Lanes x = b(t);
      const FrameTerms& f = m_.terms[t];
      Lanes gradient{};
      for (int c = 0; c < kBlock; ++c) gradient += quadratic(t)[c] * x[c];
      if (problem_.linear != nullptr) gradient += load(problem_.linear + kBlock * (t + problem_.pinned));
      if (has_box_) gradient += box_ * (f.high.z - f.low.z);
      for (std::size_t g = 0; g < blocks_; ++g) gradient += rows_transposed(t, g, row(t, g).z);
      for (int k = 0; k < kDerivatives; ++k) {
        for (int j = 0; j <= k + 1; ++j) {
          const std::size_t at = t + static_cast<std::size_t>(j);
          if (at < n_) gradient += kBinomial[k][j] * multiplier(at, k);
        }
      }
      m_.gradient[t] = gradient;
      Lanes product{};
      for (int c = 0; c < kBlock; ++c) product += quadratic_inverse(t)[c] * gradient[c];
      total += math::sum(product * gradient);
    }
    return 0.5 * total;
  }

  /// y of derivative k at t with the ninth component folded into the first two.
  Lanes multiplier(std::size_t t, int k) {
    const FrameTerms& f = m_.terms[t];
    Lanes y = 0.5 * (f.l1[k].z_minus - f.l1[k].z_plus) * active(t, k);
    const L1Terms& ninth = f.l1[kDerivatives];
    const double tied = 0.5 * (ninth.z_minus[k] - ninth.z_plus[k]) * active(t, kDerivatives)[k];
    y[0] += tied;
    y[1] += tied;
    return y;
  }

  /// Curvature (predictor only), shifts and right-hand side. The complementarity target is -s z for the predictor and
  /// mu - s z - ds dz for the corrector.
  template <bool corrector>
  void build(double mu_value) {
    const Lanes mu = constant<Lanes>(mu_value);
    for (std::size_t t = 0; t < n_; ++t) {
      FrameTerms& f = m_.terms[t];
      FrameCurvature& c = m_.curvature[t];
      Lanes weight[kGroups], shift[kGroups];
      for (int k = 0; k < kGroups; ++k) {
        const L1Terms& a = f.l1[k];
        const Lanes inverse_plus = 1.0 / a.z_plus, inverse_minus = 1.0 / a.z_minus;
        // 1e-12 keeps the weight finite when both slacks run to zero.
        weight[k] = active(t, k) / (a.s_plus * inverse_plus + a.s_minus * inverse_minus + 1e-12);
        Lanes plus = -a.s_plus, minus = -a.s_minus;
        if constexpr (corrector) {
          plus += (mu + a.ds_plus * a.dy) * inverse_plus;
          minus += (mu - a.ds_minus * a.dy) * inverse_minus;
        }
        shift[k] = weight[k] * (minus - plus);
      }
      for (int k = 0; k < kDerivatives; ++k) {
        c.weight[k] = weight[k];
        c.shift[k] = shift[k];
        c.tie[k] = weight[kDerivatives][k];
        for (int i = 0; i < 2; ++i) {
          c.weight[k][i] += c.tie[k];
          c.shift[k][i] += shift[kDerivatives][k];
        }
      }
      Lanes right = -m_.gradient[t];
      if (has_box_) right -= box_ * (force<corrector>(f.high, mu) - force<corrector>(f.low, mu));
      for (std::size_t g = 0; g < blocks_; ++g) right -= rows_transposed(t, g, force<corrector>(row(t, g), mu));
      m_.right[t] = right;
    }
    for (std::size_t t = 0; t < n_; ++t) {
      Lanes sum = m_.right[t];
      for (int k = 0; k < kDerivatives; ++k) {
        for (int j = 0; j <= k + 1; ++j) {
          sum -= kBinomial[k][j] * m_.curvature[t + static_cast<std::size_t>(j)].shift[k];
        }
      }
      step(t) = sum;
    }
  }

  /// The target divided by s.
  template <bool corrector>
  static Lanes force(const Inequality& a, Lanes mu) {
    if constexpr (corrector) return (mu - a.ds * a.dz) / a.s - a.z;
    return -a.z;
  }

  /// Block column t of the condensed matrix.
  void condensed_column(std::size_t t, BlockColumn& out) {
    for (int c = 0; c < kBlock; ++c) {
      out.column[c][0] = quadratic(t)[c];
      for (int m = 1; m < kReach; ++m) out.column[c][m] = Lanes{};
    }
    for (int m = 0; m < kReach; ++m) {
      Lanes diagonal{};
      double tie = 0;
      for (int k = 0; k < kDerivatives; ++k) {
        for (int j = 0; j + m <= k + 1; ++j) {
          const double both = kBinomial[k][j] * kBinomial[k][j + m];
          const FrameCurvature& c = m_.curvature[t + static_cast<std::size_t>(m + j)];
          diagonal += both * c.weight[k];
          tie += both * c.tie[k];
        }
      }
      if (m == 0 && has_box_) {
        const FrameTerms& f = m_.terms[t];
        diagonal += box_ * (f.high.z / f.high.s + f.low.z / f.low.s);
      }
      if (m > 0 && t + static_cast<std::size_t>(m) >= n_) break;
      for (int c = 0; c < kBlock; ++c) out.column[c][m][c] += diagonal[c];
      out.column[0][m][1] += tie;
      out.column[1][m][0] += tie;
    }
    for (std::size_t g = 0; g < blocks_; ++g) {
      const RowBlock& block = row_block(t, g);
      const Lanes stiffness = row(t, g).z / row(t, g).s;
      for (int c = 0; c < kBlock; ++c) {
        const Lanes scaled = stiffness * block.by_variable[c];
        Lanes sum = out.column[c][0];
        for (int r = 0; r < kBlock; ++r) sum += block.by_row[r] * scaled[r];
        out.column[c][0] = sum;
      }
    }
  }

  /// All directions from the step in b; the longest primal and dual steps that keep slacks and multipliers at zero
  /// or above.
  template <bool corrector>
  void directions(double mu_value, double& primal, double& dual) {
    const Lanes mu = constant<Lanes>(mu_value);
    Lanes shrink_s{}, shrink_z{};  // largest -ds/s and -dz/z
    const auto move = [&](Inequality& a, Lanes ds) {
      const Lanes dz = force<corrector>(a, mu) - a.z * ds / a.s;
      a.ds = ds;
      a.dz = dz;
      shrink_s = math::larger(shrink_s, -ds / a.s);
      shrink_z = math::larger(shrink_z, -dz / a.z);
    };
    for (std::size_t t = 0; t < n_; ++t) {
      FrameTerms& f = m_.terms[t];
      Lanes change[kGroups];
      differences(m_.step + 3, t, change);
      for (int k = 0; k < kGroups; ++k) {
        L1Terms& a = f.l1[k];
        const Lanes inverse_plus = 1.0 / a.z_plus, inverse_minus = 1.0 / a.z_minus;
        const Lanes weight = active(t, k) / (a.s_plus * inverse_plus + a.s_minus * inverse_minus + 1e-12);
        Lanes plus = -a.s_plus, minus = -a.s_minus;
        if constexpr (corrector) {
          plus += (mu + a.ds_plus * a.dy) * inverse_plus;
          minus += (mu - a.ds_minus * a.dy) * inverse_minus;
        }
        const Lanes dy = weight * (change[k] + minus - plus);
        a.dy = dy;
        a.ds_plus = plus + a.s_plus * dy * inverse_plus;
        a.ds_minus = minus - a.s_minus * dy * inverse_minus;
        shrink_s = math::larger(shrink_s, math::larger(-a.ds_plus / a.s_plus, -a.ds_minus / a.s_minus));
        shrink_z = math::larger(shrink_z, math::larger(dy * inverse_plus, -dy * inverse_minus));
      }
      const Lanes x = step(t);
      if (has_box_) {
        move(f.high, -x * box_);
        move(f.low, x * box_);
      }
      for (std::size_t g = 0; g < blocks_; ++g) move(row(t, g), -row_values(t, g, x));
    }
    const double s = math::largest(shrink_s), z = math::largest(shrink_z);
    primal = s > 1.0 ? 1.0 / s : 1.0;
    dual = z > 1.0 ? 1.0 / z : 1.0;
  }

  void advance(double primal, double dual) {
    for (std::size_t t = 0; t < n_; ++t) b(t) += primal * step(t);
    for (std::size_t t = 0; t < n_; ++t) {
      FrameTerms& f = m_.terms[t];
      Lanes e[kGroups];
      residuals(t, e);
      for (int k = 0; k < kGroups; ++k) {
        L1Terms& a = f.l1[k];
        a.s_plus += primal * a.ds_plus;
        a.s_minus += primal * a.ds_minus;
        a.z_plus -= dual * a.dy;
        a.z_minus += dual * a.dy;
        // Rounding makes the split drift from r; what is missing goes to the side that can take it.
        const Lanes drift = e[k] - (a.s_plus - a.s_minus);
        a.s_plus += math::larger(drift, Lanes{});
        a.s_minus += math::larger(-drift, Lanes{});
      }
      for (Inequality* a : {&f.high, &f.low}) {
        a->s += primal * a->ds;
        a->z += dual * a->dz;
      }
      for (std::size_t g = 0; g < blocks_; ++g) {
        Inequality& a = row(t, g);
        a.s += primal * a.ds;
        a.z += dual * a.dz;
      }
    }
  }

  Status iterate(const SolverOptions& options, double scale, SolverResult& result) {
    double products = complementarity(0, 0);
    double defect = update_gradient();
    double value = objective();
    for (int iteration = 0;; ++iteration) {
      result.iterations = iteration;
      result.gap = products + defect;
      if (result.gap <= options.tolerance * (value > scale ? value : scale)) return Status::ok;
      if (iteration >= options.max_iterations) return Status::iteration_limit;

      const double mu = products / pairs_;
      double primal, dual;
      build<false>(0.0);
      factor_banded(n_, m_.panels, [this](std::size_t t, BlockColumn& out) { condensed_column(t, out); });
      solve_banded_system(n_, m_.panels, m_.step + 3);
      directions<false>(0.0, primal, dual);
      const double ratio = complementarity(primal, dual) / pairs_ / mu;
      double sigma = ratio * ratio * ratio;
      sigma = sigma < 1e-6 ? 1e-6 : sigma > 1.0 ? 1.0 : sigma;
      build<true>(sigma * mu);
      solve_banded_system(n_, m_.panels, m_.step + 3);
      directions<true>(sigma * mu, primal, dual);
      primal *= kStepShare;
      dual *= kStepShare;
      if (!(primal > 1e-12)) return Status::numerical_trouble;  // NaN too

      for (std::size_t t = 0; t < n_; ++t) m_.saved[t] = b(t);
      const double old_gap = result.gap;
      advance(primal, dual);
      products = complementarity(0, 0);
      defect = update_gradient();
      value = objective();
      if (!(products < 1e300) || !(defect < 1e300) || !(value < 1e300)) {
        for (std::size_t t = 0; t < n_; ++t) b(t) = m_.saved[t];
        result.gap = old_gap;
        return Status::numerical_trouble;
      }
    }
  }

  static constexpr double kNoBound = 1e6;
  static constexpr double kStepShare = 0.995;  // of the way to the boundary

  const BandedProblem& problem_;
  const InteriorMemory m_;
  const std::size_t n_, blocks_;
  Lanes active_[4][kGroups];
  Lanes weight_[kGroups];
  Lanes box_, lower_, upper_;
  double pairs_ = 0;
  bool has_box_ = false;
};

inline std::size_t interior_size(const BandedProblem& problem) {
  Arena counter;
  lay_out(problem, counter);
  return counter.size();
}

inline Status interior_solve(const BandedProblem& problem, const SolverOptions& options, std::span<std::byte> workspace,
                             double* path, const double* fallback, SolverResult& result) {
  note_isa(LEGATO_REGION_ISA);
  Arena arena(workspace);
  const InteriorMemory memory = lay_out(problem, arena);
  if (arena.overflowed()) return Status::workspace_too_small;
  return Interior(problem, memory).run(options, path, fallback, result);
}

}  // namespace legato::LEGATO_REGION
