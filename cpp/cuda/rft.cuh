// Reinforcement fine-tuning on a GPU: rft.hpp's token statistics and their gradient, GAE, statistics of groups and
// advantages. Threads only; the arithmetic is that of math/. Compiled without contraction (--fmad=false) the numbers
// are those of the CPU's copies with FMA, bit for bit: sums keep the CPU's order, which is what shapes the kernels.
#ifndef LEGATO_CUDA_RFT_CUH
#define LEGATO_CUDA_RFT_CUH

#include "legato/math/softmax.h"
#include "threads.cuh"

namespace legato::cuda {

// --- Token statistics -----------------------------------------------------------------------------------------------
// Expected limit: reading the logits once. Sixteen threads take a block of kSoftmaxBlock columns, a lane of the CPU
// each; up to sixteen blocks of columns are summed side by side against one reference, and taken in their order.

constexpr int kLanes = 16, kMostSideBySide = 16;
constexpr int kPair = 2 * kLanes;

/// Which of a pair's logits a lane has; in bfloat16 those of even and those of odd index are the halves of words.
template <class Storage>
LEGATO_HD int place_of(int lane, int half) {
  return lane + kLanes * half;
}
template <>
LEGATO_HD int place_of<BFloat16>(int lane, int half) {
  return 2 * lane + half;
}

/// One lane's sums over a block of columns; the last pair is filled up with minus infinity.
template <bool kEntropy, class Storage>
__device__ __forceinline__ math::BlockSums<float> lane_sums(const Storage* z, int count, int lane,
                                                            const math::RowScale<float>& row) {
  const float lowest = -static_cast<float>(__builtin_inf());
  math::BlockSums<float> block = {0, 0, 0, lowest};
  for (int first = 0; first < count; first += kPair) {
    for (int half = 0; half < 2; ++half) {
      const int at = first + place_of<Storage>(lane, half);
      math::add_logits<kEntropy, sizeof(Storage) == 4>(at < count ? widened(z[at]) : lowest, row, block);
    }
  }
  return block;
}

/// As a fixed tree, that of packs-inl.h.
LEGATO_HD double sum_of_lanes(const double (&x)[kLanes]) {
  double part[8];
  for (int i = 0; i < 8; ++i) part[i] = x[i] + x[i + 8];
  return ((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7]));
}

/// Where a row's sums stand: what rft.cpp does block after block, here some blocks at a time.
struct RowWalk {
  math::SoftmaxSums sums;
  double largest;    ///< of the blocks that were taken
  double candidate;  ///< where `moves`: the reference to move to
  Size at;           ///< the first column that was not taken
  float reference;
  int taken;
  bool moves;    ///< the reference moves before the next block
  bool settled;  ///< it has been moved for the next block

  __device__ void begin() {
    sums = math::no_terms();
    largest = -__builtin_inf();
    candidate = largest;
    at = 0;
    reference = 0;
    taken = 0;
    moves = settled = false;
  }

  /// Takes blocks until one is too far above the reference.
  __device__ void judge(const math::BlockSums<float> (*block)[kLanes], int blocks, Size columns, double temperature) {
    taken = 0;
    moves = false;
    for (; taken < blocks && at < columns; at += math::kSoftmaxBlock, ++taken) {
      float most = block[taken][0].most;
      for (int lane = 1; lane < kLanes; ++lane) most = math::larger(block[taken][lane].most, most);
      candidate = static_cast<double>(most);
      const bool first = largest == -__builtin_inf();
      if (!settled && (first || candidate > sums.largest + math::kReach * temperature)) {
        moves = settled = true;
        return;
      }
      settled = false;
      largest = candidate > largest ? candidate : largest;
    }
  }

  /// Collects the lanes and moves the reference.
  __device__ void refer(double (*lanes)[kLanes], double to, double temperature) {
    sums.s += sum_of_lanes(lanes[0]);
    sums.t += sum_of_lanes(lanes[1]) / temperature;
    sums.q += sum_of_lanes(lanes[2]);
    for (int lane = 0; lane < kLanes; ++lane) lanes[0][lane] = lanes[1][lane] = lanes[2][lane] = 0;
    math::raise(sums, to, temperature);
    reference = sums.largest == -__builtin_inf() ? 0.0f : static_cast<float>(sums.largest);
  }
};

