// What the kernels for GPUs share: sizes, storage types, and loops over a grid. Threads only; the arithmetic is that of
// math/.
#ifndef LEGATO_CUDA_THREADS_CUH
#define LEGATO_CUDA_THREADS_CUH

#include "legato/math/diffusion.h"

namespace legato::cuda {

typedef unsigned long long Size;

// Storage: float and double as they are; 16-bit kinds as their bits.
struct Half {
  unsigned short bits;
};
struct BFloat16 {
  unsigned short bits;
};

template <class Storage>
struct Arithmetic {
  typedef float Real;
};
template <>
struct Arithmetic<double> {
  typedef double Real;
};

LEGATO_HD float widened(float x) { return x; }
LEGATO_HD double widened(double x) { return x; }
LEGATO_HD float widened(Half x) { return math::float_of_half<float>(static_cast<unsigned>(x.bits)); }
LEGATO_HD float widened(BFloat16 x) { return math::float_of_bfloat<float>(static_cast<unsigned>(x.bits)); }

LEGATO_HD void store(float& to, float x) { to = x; }
LEGATO_HD void store(double& to, double x) { to = x; }
LEGATO_HD void store(Half& to, float x) { to.bits = static_cast<unsigned short>(math::half_of_float<unsigned>(x)); }
LEGATO_HD void store(BFloat16& to, float x) {
  to.bits = static_cast<unsigned short>(math::bfloat_of_float<unsigned>(x));
}

/// Calls work(i) for this thread's share of the numbers below count.
template <class Work>
__device__ __forceinline__ void for_each(Size count, const Work& work) {
  const Size threads = static_cast<Size>(gridDim.x) * blockDim.x;
  for (Size i = static_cast<Size>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += threads) work(i);
}

}  // namespace legato::cuda

#endif  // LEGATO_CUDA_THREADS_CUH
