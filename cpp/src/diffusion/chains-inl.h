// Exact models and whole sampling loops, many samples side by side: a lane never sees its neighbors, so a sample does
// not depend on its batch. Compiled once per ISA region by chains.cpp.
#include "diffusion/noise-inl.h"
//
#include "diffusion/cloud-inl.h"

namespace legato::LEGATO_REGION {

using diffusion::Mixture;
using diffusion::Model;
using diffusion::Output;
using diffusion::Row;

/// Samples side by side. Two registers of floats in lockstep hide each other's latency, where registers allow.
template <class Real>
constexpr int kSide = LEGATO_REGION_WIDTH == 8 && sizeof(Real) == 4 ? 2 * kPack : kPack;
template <class Real>
using Side = Pack<Real, kSide<Real>>;
template <class Real>
using SideStream = math::Stream<Pack<unsigned, kSide<Real>>>;
template <class Real>
LEGATO_HD Side<Real> beside(Real x) {
  return filled<kSide<Real>>(x);
}

constexpr std::size_t kRowTile = 16;  // rows whose tables are made at once

// --- Gaussian mixtures ----------------------------------------------------------------------------------------------

/// One mixture at one noise level. Component k has a log weight and, for each dimension, -1 / (2 variance), a slope, a
/// center alpha mu and an offset: out = sum_k r_k (offset + slope x), or offset + R slope R' (x - center) when rotated.
/// The shares are the weights over the larger of the two, where two mixtures share their components.
template <class Real>
struct LevelStore {
  Real *log_weight, *inverse, *slope, *center, *offset, *share_cond, *share_uncond;
};

inline Size level_size(Size components, Size dimension) { return components * (4 * dimension + 3); }

template <class Real>
LEGATO_HD LevelStore<Real> level_at(Real* memory, std::size_t components, std::size_t dimension) {
  const std::size_t all = components * dimension;
  return {memory,
          memory + components,
          memory + components + all,
          memory + components + 2 * all,
          memory + components + 3 * all,
          memory + components + 4 * all,
          memory + 2 * components + 4 * all};
}

/// Where two mixtures share their components, logits are in the unit that makes the exponential cheapest: float32 has a
/// power of two.
template <class Real>
constexpr double kSharedUnit = sizeof(Real) == 4 ? 1.4426950408889634 : 1.0;
LEGATO_HD Side<float> shared_weight(const Side<float>& logit) { return power_of_two_of(logit); }
LEGATO_HD Side<double> shared_weight(const Side<double>& logit) { return exponential_of(logit); }

/// `uncond` is null, or shares everything but the weights with `mixture`.
template <class Real>
inline void make_level(const Mixture& mixture, const double* uncond, double alpha, double sigma, Output output,
                       LevelStore<Real> level) {
  const std::size_t d = mixture.dimension;
  const double floor = -1e30;  // stands for log 0: finite, so that differences stay numbers
  const double unit = uncond != nullptr ? kSharedUnit<Real> : 1.0;
  double round_variance = -1, half_log_of_round = 0;  // components are often alike, and logarithms dear
  for (std::size_t k = 0; k < mixture.components; ++k) {
    double log_weight = mixture.log_weights[k] > floor ? mixture.log_weights[k] : floor;
    if (uncond != nullptr) {
      const double other = uncond[k] > floor ? uncond[k] : floor;
      const double most = log_weight > other ? log_weight : other;
      level.share_cond[k] = log_weight < most ? static_cast<Real>(__builtin_exp(log_weight - most)) : Real(1);
      level.share_uncond[k] = other < most ? static_cast<Real>(__builtin_exp(other - most)) : Real(1);
      log_weight = most;
    }
    double half_log_determinant = 0;
    for (std::size_t j = 0; j < d; ++j) {
      const double v = mixture.isotropic ? mixture.variances[k] : mixture.variances[k * d + j];
      const double total = alpha * alpha * v + sigma * sigma;
      const double mean = mixture.means[k * d + j];
      if (!mixture.isotropic) {
        half_log_determinant += 0.5 * math::logarithm_of(total);
      } else if (v != round_variance) {
        round_variance = v;
        half_log_of_round = 0.5 * math::logarithm_of(total);
      }
      level.inverse[k * d + j] = static_cast<Real>(-0.5 / total * unit);
      level.center[k * d + j] = static_cast<Real>(alpha * mean);
      const double slope = output == Output::denoised ? alpha * v / total : -1.0 / total;
      level.slope[k * d + j] = static_cast<Real>(slope);
      const double base = output == Output::denoised ? mean : 0.0;
      level.offset[k * d + j] = static_cast<Real>(!mixture.rotations.empty() ? base : base - slope * alpha * mean);
    }
    if (mixture.isotropic) half_log_determinant = half_log_of_round * static_cast<double>(d);
    level.log_weight[k] = static_cast<Real>((log_weight - half_log_determinant) * unit);
  }
}

/// The largest logit is at least this, so that differences stay numbers where all are -inf.
template <class Real>
constexpr Real kLeastLogit = sizeof(Real) == 4 ? Real(-3e38) : Real(-1e308);

/// Scratch of one worker.
template <class Real>
struct Scratch {
  Side<Real>* logits;   // components
  Side<Real>* rotated;  // dimension
  Side<Real>* slopes;   // dimension
};

/// log_weight + log density up to a constant, of one component. In `rotated`: the coordinates along its axes.
template <int kDimension, bool kIsotropic, class Real>
LEGATO_HD Side<Real> logit_of(const Mixture& mixture, const LevelStore<Real>& level, std::size_t k, const Side<Real>* x,
                              Side<Real>* rotated) {
  const std::size_t d = kDimension > 0 ? kDimension : mixture.dimension;
  const Real *center = level.center + k * d, *inverse = level.inverse + k * d;
  if constexpr (kIsotropic) {
    Side<Real> square = (x[0] - center[0]) * (x[0] - center[0]);
    for (std::size_t j = 1; j < d; ++j) {
      const Side<Real> off = x[j] - center[j];
      square = square + off * off;
    }
    return square * inverse[0] + level.log_weight[k];
  } else {
    Side<Real> logit = beside(level.log_weight[k]);
    if (mixture.rotations.empty()) {
      for (std::size_t j = 0; j < d; ++j) {
        const Side<Real> off = x[j] - center[j];
        logit = logit + off * off * inverse[j];
      }
      return logit;
    }
    const double* axes = mixture.rotations.data() + k * d * d;
    for (std::size_t j = 0; j < d; ++j) rotated[j] = Side<Real>{};
    for (std::size_t i = 0; i < d; ++i) {
      const Side<Real> off = x[i] - center[i];
      for (std::size_t j = 0; j < d; ++j) rotated[j] = rotated[j] + off * static_cast<Real>(axes[i * d + j]);
    }
    for (std::size_t j = 0; j < d; ++j) logit = logit + rotated[j] * rotated[j] * inverse[j];
    return logit;
  }
}

/// Adds weight x (offset + slope x) of component k; with one slope for all dimensions its weight goes to slopes[0].
template <int kDimension, bool kIsotropic, class Real>
LEGATO_HD void add_component(const Mixture& mixture, const LevelStore<Real>& level, std::size_t k,
                             const Side<Real>& weight, const Side<Real>* rotated, Side<Real>* out, Side<Real>* slopes) {
  const std::size_t d = kDimension > 0 ? kDimension : mixture.dimension;
  const Real *slope = level.slope + k * d, *offset = level.offset + k * d;
  for (std::size_t j = 0; j < d; ++j) out[j] = out[j] + weight * offset[j];
  if constexpr (kIsotropic) {
    slopes[0] = slopes[0] + weight * slope[0];
  } else if (mixture.rotations.empty()) {
    for (std::size_t j = 0; j < d; ++j) slopes[j] = slopes[j] + weight * slope[j];
  } else {
    const double* axes = mixture.rotations.data() + k * d * d;
    for (std::size_t i = 0; i < d; ++i) {
      Side<Real> along{};
      for (std::size_t j = 0; j < d; ++j) along = along + rotated[j] * slope[j] * static_cast<Real>(axes[i * d + j]);
      out[i] = out[i] + weight * along;
    }
  }
}

/// Divides by the total weight and adds the slopes' share.
template <int kDimension, bool kIsotropic, class Real>
LEGATO_HD void finish(std::size_t dimension, const Side<Real>* x, const Side<Real>& total, const Side<Real>* slopes,
                      Side<Real>* out) {
  const std::size_t d = kDimension > 0 ? kDimension : dimension;
  const Side<Real> scale = beside(Real(1)) / total;
  for (std::size_t j = 0; j < d; ++j) out[j] = (out[j] + slopes[kIsotropic ? 0 : j] * x[j]) * scale;
}

template <int kDimension, bool kIsotropic, class Real>
LEGATO_HD void evaluate_mixture(const Mixture& mixture, const LevelStore<Real>& level, const Side<Real>* x,
                                const Scratch<Real>& scratch, Side<Real>* result, Side<Real>* log_total) {
  const std::size_t d = kDimension > 0 ? kDimension : mixture.dimension, count = mixture.components;
  Side<Real> near_out[kDimension > 0 ? kDimension : 1], near_slopes[kDimension > 0 ? kDimension : 1];
  Side<Real>* out = kDimension > 0 ? near_out : result;
  Side<Real>* slopes = kDimension > 0 ? near_slopes : scratch.slopes;
  Side<Real> most = beside(kLeastLogit<Real>);
  for (std::size_t k = 0; k < count; ++k) {
    const auto logit = logit_of<kDimension, kIsotropic>(mixture, level, k, x, scratch.rotated);
    scratch.logits[k] = logit;
    most = larger(most, logit);
  }
  Side<Real> total{};
  for (std::size_t j = 0; j < d; ++j) out[j] = slopes[j] = Side<Real>{};
  for (std::size_t k = 0; k < count; ++k) {
    const Side<Real> weight = exponential_of(scratch.logits[k] - most);
    total = total + weight;
    if (!kIsotropic && !mixture.rotations.empty()) {
      logit_of<kDimension, kIsotropic>(mixture, level, k, x, scratch.rotated);
    }
    add_component<kDimension, kIsotropic>(mixture, level, k, weight, scratch.rotated, out, slopes);
  }
  finish<kDimension, kIsotropic>(d, x, total, slopes, out);
  if constexpr (kDimension > 0) {
    for (std::size_t j = 0; j < d; ++j) result[j] = out[j];
  }
  if (log_total != nullptr) {
    for (int lane = 0; lane < kSide<Real>; ++lane) {
      const Real logarithm = static_cast<Real>(math::logarithm_of(static_cast<double>(total[lane])));
      (*log_total)[lane] =
          most[lane] > kLeastLogit<Real> ? most[lane] + logarithm : -static_cast<Real>(__builtin_inf());
    }
  }
}

/// Two mixtures that differ in their weights alone: one exponential for each component serves both. A lane in which
/// either total has sunk too low to be exact is taken again with its own largest logit (by the caller); returns whether
/// there is such a lane.
template <int kDimension, class Real>
LEGATO_HD bool evaluate_shared(const Mixture& mixture, const LevelStore<Real>& level, const Side<Real>* x,
                               const Scratch<Real>& scratch, Side<Real>* cond, Side<Real>* uncond, Side<Real>& least) {
  constexpr std::size_t d = kDimension;
  Side<Real> most = beside(kLeastLogit<Real>);
  for (std::size_t k = 0; k < mixture.components; ++k) {
    scratch.logits[k] = logit_of<kDimension, true>(mixture, level, k, x, scratch.rotated);
    most = larger(most, scratch.logits[k]);
  }
  Side<Real> total[2] = {}, slope[2] = {}, out[2][d] = {};
  for (std::size_t k = 0; k < mixture.components; ++k) {
    const Side<Real> weight = shared_weight(scratch.logits[k] - most);
    const Side<Real> of[2] = {weight * level.share_cond[k], weight * level.share_uncond[k]};
    for (int side = 0; side < 2; ++side) {
      total[side] = total[side] + of[side];
      add_component<kDimension, true>(mixture, level, k, of[side], scratch.rotated, out[side], &slope[side]);
    }
  }
  finish<kDimension, true>(d, x, total[0], &slope[0], out[0]);
  finish<kDimension, true>(d, x, total[1], &slope[1], out[1]);
  for (std::size_t j = 0; j < d; ++j) {
    cond[j] = out[0][j];
    uncond[j] = out[1][j];
  }
  least = select_less(total[0], total[1], total[0], total[1]);
  return any_less(least, beside(Real(1e-18)));
}

template <class Real>
inline void evaluate_mixture_any(const Mixture& mixture, const LevelStore<Real>& level, const Side<Real>* x,
                                 const Scratch<Real>& scratch, Side<Real>* out, Side<Real>* log_total) {
  if (mixture.isotropic) {
    if (mixture.dimension == 1) return evaluate_mixture<1, true>(mixture, level, x, scratch, out, log_total);
    if (mixture.dimension == 2) return evaluate_mixture<2, true>(mixture, level, x, scratch, out, log_total);
    return evaluate_mixture<0, true>(mixture, level, x, scratch, out, log_total);
  }
  evaluate_mixture<0, false>(mixture, level, x, scratch, out, log_total);
}

// --- Loops ----------------------------------------------------------------------------------------------------------

template <class Real>
struct ChainWork {
  Real* levels;                                        // kRowTile x 2 levels
  Side<Real>*state, *last_out, *earlier_out, *last_x;  // packs of the block x d each
  Side<Real>*cond, *uncond, *spare;                    // d each
  Scratch<Real> scratch;
  Pack<float, kSide<Real>>* noise;  // d rounded up to 4
  Real* rows;                       // samples of a pack, one after another
  CloudWork<Real> of_cloud;
};

constexpr std::size_t kSamplesOfBlock = 2048;  // share the tables of a row

/// Packs of the largest block: as many as keep the states near 16 KiB.
template <class Real>
inline std::size_t packs_of_block(std::size_t dimension) {
  const std::size_t fit = kSamplesOfBlock * 2 / kSide<Real> / (dimension > 0 ? dimension : 1);
  const std::size_t most = kSamplesOfBlock / kSide<Real>;
  return fit < 1 ? 1 : fit > most ? most : fit;
}

/// Samples of one block: where there are many, a quarter of what each worker gets, but enough packs to share the
/// tables.
template <class Real>
inline std::size_t samples_of_block(std::size_t samples, std::size_t dimension, std::size_t workers) {
  constexpr std::size_t least = 8, side = kSide<Real>;
  const std::size_t most = packs_of_block<Real>(dimension), fair = samples / (4 * side * workers) + 1;
  return (fair < least ? (least < most ? least : most) : fair < most ? fair : most) * side;
}

template <class Real>
inline ChainWork<Real> chain_work(Arena& arena, Size components, Size dimension) {
  ChainWork<Real> work;
  const Size packs = packs_of_block<Real>(dimension.value());
  work.levels = arena.take<Real>(2 * kRowTile * level_size(components, dimension));
  work.state = arena.take<Side<Real>>(packs * dimension);
  work.last_out = arena.take<Side<Real>>(packs * dimension);
  work.earlier_out = arena.take<Side<Real>>(packs * dimension);
  work.last_x = arena.take<Side<Real>>(packs * dimension);
  work.cond = arena.take<Side<Real>>(dimension);
  work.uncond = arena.take<Side<Real>>(dimension);
  work.spare = arena.take<Side<Real>>(dimension);
  work.scratch.logits = arena.take<Side<Real>>(components);
  work.scratch.rotated = arena.take<Side<Real>>(dimension);
  work.scratch.slopes = arena.take<Side<Real>>(dimension);
  work.noise = arena.take<Pack<float, kSide<Real>>>((dimension.value() + 3) / 4 * 4);
  work.rows = arena.take<Real>(kSide<Real> * dimension);
  work.of_cloud = cloud_work<Real>(arena, dimension.value());
  return work;
}

inline std::size_t worker_size(std::size_t components, std::size_t dimension) {
  Arena floats, doubles;
  chain_work<float>(floats, components, dimension);
  chain_work<double>(doubles, components, dimension);
  if (floats.size() == 0 || doubles.size() == 0) return 0;
  return floats.size() > doubles.size() ? floats.size() : doubles.size();
}

template <class Real>
LEGATO_HD void gather_block(const Real* x, std::size_t dimension, std::size_t first, std::size_t count,
                            Side<Real>* state) {
  for (std::size_t j = 0; j < dimension; ++j) {
    for (std::size_t lane = 0; lane < std::size_t{kSide<Real>}; ++lane) {
      const std::size_t sample = first + (lane < count ? lane : count - 1);
      state[j][static_cast<int>(lane)] = x[sample * dimension + j];
    }
  }
}
template <class Real>
LEGATO_HD void scatter_block(const Side<Real>* state, std::size_t dimension, std::size_t first, std::size_t count,
                             Real* x) {
  for (std::size_t j = 0; j < dimension; ++j) {
    for (std::size_t lane = 0; lane < count; ++lane) {
      x[(first + lane) * dimension + j] = state[j][static_cast<int>(lane)];
    }
  }
}

/// Whether the two models are mixtures that differ in their weights alone, isotropic, of one or two dimensions.
template <class Real>
inline bool shares_components(const Model<Real>& cond, const Model<Real>& uncond) {
  const Mixture *c = cond.mixture, *u = uncond.mixture;
  return c != nullptr && u != nullptr && c->isotropic && u->isotropic && c->components == u->components &&
         c->dimension == u->dimension && c->means.data() == u->means.data() &&
         c->variances.data() == u->variances.data() && c->dimension <= 2;
}

/// Denoised means or scores of rows of samples; x and out may be the same.
template <class Real>
inline void evaluate_cloud_rows(const PointCloud<Real>& cloud, const Row& row, const Real* x, std::size_t samples,
                                Real* out, const CloudWork<Real>& work) {
  const std::size_t d = cloud.dimension;
  const Real a = static_cast<Real>(row.alpha), scale = static_cast<Real>(1.0 / (row.sigma * row.sigma));
  for (std::size_t first = 0; first < samples && !cancelled(); first += kCloudQueries) {
    const std::size_t count = samples - first < kCloudQueries ? samples - first : kCloudQueries;
    take_queries(x + first * d, d, count, work);
    evaluate_cloud(cloud, row.alpha, row.sigma, count, out + first * d, work);
    if (row.output != Output::score) continue;
    for (std::size_t q = 0; q < count; ++q) {
      for (std::size_t j = 0; j < d; ++j) {
        Real& value = out[(first + q) * d + j];
        value = (value * a - work.x[q * CloudLayout(d).row + j]) * scale;
      }
    }
  }
}

template <class Real>
inline void evaluate_model(const Model<Real>& model, const LevelStore<Real>& level, const Row& row, const Side<Real>* x,
                           const ChainWork<Real>& work, Side<Real>* out) {
  if (model.mixture != nullptr) {
    evaluate_mixture_any<Real>(*model.mixture, level, x, work.scratch, out, nullptr);
    return;
  }
  const std::size_t d = model.cloud->dimension;
  scatter_block(x, d, 0, kSide<Real>, work.rows);
  evaluate_cloud_rows(*model.cloud, row, work.rows, kSide<Real>, work.rows, work.of_cloud);
  gather_block(work.rows, d, 0, kSide<Real>, out);
}

/// For loops of steps too short to ask before each: asks once in so much work.
class Pace {
 public:
  /// Before a step of so much work, in operations on a register or so: whether the run call is cancelled.
  bool stops(std::size_t work) noexcept {
    done_ += work;
    if (done_ < kStretch) return false;
    if (cancelled()) return true;  // and again at the next step
    done_ = 0;
    return false;
  }

