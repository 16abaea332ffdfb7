// What the interior point of path-inl.h works on: the banded program (camera.hpp: BandedProblem) as lanes, with a slack
// and a multiplier for each of its terms. Compiled once per ISA region.
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
  Lanes* best;                    // n: the iterate of the least gap
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
  m.best = arena.take<Lanes>(n);
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

/// The program, the present b, and what of them is asked again and again.
class InteriorState {
 protected:
  InteriorState(const BandedProblem& problem, const InteriorMemory& memory)
      : problem_(problem),
        m_(memory),
        n_(problem.frames - problem.pinned),
        hard_(blocks_of(problem.rows - problem.soft_rows)),
        blocks_(hard_ + blocks_of(problem.soft_rows)) {}

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
      for (int c = 0; c < kBlock; ++c) m_.quadratic[t * kBlock + static_cast<std::size_t>(c)] = load(q + kBlock * c);
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

  static constexpr double kNoBound = 1e6;

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

}  // namespace legato::LEGATO_REGION
