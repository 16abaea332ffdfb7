// Diffusion: counter-based noise, the fused step x' = A x + B eps + C z, and whole loops for models known exactly.
//
// Conventions. x_t = alpha x0 + sigma eps. Arrays are row-major: `samples` rows of `elements` numbers. Storage is
// float, double, Half or BFloat16; arithmetic is float, or double for double. A result depends on neither the number of
// threads, the batch a sample is in, nor the instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "legato/core.hpp"

LEGATO_SURFACE_BEGIN

namespace legato::diffusion {

/// IEEE binary16 and bfloat16, as bits.
struct Half {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};

// --- Noise ----------------------------------------------------------------------------------------------------------

enum class Generator : int {
  threefry = 0,  ///< Threefry4x32-13
  philox = 1,    ///< Philox4x32-10; streams and blocks of four elements below 2^32
};

/// Which numbers to draw: number e of sample i is a function of (seed_i, stream_i, step, substep, e) alone, and the
/// same float whatever the storage.
struct Noise {
  std::span<const std::uint64_t> seeds = {};  ///< one a sample with stride 1 (stream 0); one for all with 0 (stream i)
  std::size_t stride = 0;
  std::uint64_t first_stream = 0;  ///< with stride 0: the stream of sample 0
  std::uint32_t step = 0, substep = 0;
  Generator generator = Generator::threefry;
};

/// Raw blocks, for known answers: n x 4 counters; keys n x 4 (Threefry) or n x 2 (Philox); rounds 12, 13 or 20.
Status threefry4x32(std::span<const std::uint32_t> counters, std::span<const std::uint32_t> keys, int rounds,
                    std::span<std::uint32_t> out) noexcept;
Status philox4x32(std::span<const std::uint32_t> counters, std::span<const std::uint32_t> keys,
                  std::span<std::uint32_t> out) noexcept;

/// Standard normals, |z| to 6.76: samples x elements.
template <class Storage>
Status normal(const Noise& noise, std::size_t samples, std::size_t elements, std::span<Storage> out,
              int threads = 1) noexcept;

// --- The fused step -------------------------------------------------------------------------------------------------

/// x' = a x + cond e_cond + uncond e_uncond + noise z. Guidance g with x' = A x + B (e_u + g (e_c - e_u)) + C z is
/// cond = B g, uncond = B (1 - g).
struct Coefficients {
  double a = 1, cond = 0, uncond = 0, noise = 0;
};

template <class Storage>
struct Step {
  std::size_t samples = 0, elements = 0;
  std::span<const Coefficients> coefficients = {};  ///< one, or one a sample
  std::span<const Storage> x = {};                  ///< samples x elements
  std::span<const Storage> cond = {};               ///< samples x elements
  std::span<const Storage> uncond = {};             ///< samples x elements, or empty
  std::span<const Storage> given_noise = {};        ///< samples x elements: used instead of drawing, or empty
  Noise noise = {};                                 ///< read where a noise coefficient is not 0
  std::span<Storage> out = {};                      ///< samples x elements; may be x, cond or uncond itself
};

template <class Storage>
Status apply_step(const Step<Storage>& step, int threads = 1) noexcept;

/// Sums over each sample that guidance rules are made of: c.c, u.u, c.u, sum c, sum u, x.c, x.u, x.x in double, added
/// in a fixed tree. cond, uncond, x: samples x elements; x may be empty (its sums are 0). out: samples x 8.
constexpr std::size_t kSums = 8;
template <class Storage>
Status guidance_sums(std::size_t samples, std::size_t elements, std::span<const Storage> cond,
                     std::span<const Storage> uncond, std::span<const Storage> x, std::span<double> out,
                     int threads = 1) noexcept;

// --- Exact models ---------------------------------------------------------------------------------------------------

/// sum_k w_k N(mu_k, R_k diag(v_k) R_k'), K components in d dimensions.
struct Mixture {
  std::size_t components = 0, dimension = 0;
  bool isotropic = false;
  std::span<const double> log_weights = {};  ///< K; -infinity allowed
  std::span<const double> means = {};        ///< K x d
  std::span<const double> variances = {};    ///< K (isotropic) or K x d, > 0
  std::span<const double> rotations = {};    ///< K x d x d, columns the axes; empty: the coordinate axes
};

/// N points with weights: the distribution whose denoiser is a softmax over the data.
template <class Real>
struct PointCloud {
  std::size_t points = 0, dimension = 0;
  std::span<const Real> packed = {};       ///< as pack_points() makes them; on a 64-byte boundary loads are quickest
  std::span<const Real> log_weights = {};  ///< N, or empty for equal ones
};

/// Numbers that pack_points() writes: about 2 N d, or N d below 16 dimensions; 0 where no memory has so many.
std::size_t packed_points_size(std::size_t points, std::size_t dimension) noexcept;

/// Lays N x d data out as evaluations read them, the same on every instruction set.
template <class Real>
Status pack_points(std::size_t points, std::size_t dimension, std::span<const Real> data,
                   std::span<Real> packed) noexcept;

/// One of the two.
template <class Real>
struct Model {
  const Mixture* mixture = nullptr;
  const PointCloud<Real>* cloud = nullptr;
};

enum class Output : int { denoised = 0, score = 1 };

/// Bytes; 0 where no memory has so many.
std::size_t evaluate_workspace_size(std::size_t components, std::size_t dimension, int threads) noexcept;

/// E[x0 | x_t = x] or the score of the law of x_t, n x d; log_density (n) may be empty (mixtures only).
template <class Real>
Status evaluate(const Model<Real>& model, double alpha, double sigma, Output output, std::size_t samples,
                std::span<const Real> x, std::span<Real> out, std::span<Real> log_density,
                std::span<std::byte> workspace, int threads = 1) noexcept;

/// One model evaluation and the update it serves:
///   out = u + guidance (c - u);
///   x' = a x + b out + uncond u + previous out_1 + earlier out_2 + base x_1 + noise z,
/// where out_1 and x_1 are those of the row before, out_2 that of the row before it (0 where there was none). u is
/// evaluated only where a weight on it is not 0.
struct Row {
  double alpha = 1, sigma = 1;
  double a = 1, b = 0, guidance = 1, uncond = 0, previous = 0, earlier = 0, base = 0, noise = 0;
  std::uint32_t step = 0, substep = 0;
  Output output = Output::denoised;
};

/// Bytes; 0 where no memory has so many.
std::size_t chains_workspace_size(std::size_t components, std::size_t dimension, int threads) noexcept;

/// Runs every row for every sample; the state stays in the workspace, whose size does not depend on rows or samples.
/// x: samples x d, start on entry, result on return. `noise` gives seeds and generator; step and substep are the rows'.
template <class Real>
Status run_chains(const Model<Real>& cond, const Model<Real>& uncond, std::span<const Row> rows, const Noise& noise,
                  std::size_t samples, std::span<Real> x, std::span<std::byte> workspace, int threads = 1) noexcept;

}  // namespace legato::diffusion

LEGATO_SURFACE_END
