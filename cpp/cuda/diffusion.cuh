// Diffusion on a GPU: the noise and the fused step of diffusion.hpp, four elements of one sample to a thread. Thread
// indexing only; the arithmetic is that of math/. Compiled without contraction (--fmad=false) the numbers are those of
// the CPU, bit for bit.
#ifndef LEGATO_CUDA_DIFFUSION_CUH
#define LEGATO_CUDA_DIFFUSION_CUH

#include "legato/math/random.h"
#include "threads.cuh"

namespace legato::cuda {

/// diffusion.hpp's Noise. With seeds null, `seed` is everyone's and sample i has stream first_stream + i.
struct Noise {
  Size seed;
  const Size* seeds;
  Size first_stream;
  unsigned step, substep;
  int philox;
};

/// The normals of elements 4 block .. 4 block + 3 of a sample.
LEGATO_HD void draw_four(const Noise& noise, Size sample, Size block, float (&z)[4]) {
  const Size seed = noise.seeds != nullptr ? noise.seeds[sample] : noise.seed;
  const Size stream = noise.seeds != nullptr ? 0 : noise.first_stream + sample;
  const math::Stream<unsigned> of{static_cast<unsigned>(seed), static_cast<unsigned>(seed >> 32),
                                  static_cast<unsigned>(stream), static_cast<unsigned>(stream >> 32)};
  const unsigned low = static_cast<unsigned>(block), high = static_cast<unsigned>(block >> 32);
  const math::Block<unsigned> words = noise.philox
                                          ? math::draw<true, unsigned>(of, low, high, noise.step, noise.substep)
                                          : math::draw<false, unsigned>(of, low, high, noise.step, noise.substep);
  math::gaussian_pair(words.word[0], words.word[1], z[0], z[1]);
  math::gaussian_pair(words.word[2], words.word[3], z[2], z[3]);
}

/// Calls work(sample, block, first element in memory, how many of the four exist) for this thread's share.
template <class Work>
__device__ __forceinline__ void for_blocks(Size samples, Size elements, const Work& work) {
  const Size blocks = (elements + 3) / 4;
  for_each(samples * blocks, [&](Size at) {
    const Size sample = at / blocks, block = at % blocks, left = elements - 4 * block;
    work(sample, block, sample * elements + 4 * block, left < 4 ? static_cast<int>(left) : 4);
  });
}

template <class Storage>
struct FillNormals {
  Noise noise;
  Storage* out;

  LEGATO_HD void operator()(Size sample, Size block, Size first, int count) const {
    float z[4];
    draw_four(noise, sample, block, z);
    for (int i = 0; i < count; ++i) store(out[first + i], static_cast<typename Arithmetic<Storage>::Real>(z[i]));
  }
};

/// x' = a x + cond e_cond + uncond e_uncond + noise z; one set of coefficients, or a row of `table` a sample.
template <class Storage>
struct Step {
  double coefficients[4];
  const double* table;
  const Storage *x, *cond, *uncond, *given_noise;
  Noise noise;
  Storage* out;

  LEGATO_HD void operator()(Size sample, Size block, Size first, int count) const {
    typedef typename Arithmetic<Storage>::Real Real;
    // Not by one pointer to either: that would put them into local memory.
    const auto by = [&](int i) { return table != nullptr ? table[4 * sample + i] : coefficients[i]; };
    const Real a = static_cast<Real>(by(0)), c = static_cast<Real>(by(1)), u = static_cast<Real>(by(2));
    const Real scale = static_cast<Real>(by(3));
    const bool noisy = by(3) != 0;
    float z[4] = {0, 0, 0, 0};
    if (noisy && given_noise == nullptr) draw_four(noise, sample, block, z);
    for (int i = 0; i < count; ++i) {
      const Size at = first + i;
      Real value = widened(x[at]) * a + widened(cond[at]) * c;
      if (uncond != nullptr) value = value + widened(uncond[at]) * u;
      if (noisy) {
        value = value + (given_noise != nullptr ? widened(given_noise[at]) : static_cast<Real>(z[i])) * scale;
      }
      store(out[at], value);
    }
  }
};

}  // namespace legato::cuda

#define LEGATO_CUDA_DIFFUSION_KERNELS(kind, Storage)                                                                   \
  extern "C" __global__ void legato_diffusion_normal_##kind(unsigned long long samples, unsigned long long elements,   \
                                                            unsigned long long seed, const unsigned long long* seeds,  \
                                                            unsigned long long first_stream, unsigned step,            \
                                                            unsigned substep, int philox, Storage* out) {              \
    const legato::cuda::Noise noise = {seed, seeds, first_stream, step, substep, philox};                              \
    legato::cuda::for_blocks(samples, elements, legato::cuda::FillNormals<Storage>{noise, out});                       \
  }                                                                                                                    \
  extern "C" __global__ void legato_diffusion_step_##kind(                                                             \
      unsigned long long samples, unsigned long long elements, double a, double on_cond, double on_uncond,             \
      double on_noise, const double* table, const Storage* x, const Storage* cond, const Storage* uncond,              \
      const Storage* given_noise, unsigned long long seed, const unsigned long long* seeds,                            \
      unsigned long long first_stream, unsigned step, unsigned substep, int philox, Storage* out) {                    \
    const legato::cuda::Noise noise = {seed, seeds, first_stream, step, substep, philox};                              \
    legato::cuda::for_blocks(samples, elements,                                                                        \
                             legato::cuda::Step<Storage>{                                                              \
                                 {a, on_cond, on_uncond, on_noise}, table, x, cond, uncond, given_noise, noise, out}); \
  }
LEGATO_CUDA_DIFFUSION_KERNELS(float32, float)
LEGATO_CUDA_DIFFUSION_KERNELS(float64, double)
LEGATO_CUDA_DIFFUSION_KERNELS(float16, legato::cuda::Half)
LEGATO_CUDA_DIFFUSION_KERNELS(bfloat16, legato::cuda::BFloat16)
#undef LEGATO_CUDA_DIFFUSION_KERNELS

#endif  // LEGATO_CUDA_DIFFUSION_CUH
