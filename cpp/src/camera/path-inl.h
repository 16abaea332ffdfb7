// The interior point of the banded program (camera.hpp: BandedProblem). Compiled once per ISA region.
//
// Every L1 term w |r| is split, r = s+ - s-, with the multiplier y in [-w, w] and z+ = w - y, z- = w + y; every
// inequality has a slack s and a multiplier z. Eliminating all of them exactly leaves one positive definite system in b
// with 8 x 8 blocks and half-bandwidth 3. z+ and z- are both stored: w - y would cancel.
#include "core/lanes-inl.h"

#include "camera/banded-inl.h"

namespace legato::LEGATO_REGION {

using math::LaneMask;
using math::load;

/// Eight terms hi max(r, 0) + lo max(-r, 0): L1 terms have hi = lo, soft rows lo = 0.
struct SplitTerms {
  Lanes s_plus, s_minus, z_plus, z_minus;
  Lanes inverse_plus, inverse_minus, weight;  // 1 / z+, 1 / z-, D: kept from refresh() to the end of the iteration
  Lanes dy, ds_plus, ds_minus;                // between the two directions ds holds the corrector's targets
};

struct Inequality {
  Lanes s, z, inverse;  // 1 / s
  Lanes ds, dz;         // between the two directions dz holds the corrector's target
};

constexpr int kDerivatives = 3;
constexpr int kGroups = kDerivatives + 1;  // the last group: lane k is the ninth component of derivative k
constexpr double kBinomial[kDerivatives][4] = {{1, -1, 0, 0}, {1, -2, 1, 0}, {1, -3, 3, -1}};

struct FrameTerms {
  SplitTerms l1[kGroups];
  Inequality high, low;  // the box
};

/// What the condensed system takes from the L1 terms of a frame, the ninth component folded into the first two.
struct FrameCurvature {
  Lanes weight[kDerivatives];  // D_k
  Lanes shift[kDerivatives];   // q_k
  Lanes dual[kDerivatives];    // y_k
  Lanes tie;                   // lane k: D_k of the ninth component, which couples variables 0 and 1
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
  Lanes* smooth;                  // n: Q b + q and what soft rows add to the predictor's right-hand side
  Lanes* constant[kDerivatives];  // n each: e_k without the b of this problem
  FrameTerms* terms;              // n
  FrameCurvature* curvature;      // n + 3, zero past the end
  Inequality* rows;               // n x hard row blocks
  SplitTerms* soft;               // n x soft row blocks
  RowBlock* row_blocks;           // 1 or n, x row blocks
  Lanes* row_bound;               // n x row blocks
  Lanes* quadratic;               // 1 or n, x 8
  Lanes* quadratic_inverse;       // the same
  Lanes* acceleration;            // 8
  Panel* panels;                  // n
};

constexpr std::size_t blocks_of(std::size_t rows) { return (rows + kBlock - 1) / kBlock; }

LEGATO_HD InteriorMemory lay_out(const BandedProblem& problem, Arena& arena) {
  const Size n = problem.frames - problem.pinned;
  const Size soft = blocks_of(problem.soft_rows), hard = blocks_of(problem.rows - problem.soft_rows);
  const Size row_frames = problem.row_matrix_stride == 0 ? 1 : n;
  const Size quadratic_frames = problem.quadratic_stride == 0 ? 1 : n;
  InteriorMemory m;
  m.b = arena.take<Lanes>(n + 3);
  m.saved = arena.take<Lanes>(n);
  m.step = arena.take<Lanes>(n + 6);
  m.gradient = arena.take<Lanes>(n);
  m.smooth = arena.take<Lanes>(n);
  for (auto& line : m.constant) line = arena.take<Lanes>(n);
  m.terms = arena.take<FrameTerms>(n);
  m.curvature = arena.take<FrameCurvature>(n + 3);
  m.rows = arena.take<Inequality>(n * hard);
  m.soft = arena.take<SplitTerms>(n * soft);
  m.row_blocks = arena.take<RowBlock>(row_frames * (hard + soft));
  m.row_bound = arena.take<Lanes>(n * (hard + soft));
  m.quadratic = arena.take<Lanes>(quadratic_frames * kBlock);
  m.quadratic_inverse = arena.take<Lanes>(quadratic_frames * kBlock);
  m.acceleration = arena.take<Lanes>(kBlock);
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
        hard_(blocks_of(problem.rows - problem.soft_rows)),
        blocks_(hard_ + blocks_of(problem.soft_rows)) {}

  Status run(const SolverOptions& options, double* path, const double* fallback, SolverResult& result) {
    result = SolverResult{};
    if (n_ == 0) return Status::ok;
    if (!load_problem(path)) return Status::invalid_argument;
    for (std::size_t t = 0; t < n_; ++t) {
      const double* start = path + kBlock * (problem_.pinned + t);
      b(t) = load(start);
      if (!inside(t)) b(t) = fallback != nullptr ? load(fallback + kBlock * (problem_.pinned + t)) : Lanes{};
      if (!inside(t)) {
        result.bad_frame = problem_.pinned + t;
        return Status::infeasible;
      }
    }
    const double start_objective = objective();
    result.objective = start_objective;
    Status status = Status::ok;
    if (start_objective != 0.0 || !problem_.linear.empty()) {  // else this is the optimum: nothing is negative
      center(mu_start(start_objective));
      status = iterate(options, 1e-5 * start_objective, result);
    }
    for (std::size_t t = 0; t < n_; ++t) {
      __builtin_memcpy(path + kBlock * (problem_.pinned + t), &b(t), sizeof(Lanes));
    }
    return status;
  }

 private:
  Lanes& b(std::size_t t) { return m_.b[t + 3]; }
  Lanes& step(std::size_t t) { return m_.step[t + 3]; }
  Inequality& row(std::size_t t, std::size_t g) { return m_.rows[t * hard_ + g]; }
  SplitTerms& soft(std::size_t t, std::size_t g) { return m_.soft[t * (blocks_ - hard_) + (g - hard_)]; }
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
    boxed_ = math::sum(box_) == kBlock;
    pairs_ = 0;
    for (std::size_t t = 0; t < n_; ++t) {
      for (int k = 0; k < kGroups; ++k) pairs_ += 2 * math::sum(active(t, k));
    }
    pairs_ += static_cast<double>(n_) *
              (2 * math::sum(box_) + static_cast<double>(hard_ * kBlock + 2 * (blocks_ - hard_) * kBlock));
    groups_ = math::sum(active_[3][kDerivatives]) > 0 ? kGroups : kDerivatives;
    pair_ = math::first_three(1, 1, 0);
    for (int c = 0; c < kBlock; ++c) {
      unit_[c] = Lanes{};
      unit_[c][c] = 1.0;
    }
    penalty_ = constant<Lanes>(p.penalty);
    for (int m = 0; m < kReach; ++m) {
      for (int j = 0; j + m < kReach; ++j) {
        const auto both = [&](int k) { return kBinomial[k][j] * kBinomial[k][j + m]; };
        tie_[m][j] = math::first_three(both(0), both(1), both(2));
      }
    }

    for (std::size_t t = 0; t < n_; ++t) {
      Lanes v[3];  // v_t, v_{t-1}, v_{t-2}; those before the first are never used by an active term
      for (std::size_t j = 0; j < 3; ++j) {
        const std::size_t frame = t + p.pinned;
        v[j] = frame >= j + 1 ? load(p.velocity.data() + kBlock * (frame - j)) : Lanes{};
      }
      m_.constant[0][t] = v[0];
      m_.constant[1][t] = v[0] - v[1];
      m_.constant[2][t] = v[0] - v[1] - v[1] + v[2];
    }
    const std::size_t quadratics = p.quadratic_stride == 0 ? 1 : n_;
    double least = 1;
    for (std::size_t t = 0; t < quadratics; ++t) {
      const double* q = p.quadratic.data() + (p.quadratic_stride == 0 ? 0 : (t + p.pinned) * p.quadratic_stride);
      for (int c = 0; c < kBlock; ++c) m_.quadratic[t * kBlock + c] = load(q + kBlock * c);
      if (!invert_positive(q, m_.quadratic_inverse + t * kBlock)) return false;
      for (int c = 0; c < kBlock; ++c) {
        const double diagonal = q[(kBlock + 1) * c];
        least = t == 0 && c == 0 ? diagonal : diagonal < least ? diagonal : least;
      }
    }
    if (!p.acceleration.empty()) {
      for (int c = 0; c < kBlock; ++c) m_.acceleration[c] = load(p.acceleration.data() + kBlock * c);
    }
    // D far beyond Q leaves nothing of Q in a pivot; too low a limit on D leaves the splits inexact and iterations
    // slow.
    slack_ = 1e-14 / least;
    slack_ = slack_ > 1e-12 ? 1e-12 : slack_ < 1e-13 ? 1e-13 : slack_;
    const std::size_t row_frames = p.row_matrix_stride == 0 ? 1 : n_;
    for (std::size_t t = 0; t < row_frames; ++t) {
      const double* matrix =
          p.row_matrix.data() + (p.row_matrix_stride == 0 ? 0 : (t + p.pinned) * p.row_matrix_stride);
      for (std::size_t g = 0; g < blocks_; ++g) {
        RowBlock& block = m_.row_blocks[t * blocks_ + g];
        for (int r = 0; r < kBlock; ++r) {
          const std::size_t index = row_index(g, r);
          block.by_row[r] = index < p.rows ? load(matrix + kBlock * index) : Lanes{};
          for (int i = 0; i < kBlock; ++i) block.by_variable[i][r] = block.by_row[r][i];
        }
      }
    }
    for (std::size_t t = 0; t < n_; ++t) {
      const double* bound = p.row_bound.data() + (p.row_bound_stride == 0 ? 0 : (t + p.pinned) * p.row_bound_stride);
      for (std::size_t g = 0; g < blocks_; ++g) {
        Lanes& h = m_.row_bound[t * blocks_ + g];
        for (int r = 0; r < kBlock; ++r) {  // no bound is a bound that is never near; padding is 0'b <= 1
          const std::size_t index = row_index(g, r);
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

  /// Row r of block g in the caller's numbering, or `rows` for padding.
  std::size_t row_index(std::size_t g, int r) const {
    const std::size_t hard_rows = problem_.rows - problem_.soft_rows;
    if (g < hard_) {
      const std::size_t index = g * kBlock + static_cast<std::size_t>(r);
      return index < hard_rows ? index : problem_.rows;
    }
    const std::size_t index = hard_rows + (g - hard_) * kBlock + static_cast<std::size_t>(r);
    return index < problem_.rows ? index : problem_.rows;
  }

  /// sum_i column[i] * x[i]
  static Lanes combine(const Lanes* column, const Lanes& x) {
    Lanes even = column[0] * x[0], odd = column[1] * x[1];
    for (int i = 2; i < kBlock; i += 2) {
      even += column[i] * x[i];
      odd += column[i + 1] * x[i + 1];
    }
    return even + odd;
  }
  Lanes row_values(std::size_t t, std::size_t g, const Lanes& x) { return combine(row_block(t, g).by_variable, x); }
  Lanes rows_transposed(std::size_t t, std::size_t g, const Lanes& y) { return combine(row_block(t, g).by_row, y); }

  /// Derivative k of x at t; x points at free frame 0 and has three entries before it.
  static Lanes difference(int k, const Lanes* x, std::size_t t) {
    const Lanes* at = x + t;
    if (k == 0) return at[0] - at[-1];
    if (k == 1) return at[0] - 2.0 * at[-1] + at[-2];
    return at[0] - 3.0 * at[-1] + 3.0 * at[-2] - at[-3];
  }
  /// The four groups' differences of x at t; group 3 holds the sums of the first two components.
  static void differences(const Lanes* x, std::size_t t, Lanes (&out)[kGroups]) {
    for (int k = 0; k < kDerivatives; ++k) out[k] = difference(k, x, t);
    out[kDerivatives] = tied(out);
  }
  static Lanes tied(const Lanes* e) {
    return math::first_three(e[0][0] + e[0][1], e[1][0] + e[1][1], e[2][0] + e[2][1]);
  }
  /// e_k(t), zero in lanes that are no terms.
  void residuals(std::size_t t, Lanes (&out)[kGroups]) {
    for (int k = 0; k < kDerivatives; ++k) out[k] = difference(k, m_.b + 3, t) + m_.constant[k][t];
    out[kDerivatives] = tied(out);
    for (int k = 0; k < kGroups; ++k) out[k] = out[k] * active(t, k);
  }
  bool accelerates(std::size_t t) const { return !problem_.acceleration.empty() && t + problem_.pinned >= 2; }
  /// e_2(t) in every component, also those without an L1 term.
  Lanes second_difference(std::size_t t) { return difference(1, m_.b + 3, t) + m_.constant[1][t]; }
  /// Adds lane k of the ninth components' pack to variables 0 and 1 of derivative k.
  void fold(const Lanes& ninth, Lanes* out) const {
    out[0] += math::broadcast<0>(ninth) * pair_;
    out[1] += math::broadcast<1>(ninth) * pair_;
    out[2] += math::broadcast<2>(ninth) * pair_;
  }
  /// sum_k Delta_k' x_k at t, with x one of the curvature's arrays.
  template <Lanes (FrameCurvature::*x)[kDerivatives]>
  Lanes differences_transposed(std::size_t t) const {
    const FrameCurvature* at = m_.curvature + t;
    const Lanes first = (at[0].*x)[0] - (at[1].*x)[0];
    const Lanes second = (at[0].*x)[1] - 2.0 * (at[1].*x)[1] + (at[2].*x)[1];
    const Lanes third = (at[0].*x)[2] - 3.0 * (at[1].*x)[2] + 3.0 * (at[2].*x)[2] - (at[3].*x)[2];
    return first + second + third;
  }

  bool inside(std::size_t t) {
    const Lanes x = b(t);
    LaneMask outside = (upper_ - x <= Lanes{}) | (x - lower_ <= Lanes{});
    outside = outside & (box_ > Lanes{});
    for (std::size_t g = 0; g < hard_; ++g) {
      outside = outside | ~(m_.row_bound[t * blocks_ + g] - row_values(t, g, x) > Lanes{});
    }
    return !math::any(outside) && !math::any(x != x);
  }

  double objective() {
    double total = problem_.constant;
    for (std::size_t t = 0, end = 0; goes_on(t, end, n_);) {
      for (; t < end; ++t) {
        const Lanes x = b(t);
        Lanes linear{};
        if (!problem_.linear.empty()) linear = load(problem_.linear.data() + kBlock * (t + problem_.pinned));
        Lanes cost = (0.5 * combine(quadratic(t), x) + linear) * x;
        Lanes e[kGroups];
        residuals(t, e);
        for (int k = 0; k < groups_; ++k) cost += weight_[k] * math::magnitude(e[k]);
        if (accelerates(t)) {
          const Lanes second = second_difference(t);
          cost += 0.5 * combine(m_.acceleration, second) * second;
        }
        for (std::size_t g = hard_; g < blocks_; ++g) cost += penalty_ * math::larger(row_residual(t, g), Lanes{});
        total += math::sum(cost);
      }
    }
    return total;
  }
  Lanes row_residual(std::size_t t, std::size_t g) { return row_values(t, g, b(t)) - m_.row_bound[t * blocks_ + g]; }

  double mu_start(double start_objective) const {
    const double mu = 10.0 * start_objective / (27.0 * static_cast<double>(n_));
    return mu > 1e-12 ? mu : 1e-12;
  }

  /// Puts every slack and multiplier on the central path of `mu` for the present b. The split r = s+ - s- then holds
  /// exactly and goes on to hold: only the gradient is left to bring to zero.
  void center(double mu_value) {
    const Lanes mu = constant<Lanes>(mu_value), one = constant<Lanes>(1.0);
    for (std::size_t t = 0, end = 0; goes_on(t, end, n_);) {
      for (; t < end; ++t) {
        Lanes e[kGroups];
        residuals(t, e);
        FrameTerms& f = m_.terms[t];
        for (int k = 0; k < groups_; ++k) {
          SplitTerms& a = f.l1[k];
          const Lanes w = weight_[k], size = math::magnitude(e[k]);
          const Lanes root = math::square_root(mu * mu + size * size * w * w);
          const Lanes y = size * w * w / (mu + root);
          const Lanes big = (mu + root + size * w) / (w + w), small = mu / (w + y);
          const LaneMask negative = e[k] < Lanes{};
          a.s_plus = math::select(negative, small, big);
          a.s_minus = math::select(negative, big, small);
          a.z_plus = mu / a.s_plus;
          a.z_minus = mu / a.s_minus;
        }
        const Lanes x = b(t);
        f.high.s = math::select(box_ > Lanes{}, upper_ - x, one);
        f.low.s = math::select(box_ > Lanes{}, x - lower_, one);
        f.high.z = mu / f.high.s;
        f.low.z = mu / f.low.s;
        for (std::size_t g = 0; g < hard_; ++g) {
          Inequality& a = row(t, g);
          a.s = -row_residual(t, g);
          a.z = mu / a.s;
        }
        for (std::size_t g = hard_; g < blocks_; ++g) {
          // s+ - s- = r and mu / s+ + mu / s- = penalty.
          SplitTerms& a = soft(t, g);
          const Lanes r = row_residual(t, g), size = math::magnitude(r), w = penalty_;
          const Lanes root = math::square_root(4.0 * mu * mu + w * w * size * size);
          const Lanes big = (2.0 * mu + w * size + root) / (w + w);
          const Lanes small = (mu + 2.0 * mu * mu / (root + w * size)) / w;
          const LaneMask negative = r < Lanes{};
          a.s_plus = math::select(negative, small, big);
          a.s_minus = math::select(negative, big, small);
          a.z_plus = mu / a.s_plus;
          a.z_minus = mu / a.s_minus;
        }
      }
    }
  }

  /// What an iteration needs of split terms; one division gives three reciprocals.
  void refresh(SplitTerms& a, const Lanes& active) const {
    const Lanes z = a.z_plus * a.z_minus;
    const Lanes sum = a.s_plus * a.z_minus + a.s_minus * a.z_plus + slack_ * z;
    const Lanes inverse = 1.0 / (z * sum);
    const Lanes inverse_z = inverse * sum;
    a.inverse_plus = inverse_z * a.z_minus;
    a.inverse_minus = inverse_z * a.z_plus;
    a.weight = active * (z * (z * inverse));
  }
  static void advance(SplitTerms& a, const Lanes& r, double primal, double dual) {
    a.z_plus -= dual * a.dy;
    a.z_minus += dual * a.dy;
    const Lanes plus = a.s_plus + primal * a.ds_plus, minus = a.s_minus + primal * a.ds_minus;
    // Rounding makes the split drift from r; what is missing goes to the side that can take it.
    const Lanes drift = r - (plus - minus);
    a.s_plus = plus + math::larger(drift, Lanes{});
    a.s_minus = minus + math::larger(-drift, Lanes{});
  }
  static void advance(Inequality& a, double primal, double dual) {
    a.s += primal * a.ds;
    a.z += dual * a.dz;
  }

  struct Progress {
    double products = 0;  // sum s z
    double value = 0;     // the objective
    double defect = 0;    // what the gradient leaves open: with the products, the certified gap
  };

  /// Takes the step (unless this is the start) and prepares the next iteration, in one pass over the terms and a short
  /// one over what couples frames: gradient, condensed weights, right-hand side of the predictor.
  template <bool start>
  Progress advance(double primal, double dual) {
    Progress out;
    out.value = problem_.constant;
    for (std::size_t t = 0, end = 0; goes_on(t, end, n_);) {
      for (; t < end; ++t) {
        if constexpr (!start) {
          m_.saved[t] = b(t);
          b(t) += primal * step(t);
        }
        const Lanes x = b(t);
        FrameTerms& f = m_.terms[t];
        FrameCurvature& c = m_.curvature[t];
        Lanes e[kGroups], products{}, cost{};
        residuals(t, e);
        for (int k = 0; k < groups_; ++k) {
          SplitTerms& a = f.l1[k];
          const Lanes on = active(t, k);
          if constexpr (!start) advance(a, e[k], primal, dual);
          refresh(a, on);
          products += on * (a.s_plus * a.z_plus + a.s_minus * a.z_minus);
          cost += weight_[k] * math::magnitude(e[k]);
          const Lanes shift = a.weight * (a.s_plus - a.s_minus), y = 0.5 * (a.z_minus - a.z_plus) * on;
          if (k < kDerivatives) {
            c.weight[k] = a.weight;
            c.shift[k] = shift;
            c.dual[k] = y;
          } else {
            c.tie = a.weight;
            fold(a.weight, c.weight);
            fold(shift, c.shift);
            fold(y, c.dual);
          }
        }
        if (accelerates(t)) {  // its force stands with the multipliers of e_2
          const Lanes second = second_difference(t), force = combine(m_.acceleration, second);
          cost += 0.5 * force * second;
          c.dual[1] += force;
        }
        Lanes linear{};
        if (!problem_.linear.empty()) linear = load(problem_.linear.data() + kBlock * (t + problem_.pinned));
        const Lanes curved = combine(quadratic(t), x);
        cost += (0.5 * curved + linear) * x;
        Lanes smooth = curved + linear, gradient = smooth;
        if (has_box_) {
          for (Inequality* a : {&f.high, &f.low}) {
            if constexpr (!start) advance(*a, primal, dual);
          }
          const Lanes inverse = 1.0 / (f.high.s * f.low.s);
          f.high.inverse = inverse * f.low.s;
          f.low.inverse = inverse * f.high.s;
          products += box_ * (f.high.s * f.high.z + f.low.s * f.low.z);
          gradient += box_ * (f.high.z - f.low.z);
        }
        for (std::size_t g = 0; g < hard_; ++g) {
          Inequality& a = row(t, g);
          if constexpr (!start) advance(a, primal, dual);
          a.inverse = 1.0 / a.s;
          products += a.s * a.z;
          gradient += rows_transposed(t, g, a.z);
        }
        for (std::size_t g = hard_; g < blocks_; ++g) {
          SplitTerms& a = soft(t, g);
          const Lanes r = row_residual(t, g);
          if constexpr (!start) advance(a, r, primal, dual);
          refresh(a, constant<Lanes>(1.0));
          products += a.s_plus * a.z_plus + a.s_minus * a.z_minus;
          cost += penalty_ * math::larger(r, Lanes{});
          gradient += rows_transposed(t, g, a.z_minus);
          smooth += rows_transposed(t, g, a.z_minus + a.weight * (a.s_plus - a.s_minus));
        }
        m_.gradient[t] = gradient;
        m_.smooth[t] = smooth;
        out.products += math::sum(products);
        out.value += math::sum(cost);
      }
    }
    for (std::size_t t = 0, end = 0; goes_on(t, end, n_);) {
      for (; t < end; ++t) {
        const Lanes dual_part = differences_transposed<&FrameCurvature::dual>(t);
        const Lanes gradient = m_.gradient[t] + dual_part;
        m_.gradient[t] = gradient;
        // The predictor's target, -s z, cancels the multipliers of the inequalities.
        step(t) = -(m_.smooth[t] + dual_part + differences_transposed<&FrameCurvature::shift>(t));
        // gradient' d - 1/2 d'Q d for the unknown way d to the optimum: at most this, and at most what the box lets it
        // be.
        const double curved = 0.5 * math::sum(combine(quadratic_inverse(t), gradient) * gradient);
        const double boxed = boxed_ ? math::sum(math::magnitude(gradient) * (upper_ - lower_)) : curved;
        out.defect += boxed < curved ? boxed : curved;
      }
    }
    return out;
  }

  /// Block column t of the condensed matrix.
  void condensed_column(std::size_t t, BlockColumn& out) {
    for (std::size_t m = 0; m < kReach; ++m) {
      Lanes diagonal{}, tie{};
      for (std::size_t j = 0; j + m < kReach; ++j) {
        const FrameCurvature& c = m_.curvature[t + m + j];
        for (std::size_t k = j + m > 0 ? j + m - 1 : 0; k < kDerivatives; ++k) {
          diagonal += kBinomial[k][j] * kBinomial[k][j + m] * c.weight[k];
        }
        if (groups_ == kGroups) tie += tie_[m][j] * c.tie;
      }
      if (m == 0 && has_box_) {
        const FrameTerms& f = m_.terms[t];
        diagonal += box_ * (f.high.z * f.high.inverse + f.low.z * f.low.inverse);
      }
      if (m > 0 && t + m >= n_) {
        for (int c = 0; c < kBlock; ++c) out.column[c][m] = Lanes{};
        continue;
      }
      for (int c = 0; c < kBlock; ++c) out.column[c][m] = diagonal * unit_[c];
      if (!problem_.acceleration.empty()) {
        double share = 0;
        for (std::size_t j = 0; j + m < kReach - 1; ++j) {
          if (t + m + j < n_ && accelerates(t + m + j)) share += kBinomial[1][j] * kBinomial[1][j + m];
        }
        for (int c = 0; c < kBlock; ++c) out.column[c][m] += share * m_.acceleration[c];
      }
      if (groups_ == kGroups) {
        const double both = tie[0] + tie[1] + tie[2];
        out.column[0][m] += both * unit_[1];
        out.column[1][m] += both * unit_[0];
      }
    }
    // Q + G' diag(stiffness) G: the sums stay in registers, and the rows' entries come from memory one by one.
    const Lanes* q = quadratic(t);
    Lanes sum[kBlock];
#pragma GCC unroll 8
    for (int c = 0; c < kBlock; ++c) sum[c] = out.column[c][0] + q[c];
    for (std::size_t g = 0; g < blocks_; ++g) {
      const RowBlock& block = row_block(t, g);
      const Lanes stiffness = g < hard_ ? row(t, g).z * row(t, g).inverse : soft(t, g).weight;
#pragma GCC unroll kUnroll
      for (int r = 0; r < kBlock; ++r) {
        const Lanes scaled = block.by_row[r] * stiffness[r];
#pragma GCC unroll 8
        for (int c = 0; c < kBlock; ++c) sum[c] += scaled * block.by_row[r][c];
      }
    }
#pragma GCC unroll 8
    for (int c = 0; c < kBlock; ++c) out.column[c][0] = sum[c];
  }

  /// The longest primal and dual steps that keep slacks and multipliers at zero or above.
  struct Reach {
    Lanes shrink_s{}, shrink_z{};  // largest -ds/s and -dz/z

    void primal(const Lanes& x) { shrink_s = math::larger(shrink_s, x); }
    void dual(const Lanes& x) { shrink_z = math::larger(shrink_z, x); }
    static double length(const Lanes& shrink) {
      const double most = math::largest(shrink);
      return most > 1.0 ? 1.0 / most : 1.0;
    }
  };

  /// The predictor's directions, of which only dy and the inequalities' ds are kept; returns the complementarity after
  /// the longest step.
  double predict(double products) {
    Reach reach;
    double s_dz = 0, ds_dz = 0;
    for (std::size_t t = 0, end = 0; goes_on(t, end, n_);) {
      for (; t < end; ++t) {
        FrameTerms& f = m_.terms[t];
        Lanes change[kGroups], first{}, second{};
        differences(m_.step + 3, t, change);
        const auto split = [&](SplitTerms& a, const Lanes& by) {
          const Lanes dy = a.weight * (by + a.s_plus - a.s_minus);
          const Lanes plus = dy * a.inverse_plus, minus = dy * a.inverse_minus;
          a.dy = dy;
          reach.primal(math::larger(1.0 - plus, 1.0 + minus));
          reach.dual(math::larger(plus, -minus));
          first += (a.s_minus - a.s_plus) * dy;
          second -= (a.s_plus * (plus - 1.0) + a.s_minus * (minus + 1.0)) * dy;
        };
        const auto bound = [&](Inequality& a, const Lanes& ds, const Lanes& on) {
          const Lanes relative = ds * a.inverse, dz = -a.z - a.z * relative;
          a.ds = ds;
          reach.primal(-relative);
          reach.dual(1.0 + relative);
          first += on * (a.s * dz);
          second += on * (ds * dz);
        };
        for (int k = 0; k < groups_; ++k) split(f.l1[k], change[k]);
        const Lanes& x = step(t);
        if (has_box_) {
          bound(f.high, -x * box_, box_);
          bound(f.low, x * box_, box_);
        }
        for (std::size_t g = 0; g < hard_; ++g) bound(row(t, g), -row_values(t, g, x), constant<Lanes>(1.0));
        for (std::size_t g = hard_; g < blocks_; ++g) split(soft(t, g), row_values(t, g, x));
        s_dz += math::sum(first);
        ds_dz += math::sum(second);
      }
    }
    // z ds + s dz = -s z holds term by term, so the sum over z ds need not be taken.
    const double primal = Reach::length(reach.shrink_s), dual = Reach::length(reach.shrink_z);
    return products + primal * (-products - s_dz) + dual * s_dz + primal * dual * ds_dz;
  }

  /// The corrector's targets, mu - s z - ds dz, and its right-hand side.
  void correct(double mu_value) {
    const Lanes mu = constant<Lanes>(mu_value);
    const auto split = [&](SplitTerms& a) {
      const Lanes ds_plus = a.s_plus * (a.dy * a.inverse_plus - 1.0);
      const Lanes ds_minus = -a.s_minus * (a.dy * a.inverse_minus + 1.0);
      a.ds_plus = (mu + ds_plus * a.dy) * a.inverse_plus - a.s_plus;
      a.ds_minus = (mu - ds_minus * a.dy) * a.inverse_minus - a.s_minus;
      return a.weight * (a.ds_minus - a.ds_plus);
    };
    const auto bound = [&](Inequality& a) {
      const Lanes dz = -a.z - a.z * (a.ds * a.inverse);
      a.dz = (mu - a.ds * dz) * a.inverse - a.z;
      return a.dz;
    };
    for (std::size_t t = 0, end = 0; goes_on(t, end, n_);) {
      for (; t < end; ++t) {
        FrameTerms& f = m_.terms[t];
        FrameCurvature& c = m_.curvature[t];
        for (int k = 0; k < groups_; ++k) {
          const Lanes shift = split(f.l1[k]);
          if (k < kDerivatives) {
            c.shift[k] = shift;
          } else {
            fold(shift, c.shift);
          }
        }
        Lanes right = -m_.gradient[t];
        if (has_box_) right -= box_ * (bound(f.high) - bound(f.low));
        for (std::size_t g = 0; g < hard_; ++g) right -= rows_transposed(t, g, bound(row(t, g)));
        for (std::size_t g = hard_; g < blocks_; ++g) right -= rows_transposed(t, g, split(soft(t, g)));
        step(t) = right;
      }
    }
    for (std::size_t t = 0; t < n_; ++t) step(t) -= differences_transposed<&FrameCurvature::shift>(t);
  }

  void directions(double& primal, double& dual) {
    Reach reach;
    const auto split = [&](SplitTerms& a, const Lanes& by) {
      const Lanes dy = a.weight * (by + a.ds_minus - a.ds_plus);
      const Lanes plus = dy * a.inverse_plus, minus = dy * a.inverse_minus;
      a.dy = dy;
      a.ds_plus += a.s_plus * plus;
      a.ds_minus -= a.s_minus * minus;
      const Lanes inverse = 1.0 / (a.s_plus * a.s_minus);
      reach.primal(math::larger(-a.ds_plus * a.s_minus, -a.ds_minus * a.s_plus) * inverse);
      reach.dual(math::larger(plus, -minus));
    };
    const auto bound = [&](Inequality& a, const Lanes& ds) {
      const Lanes relative = ds * a.inverse;
      a.ds = ds;
      a.dz -= a.z * relative;
      reach.primal(-relative);
      reach.dual(-a.dz / a.z);
    };
    for (std::size_t t = 0, end = 0; goes_on(t, end, n_);) {
      for (; t < end; ++t) {
        FrameTerms& f = m_.terms[t];
        Lanes change[kGroups];
        differences(m_.step + 3, t, change);
        for (int k = 0; k < groups_; ++k) split(f.l1[k], change[k]);
        const Lanes& x = step(t);
        if (has_box_) {
          bound(f.high, -x * box_);
          bound(f.low, x * box_);
        }
        for (std::size_t g = 0; g < hard_; ++g) bound(row(t, g), -row_values(t, g, x));
        for (std::size_t g = hard_; g < blocks_; ++g) split(soft(t, g), row_values(t, g, x));
      }
    }
    primal = Reach::length(reach.shrink_s);
    dual = Reach::length(reach.shrink_z);
  }

  Status iterate(const SolverOptions& options, double scale, SolverResult& result) {
    Progress now = advance<true>(0, 0);
    for (int iteration = 0;; ++iteration) {
      if (cancelled()) return Status::cancelled;
      result.iterations = iteration;
      result.objective = now.value;
      result.gap = now.products + now.defect;
      // Without a linear term nothing is negative: 0 is a bound too, the better one where the optimum is 0.
      if (problem_.linear.empty() && now.value < result.gap) result.gap = now.value;
      if (result.gap <= options.tolerance * (now.value > scale ? now.value : scale)) return Status::ok;
      if (iteration >= options.max_iterations) return Status::iteration_limit;

      const double mu = now.products / pairs_;
      Lanes* step = m_.step + 3;
      factor_banded(n_, m_.panels, step, [this](std::size_t t, BlockColumn& out) { condensed_column(t, out); });
      solve_backward(n_, m_.panels, step);
      const double ratio = predict(now.products) / pairs_ / mu;
      double sigma = ratio * ratio * ratio;
      sigma = sigma < 1e-6 ? 1e-6 : sigma > 1.0 ? 1.0 : sigma;
      correct(sigma * mu);
      solve_forward(n_, m_.panels, step);
      solve_backward(n_, m_.panels, step);
      double primal, dual;
      directions(primal, dual);
      primal *= kStepShare;
      dual *= kStepShare;
      if (!(primal > 1e-12)) return Status::numerical_trouble;  // NaN too

      now = advance<false>(primal, dual);
      if (!(now.products < 1e300) || !(now.defect < 1e300) || !(now.value < 1e300)) {
        for (std::size_t t = 0; t < n_; ++t) b(t) = m_.saved[t];
        return Status::numerical_trouble;
      }
    }
  }

  static constexpr double kNoBound = 1e6;
  static constexpr double kStepShare = 0.999;  // of the way to the boundary

  const BandedProblem& problem_;
  const InteriorMemory m_;
  const std::size_t n_, hard_, blocks_;  // blocks of eight rows: hard ones first, then soft ones
  Lanes active_[4][kGroups];
  Lanes weight_[kGroups];
  Lanes box_, lower_, upper_, penalty_, pair_;
  Lanes unit_[kBlock];
  Lanes tie_[kReach][kReach];  // lane k: what D_k at t + m + j adds to block (t + m, t)
  int groups_ = kGroups;
  double pairs_ = 0;
  double slack_ = 0;                      // added to 1 / D: no term is infinitely stiff
  bool has_box_ = false, boxed_ = false;  // of some variables, of all
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