struct RowShared {
  math::BlockSums<float> block[kMostSideBySide][kLanes];
  double lanes[3][kLanes];
  RowWalk walk;
};

/// The sums of one row by a block of 16 k threads, k from 3 to kMostSideBySide.
template <bool kEntropy, class Storage>
__device__ __forceinline__ void walk_row(const Storage* row, Size columns, double temperature, RowShared& shared) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes, group = thread / kLanes;
  const int groups = static_cast<int>(blockDim.x) / kLanes;
  if (thread == 0) shared.walk.begin();
  if (group < 3) shared.lanes[group][lane] = 0;
  __syncthreads();
  while (shared.walk.at < columns) {
    const Size begin = shared.walk.at + static_cast<Size>(group) * math::kSoftmaxBlock;
    const int blocks = shared.walk.largest == -__builtin_inf() ? 1 : groups;  // the first one says where to begin
    if (group < blocks && begin < columns) {
      const Size left = columns - begin;
      const int count = left < math::kSoftmaxBlock ? static_cast<int>(left) : math::kSoftmaxBlock;
      const math::RowScale<float> scale = {shared.walk.reference, math::kNegligible * static_cast<float>(temperature),
                                           static_cast<float>(math::kLog2E / temperature)};
      shared.block[group][lane] = lane_sums<kEntropy>(row + begin, count, lane, scale);
    }
    __syncthreads();
    if (thread == 0) shared.walk.judge(shared.block, blocks, columns, temperature);
    __syncthreads();
    if (group < 3) {
      double& sum = shared.lanes[group][lane];
      for (int b = 0; b < shared.walk.taken; ++b) {
        const math::BlockSums<float>& block = shared.block[b][lane];
        sum = sum + static_cast<double>(group == 0 ? block.s : group == 1 ? block.t : block.q);
      }
    }
    __syncthreads();
    if (thread == 0 && shared.walk.moves) shared.walk.refer(shared.lanes, shared.walk.candidate, temperature);
    __syncthreads();
  }
  if (thread == 0) shared.walk.refer(shared.lanes, shared.walk.largest, temperature);
}

/// Fills the table (6, rows): logp, entropy, sum_p2, lse, largest, log_sum. Ids are below columns where mask is not 0.
template <class Storage>
__device__ __forceinline__ void token_stats(Size rows, Size columns, const Storage* logits, const long long* ids,
                                            double temperature, const unsigned char* mask, int entropy, float* table,
                                            RowShared& shared) {
  for (Size n = blockIdx.x; n < rows; n += gridDim.x) {
    math::TokenStats stats = {0, 0, 0, 0, 0, 0};
    if (mask == nullptr || mask[n] != 0) {
      const Storage* row = logits + n * columns;
      if (entropy) {
        walk_row<true>(row, columns, temperature, shared);
      } else {
        walk_row<false>(row, columns, temperature, shared);
      }
      if (threadIdx.x == 0) {
        stats = math::finish(shared.walk.sums, static_cast<double>(widened(row[ids[n]])), temperature);
      }
    }
    if (threadIdx.x == 0) {
      const double found[6] = {stats.logp, stats.entropy, stats.sum_p2, stats.lse, stats.largest, stats.log_sum};
      for (int i = 0; i < 6; ++i) {
        if (entropy || (i != 1 && i != 2)) table[static_cast<Size>(i) * rows + n] = static_cast<float>(found[i]);
      }
    }
    __syncthreads();
  }
}

// Expected limit of the gradient: reading the logits and writing as much.

constexpr Size kGradientColumns = 4096;  // of a row, to a block of threads