 private:
  static constexpr std::size_t kStretch = 1 << 16;
  std::size_t done_ = 0;
};

/// About how many operations on packs an evaluation takes, as Pace counts them; clouds ask by themselves.
template <class Real>
inline std::size_t work_of(const Model<Real>& model) {
  if (model.mixture == nullptr) return model.cloud->dimension;
  const Mixture& mixture = *model.mixture;
  const std::size_t entries = mixture.components * mixture.dimension;
  return 16 * (mixture.rotations.empty() ? entries : entries * mixture.dimension);
}

template <class Real>
struct Chains {
  const Model<Real>&cond, &uncond;
  std::span<const Row> rows;
  const diffusion::Noise& noise;
  std::size_t dimension;
  Real* x;
  bool remembers;  // some row looks back at those before it
};

template <bool kPhilox, class Real>
inline void run_row(const Chains<Real>& chains, const Row& row, const LevelStore<Real>& of_cond,
                    const LevelStore<Real>& of_uncond, bool shared, const SideStream<Real>& streams, std::size_t pack,
                    const ChainWork<Real>& work) {
  const std::size_t d = chains.dimension;
  Side<Real>* x = work.state + pack * d;
  Side<Real>* last_out = work.last_out + pack * d;
  Side<Real>* earlier_out = work.earlier_out + pack * d;
  Side<Real>* last_x = work.last_x + pack * d;
  const bool wants_uncond = row.guidance != 1 || row.uncond != 0, wants_cond = row.guidance != 0;
  if (shared && wants_uncond && wants_cond) {
    Side<Real> least;
    const Mixture& mixture = *chains.cond.mixture;
    const bool low = d == 1 ? evaluate_shared<1>(mixture, of_cond, x, work.scratch, work.cond, work.uncond, least)
                            : evaluate_shared<2>(mixture, of_cond, x, work.scratch, work.cond, work.uncond, least);
    if (low) {  // rare: far from every component of one side
      for (int side = 0; side < 2; ++side) {
        const Model<Real>& model = side == 0 ? chains.cond : chains.uncond;
        Side<Real>* out = side == 0 ? work.cond : work.uncond;
        Real* own = work.levels + (2 * kRowTile - 1) * level_size(mixture.components, d).value();
        const LevelStore<Real> level = level_at(own, mixture.components, d);
        make_level<Real>(*model.mixture, nullptr, row.alpha, row.sigma, row.output, level);
        evaluate_mixture_any<Real>(*model.mixture, level, x, work.scratch, work.spare, nullptr);
        for (std::size_t j = 0; j < d; ++j) {
          out[j] = select_less(least, beside(Real(1e-18)), work.spare[j], out[j]);
        }
      }
    }
  } else {
    if (wants_cond) evaluate_model(chains.cond, of_cond, row, x, work, work.cond);
    if (wants_uncond) evaluate_model(chains.uncond, of_uncond, row, x, work, work.uncond);
  }
  if (row.noise != 0) {
    for (std::size_t block = 0; 4 * block < d; ++block) {
      Pack<float, kSide<Real>> four[4] = {};
      four_across<kPhilox, kSide<Real>>(streams, static_cast<unsigned>(block), row.step, row.substep, d - 4 * block,
                                        four);
      for (std::size_t q = 0; q < 4 && 4 * block + q < d; ++q) work.noise[4 * block + q] = four[q];
    }
  }
  const Real a = static_cast<Real>(row.a), b = static_cast<Real>(row.b), g = static_cast<Real>(row.guidance);
  const Real u = static_cast<Real>(row.uncond), previous = static_cast<Real>(row.previous);
  const Real earlier = static_cast<Real>(row.earlier), base = static_cast<Real>(row.base);
  const Real n = static_cast<Real>(row.noise);
  for (std::size_t j = 0; j < d; ++j) {
    Side<Real> out = wants_cond ? work.cond[j] : work.uncond[j];
    if (wants_cond && row.guidance != 1) out = work.uncond[j] + (work.cond[j] - work.uncond[j]) * g;
    Side<Real> value = x[j] * a + out * b;
    if (row.uncond != 0) value = value + work.uncond[j] * u;
    if (row.previous != 0) value = value + last_out[j] * previous;
    if (row.earlier != 0) value = value + earlier_out[j] * earlier;
    if (row.base != 0) value = value + last_x[j] * base;
    if (row.noise != 0) value = value + to_real(work.noise[j], Real{}) * n;
    if (chains.remembers) {
      earlier_out[j] = last_out[j];
      last_out[j] = out;
      last_x[j] = x[j];
    }
    x[j] = value;
  }
}

/// The samples [first, last), which go through all rows together.
template <bool kPhilox, class Real>
inline void run_block(const Chains<Real>& chains, std::size_t first, std::size_t last, std::span<std::byte> memory) {
  constexpr std::size_t side = kSide<Real>;
  const std::size_t d = chains.dimension;
  const std::size_t cond_size = chains.cond.mixture != nullptr ? chains.cond.mixture->components : 0;
  const std::size_t uncond_size = chains.uncond.mixture != nullptr ? chains.uncond.mixture->components : 0;
  const std::size_t components = cond_size > uncond_size ? cond_size : uncond_size;
  Arena arena(memory);
  const ChainWork<Real> work = chain_work<Real>(arena, components, d);
  const bool shared = shares_components(chains.cond, chains.uncond);
  const auto level = [&](std::size_t row, std::size_t of) {
    return level_at(work.levels + (2 * row + of) * level_size(components, d).value(), of == 0 ? cond_size : uncond_size,
                    d);
  };
  const std::size_t row_work = work_of(chains.cond) + work_of(chains.uncond);
  Pace pace;
  for (std::size_t pack = 0; first + pack * side < last; ++pack) {
    const std::size_t at = first + pack * side;
    gather_block(chains.x, d, at, last - at < side ? last - at : side, work.state + pack * d);
    for (std::size_t j = pack * d; j < (pack + 1) * d; ++j) {
      work.last_out[j] = work.earlier_out[j] = work.last_x[j] = Side<Real>{};
    }
  }
  constexpr std::size_t tile = kRowTile - 1;  // the last place is for lanes that are taken again
  for (std::size_t row = 0; row < chains.rows.size(); row += tile) {
    const std::size_t count = chains.rows.size() - row < tile ? chains.rows.size() - row : tile;
    for (std::size_t i = 0; i < count && !cancelled(); ++i) {
      const Row& r = chains.rows[row + i];
      const bool wants_cond = r.guidance != 0, wants_uncond = r.guidance != 1 || r.uncond != 0;
      const bool both = shared && wants_cond && wants_uncond;
      if (cond_size > 0 && wants_cond) {
        make_level<Real>(*chains.cond.mixture, both ? chains.uncond.mixture->log_weights.data() : nullptr, r.alpha,
                         r.sigma, r.output, level(i, 0));
      }
      if (uncond_size > 0 && wants_uncond && !both) {
        make_level<Real>(*chains.uncond.mixture, nullptr, r.alpha, r.sigma, r.output, level(i, 1));
      }
    }
    for (std::size_t pack = 0; first + pack * side < last; ++pack) {
      const std::size_t at = first + pack * side;
      SideStream<Real> streams{};
      if (!chains.noise.seeds.empty())
        streams = streams_of<kSide<Real>>(chains.noise, at, last - at < side ? last - at : side);
      for (std::size_t i = 0; i < count && !pace.stops(row_work); ++i) {
        run_row<kPhilox>(chains, chains.rows[row + i], level(i, 0), level(i, 1), shared, streams, pack, work);
      }
    }
  }
  for (std::size_t pack = 0; first + pack * side < last; ++pack) {
    const std::size_t at = first + pack * side;
    scatter_block(work.state + pack * d, d, at, last - at < side ? last - at : side, chains.x);
  }
  note_isa(LEGATO_REGION_ISA);
}

template <class Real>
inline void run_block_any(const Model<Real>& cond, const Model<Real>& uncond, std::span<const Row> rows,
                          const diffusion::Noise& noise, bool remembers, Real* x, std::size_t first, std::size_t last,
                          std::span<std::byte> memory) {
  const std::size_t dimension = cond.mixture != nullptr ? cond.mixture->dimension : cond.cloud->dimension;
  const Chains<Real> chains{cond, uncond, rows, noise, dimension, x, remembers};
  if (noise.generator == diffusion::Generator::philox) {
    run_block<true>(chains, first, last, memory);
  } else {
    run_block<false>(chains, first, last, memory);
  }
}

/// Evaluations of the samples [begin, end).
template <class Real>
inline void evaluate_range(const Model<Real>& model, const Row& row, const Real* x, Real* out, Real* log_density,
                           std::span<std::byte> memory, std::size_t begin, std::size_t end) {
  constexpr std::size_t side = kSide<Real>;
  const std::size_t d = model.mixture != nullptr ? model.mixture->dimension : model.cloud->dimension;
  const std::size_t components = model.mixture != nullptr ? model.mixture->components : 0;
  Arena arena(memory);
  const ChainWork<Real> work = chain_work<Real>(arena, components, d);
  if (model.cloud != nullptr) {
    evaluate_cloud_rows(*model.cloud, row, x + begin * d, end - begin, out + begin * d, work.of_cloud);
    return note_isa(LEGATO_REGION_ISA);
  }
  const LevelStore<Real> level = level_at(work.levels, components, d);
  make_level<Real>(*model.mixture, nullptr, row.alpha, row.sigma, row.output, level);
  Pace pace;
  for (std::size_t first = begin; first < end && !pace.stops(work_of(model)); first += side) {
    const std::size_t count = end - first < side ? end - first : side;
    gather_block(x, d, first, count, work.state);
    if (log_density != nullptr) {
      Side<Real> log_total;
      evaluate_mixture_any<Real>(*model.mixture, level, work.state, work.scratch, work.cond, &log_total);
      for (std::size_t lane = 0; lane < count; ++lane) {
        log_density[first + lane] = static_cast<Real>(static_cast<double>(log_total[static_cast<int>(lane)]) -
                                                      static_cast<double>(d) * 0.91893853320467274178);
      }
    } else {
      evaluate_mixture_any<Real>(*model.mixture, level, work.state, work.scratch, work.cond, nullptr);
    }
    scatter_block(work.cond, d, first, count, out);
  }
  note_isa(LEGATO_REGION_ISA);
}

}  // namespace legato::LEGATO_REGION
