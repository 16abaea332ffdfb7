// Logarithms and exponentials of homographies on a GPU, a matrix to a thread. Threads only; the arithmetic is that of
// math/homography.h, which has no operation but IEEE's. Compiled without contraction (--fmad=false) the numbers are
// those of the CPU, bit for bit. Expected limit: for the exponential 144 bytes a matrix or some 700 float64 operations,
// whichever the device has fewer of; the logarithm takes one to some square roots of matrices, and a warp waits for its
// slowest.
#ifndef LEGATO_CUDA_CAMERA_CUH
#define LEGATO_CUDA_CAMERA_CUH

#include "legato/math/homography.h"
#include "threads.cuh"

namespace legato::cuda {

constexpr int kMatrices = 64;  // of a block, one to a thread

/// Calls work(matrix) -> defect for each of n matrices. They pass through shared memory, so that neighbors read
/// neighbors; where the defect is not 0 the matrix comes out as NaN.
template <class Work>
__device__ __forceinline__ void for_matrices(Size n, const double* from, double* to, unsigned char* defects,
                                             double (&held)[9 * kMatrices], const Work& work) {
  const Size thread = threadIdx.x;
  for (Size first = static_cast<Size>(blockIdx.x) * kMatrices; first < n;
       first += static_cast<Size>(gridDim.x) * kMatrices) {
    const Size own = n - first < kMatrices ? n - first : kMatrices;
    for (Size i = thread; i < 9 * own; i += kMatrices) held[i] = from[9 * first + i];
    __syncthreads();
    if (thread < own) {
      math::Matrix3<double> matrix;
      for (int i = 0; i < 9; ++i) matrix.at[i] = held[9 * thread + i];
      const unsigned char defect = work(matrix);
      for (int i = 0; i < 9; ++i) held[9 * thread + i] = defect == 0 ? matrix.at[i] : __builtin_nan("");
      defects[first + thread] = defect;
    }
    __syncthreads();
    for (Size i = thread; i < 9 * own; i += kMatrices) to[9 * first + i] = held[i];
    __syncthreads();
  }
}

/// 1 where the matrix is not finite or singular, 2 where it has no principal logarithm.
__device__ __forceinline__ unsigned char into_logarithm(math::Matrix3<double>& matrix) {
  const math::LogResult<double> found = math::logarithm(matrix);
  matrix = found.log;
  return static_cast<unsigned char>(found.defect);
}

/// 1 where an entry is not finite or an absolute row sum is above 500.
__device__ __forceinline__ unsigned char into_exponential(math::Matrix3<double>& matrix) {
  bool sound = math::row_norm(matrix) <= 500.0;
  for (int i = 0; i < 9; ++i) sound = sound && math::magnitude(matrix.at[i]) <= 500.0;  // NaN is not
  if (!sound) return 1;
  matrix = math::exponential(matrix);
  return 0;
}

}  // namespace legato::cuda

#define LEGATO_CUDA_CAMERA_KERNEL(name, work)                                                                     \
  extern "C" __global__ void __launch_bounds__(64) legato_camera_##name##_homography(                             \
      unsigned long long n, const double* from, double* to, unsigned char* defects) {                             \
    __shared__ double held[9 * legato::cuda::kMatrices];                                                          \
    legato::cuda::for_matrices(n, from, to, defects, held,                                                        \
                               [](legato::math::Matrix3<double>& matrix) { return legato::cuda::work(matrix); }); \
  }
LEGATO_CUDA_CAMERA_KERNEL(log, into_logarithm)
LEGATO_CUDA_CAMERA_KERNEL(exp, into_exponential)
#undef LEGATO_CUDA_CAMERA_KERNEL

#endif  // LEGATO_CUDA_CAMERA_CUH