/// `stats` (3, rows): entropy, largest, log_sum. grad_entropy may be null; gradient may be the logits.
template <class Storage>
__device__ __forceinline__ void token_stats_backward(Size rows, Size columns, const Storage* logits,
                                                     const long long* ids, double temperature,
                                                     const unsigned char* mask, const float* stats,
                                                     const float* grad_logp, const float* grad_entropy,
                                                     Storage* gradient) {
  const Size parts = (columns + kGradientColumns - 1) / kGradientColumns;
  for (Size piece = blockIdx.x; piece < rows * parts; piece += gridDim.x) {
    const Size n = piece / parts, begin = piece % parts * kGradientColumns;
    const Size end = columns - begin < kGradientColumns ? columns : begin + kGradientColumns;
    const bool kept = mask == nullptr || mask[n] != 0;
    const float inverse = static_cast<float>(1.0 / temperature), weight = grad_logp[n] * inverse;
    const float on_entropy = grad_entropy == nullptr ? 0.0f : grad_entropy[n];
    const math::GradientScale<float> row = {stats[rows + n],       inverse,
                                            -stats[2 * rows + n],  -weight,
                                            -on_entropy * inverse, grad_entropy == nullptr ? 0.0f : stats[n]};
    for (Size i = begin + threadIdx.x; i < end; i += blockDim.x) {
      Storage& to = gradient[n * columns + i];
      float found = 0.0f;
      if (kept) {
        found = math::logit_gradient(widened(logits[n * columns + i]), row);
        if (i == static_cast<Size>(ids[n])) found += weight;
      }
      store(to, found);
    }
  }
}

// --- Advantages over time -------------------------------------------------------------------------------------------
// Expected limit: bytes where there are thousands of rows, else the chain of a row's steps. A thread has a row, as the
// recurrence runs from its end; a tile of steps passes through shared memory, so that neighbors read neighbors.

constexpr int kTile = 32;

template <class Real>
struct StepTile {
  Real rewards[kTile][kTile + 1], values[kTile][kTile + 1];  // by row; then advantages and returns
  unsigned char kept[kTile][kTile + 1];
};

/// gae of rft.hpp by blocks of kTile threads. mask and bootstrap may be null.
template <class Real>
__device__ __forceinline__ void gae(Size rows, Size columns, const Real* rewards, const Real* values,
                                    const unsigned char* mask, const Real* bootstrap, double gamma, double decay,
                                    Real* advantages, Real* returns, StepTile<Real>& tile) {
  const int thread = static_cast<int>(threadIdx.x);
  for (Size first = static_cast<Size>(blockIdx.x) * kTile; first < rows;
       first += static_cast<Size>(gridDim.x) * kTile) {
    const int own = rows - first < kTile ? static_cast<int>(rows - first) : kTile;
    double next_value = 0.0, last = 0.0;
    if (thread < own && bootstrap != nullptr) next_value = static_cast<double>(bootstrap[first + thread]);
    for (Size end = columns; end > 0;) {
      const int steps = end < kTile ? static_cast<int>(end) : kTile;
      const Size begin = end - steps;
      for (int row = 0; row < own && thread < steps; ++row) {
        const Size at = (first + row) * columns + begin + thread;
        tile.rewards[row][thread] = rewards[at];
        tile.values[row][thread] = values[at];
        tile.kept[row][thread] = mask == nullptr || mask[at] != 0;
      }
      __syncthreads();
      for (int t = steps - 1; t >= 0 && thread < own; --t) {
        Real &reward = tile.rewards[thread][t], &shown = tile.values[thread][t];
        if (!tile.kept[thread][t]) {
          reward = shown = Real(0);
          continue;
        }
        const double value = static_cast<double>(shown);
        last = static_cast<double>(reward) + gamma * next_value - value + decay * last;
        next_value = value;
        reward = static_cast<Real>(last);
        shown = static_cast<Real>(last + value);
      }
      __syncthreads();
      for (int row = 0; row < own && thread < steps; ++row) {
        const Size at = (first + row) * columns + begin + thread;
        advantages[at] = tile.rewards[row][thread];
        returns[at] = tile.values[row][thread];
      }
      __syncthreads();
      end = begin;
    }
  }
}

