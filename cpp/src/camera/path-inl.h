// The interior point of the banded program (camera.hpp: BandedProblem): its iterations. Compiled once per ISA region.
#include "camera/interior-inl.h"

namespace legato::LEGATO_REGION {

class Interior : InteriorState {
 public:
  Interior(const BandedProblem& problem, const InteriorMemory& memory) : InteriorState(problem, memory) {}

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
        if constexpr (!start) b(t) += primal * step(t);
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

  /// Iterates to the tolerance; where it is not met, back to the iterate of the least gap: once rounding has eaten the
  /// pivots, the next ones are worse.
  Status iterate(const SolverOptions& options, double scale, SolverResult& result) {
    const Status status = descend(options, scale, result);
    if (status == Status::iteration_limit || status == Status::numerical_trouble) {
      for (std::size_t t = 0; t < n_; ++t) b(t) = m_.best[t];
    }
    return status;
  }

  Status descend(const SolverOptions& options, double scale, SolverResult& result) {
    Progress now = advance<true>(0, 0);
    for (int iteration = 0;; ++iteration) {
      if (cancelled()) return Status::cancelled;
      result.iterations = iteration;
      double gap = now.products + now.defect;
      // Without a linear term nothing is negative: 0 is a bound too, the better one where the optimum is 0.
      if (problem_.linear.empty() && now.value < gap) gap = now.value;
      if (iteration == 0 || gap < result.gap) {
        result.objective = now.value;
        result.gap = gap;
        for (std::size_t t = 0; t < n_; ++t) m_.best[t] = b(t);
      }
      if (gap <= options.tolerance * (now.value > scale ? now.value : scale)) return Status::ok;
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
      if (!(now.products < 1e300) || !(now.defect < 1e300) || !(now.value < 1e300)) return Status::numerical_trouble;
    }
  }

  static constexpr double kStepShare = 0.999;  // of the way to the boundary
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