// --- Groups ---------------------------------------------------------------------------------------------------------
// The rewards of group g are those at order[start[g]], ..., order[start[g + 1] - 1], ascending. A thread has a group
// and adds in the CPU's order. Expected limit: the launch for groups of some dozens; one group of n takes n reads in a
// row.

struct Group {
  const double* rewards;
  const long long* order;
  Size begin, end;

  LEGATO_HD double operator[](Size i) const { return rewards[order[i]]; }
  LEGATO_HD double count() const { return static_cast<double>(end - begin); }
};

struct GroupTable {
  long long* count;
  double *least, *largest, *mean, *m2;
};

LEGATO_HD void group_moments(const Group& group, Size g, const GroupTable& out) {
  double least = __builtin_inf(), largest = -__builtin_inf(), mean = 0, m2 = 0;
  for (Size i = group.begin; i < group.end; ++i) {
    least = group[i] < least ? group[i] : least;
    largest = largest < group[i] ? group[i] : largest;
  }
  if (group.begin < group.end) {
    for (Size i = group.begin; i < group.end; ++i) mean += group[i] - least;
    mean /= group.count();  // still relative to the least
    for (Size i = group.begin; i < group.end; ++i) {
      const double d = (group[i] - least) - mean;
      m2 += d * d;
    }
    mean += least;
  }
  out.count[g] = static_cast<long long>(group.end - group.begin);
  out.least[g] = least;
  out.largest[g] = largest;
  out.mean[g] = mean;
  out.m2[g] = m2;
}

enum GroupScale { deviation, leave_one_out, one, all_centered, all_rewards };  // rft.hpp's

LEGATO_HD double at_least_one(double x) { return x > 1 ? x : 1; }

/// Centered rewards over what belongs to their group; the scale over all rewards comes after.
LEGATO_HD void group_advantages(const Group& group, int scaling, int ddof, double eps, double* advantages) {
  if (group.begin == group.end) return;
  const double first = group[group.begin], n = group.count();
  double mean = 0, scale = 1;
  for (Size i = group.begin; i < group.end; ++i) mean += group[i] - first;
  mean /= at_least_one(n);
  if (scaling == leave_one_out) scale = at_least_one(n - 1) / at_least_one(n);
  if (scaling == deviation) {
    double m2 = 0;
    for (Size i = group.begin; i < group.end; ++i) {
      const double d = (group[i] - first) - mean;
      m2 += d * d;
    }
    scale = __builtin_sqrt(m2 / at_least_one(n - ddof)) + eps;
    if (scale == 0) scale = 1;
  }
  for (Size i = group.begin; i < group.end; ++i) advantages[group.order[i]] = ((group[i] - first) - mean) / scale;
}

/// One block of threads works out the terms of a sum, and its first thread adds them in order.
template <class Term>
__device__ __forceinline__ double sum_in_order(Size count, double (&held)[256], const Term& term) {
  double sum = 0;
  for (Size begin = 0; begin < count; begin += blockDim.x) {
    if (begin + threadIdx.x < count) held[threadIdx.x] = term(begin + threadIdx.x);
    __syncthreads();
    const Size left = count - begin;
    for (Size i = 0; threadIdx.x == 0 && i < left && i < blockDim.x; ++i) sum += held[i];
    __syncthreads();
  }
  return sum;
}

/// The spread that all advantages are divided by, of all_centered from the centered rewards, of all_rewards from the
/// rewards; `spread` holds two numbers. One block of at most 256 threads.
__device__ __forceinline__ void spread_of_all(Size count, const double* x, int scaling, int ddof, double eps,
                                              double* spread, double (&held)[256]) {
  const double first = scaling == all_rewards ? x[0] : 0.0, n = static_cast<double>(count);
  double mean = 0;
  if (scaling == all_rewards) {
    mean = sum_in_order(count, held, [&](Size i) { return (x[i] - first) / n; });
    if (threadIdx.x == 0) spread[1] = mean;
    __syncthreads();
    mean = spread[1];
  }
  const double m2 = sum_in_order(count, held, [&](Size i) {
    const double d = (x[i] - first) - mean;
    return d * d;
  });
  if (threadIdx.x == 0) {
    const double found = __builtin_sqrt(m2 / at_least_one(n - ddof)) + eps;
    spread[0] = found == 0 ? 1.0 : found;
  }
}

}  // namespace legato::cuda

#define LEGATO_CUDA_RFT_LOGITS(kind, Storage)                                                                         \
  extern "C" __global__ void __launch_bounds__(256) legato_rft_token_stats_##kind(                                    \
      unsigned long long rows, unsigned long long columns, const Storage* logits, const long long* ids,               \
      double temperature, const unsigned char* mask, int entropy, float* table) {                                     \
    __shared__ legato::cuda::RowShared shared;                                                                        \
    legato::cuda::token_stats(rows, columns, logits, ids, temperature, mask, entropy, table, shared);                 \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(256) legato_rft_token_stats_backward_##kind(                           \
      unsigned long long rows, unsigned long long columns, const Storage* logits, const long long* ids,               \
      double temperature, const unsigned char* mask, const float* stats, const float* grad_logp,                      \
      const float* grad_entropy, Storage* gradient) {                                                                 \
    legato::cuda::token_stats_backward(rows, columns, logits, ids, temperature, mask, stats, grad_logp, grad_entropy, \
                                       gradient);                                                                     \
  }
LEGATO_CUDA_RFT_LOGITS(float32, float)
LEGATO_CUDA_RFT_LOGITS(float16, legato::cuda::Half)
LEGATO_CUDA_RFT_LOGITS(bfloat16, legato::cuda::BFloat16)
#undef LEGATO_CUDA_RFT_LOGITS

#define LEGATO_CUDA_RFT_GAE(kind, Real)                                                                                \
  extern "C" __global__ void __launch_bounds__(32) legato_rft_gae_##kind(                                              \
      unsigned long long rows, unsigned long long columns, const Real* rewards, const Real* values,                    \
      const unsigned char* mask, const Real* bootstrap, double gamma, double decay, Real* advantages, Real* returns) { \
    __shared__ legato::cuda::StepTile<Real> tile;                                                                      \
    legato::cuda::gae(rows, columns, rewards, values, mask, bootstrap, gamma, decay, advantages, returns, tile);       \
  }
LEGATO_CUDA_RFT_GAE(float32, float)
LEGATO_CUDA_RFT_GAE(float64, double)
#undef LEGATO_CUDA_RFT_GAE

extern "C" __global__ void legato_rft_group_moments(unsigned long long groups, const double* rewards,
                                                    const long long* order, const long long* start, long long* count,
                                                    double* least, double* largest, double* mean, double* m2) {
  legato::cuda::for_each(groups, [&](legato::cuda::Size g) {
    const legato::cuda::Group group = {rewards, order, static_cast<legato::cuda::Size>(start[g]),
                                       static_cast<legato::cuda::Size>(start[g + 1])};
    legato::cuda::group_moments(group, g, {count, least, largest, mean, m2});
  });
}

extern "C" __global__ void legato_rft_group_advantages(unsigned long long groups, const double* rewards,
                                                       const long long* order, const long long* start, int scaling,
                                                       int ddof, double eps, double* advantages) {
  legato::cuda::for_each(groups, [&](legato::cuda::Size g) {
    const legato::cuda::Group group = {rewards, order, static_cast<legato::cuda::Size>(start[g]),
                                       static_cast<legato::cuda::Size>(start[g + 1])};
    legato::cuda::group_advantages(group, scaling, ddof, eps, advantages);
  });
}

extern "C" __global__ void __launch_bounds__(256)
    legato_rft_spread_of_all(unsigned long long count, const double* x, int scaling, int ddof, double eps,
                             double* spread) {
  __shared__ double held[256];
  legato::cuda::spread_of_all(count, x, scaling, ddof, eps, spread, held);
}

#endif  // LEGATO_CUDA_RFT_CUH
