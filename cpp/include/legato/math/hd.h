// What single-source arithmetic may use: host and device qualifiers, and the scalar operations whose lane versions
// stand in src/lanes-inl.h. A math/ header includes only math/ headers: no std, no allocation.
//
// A math/ header may be compiled more than once in a translation unit, in one namespace for each instruction set:
// LEGATO_MATH names that namespace, and whoever changes it undefines the include guards.
#ifndef LEGATO_MATH
#define LEGATO_MATH legato::math
#endif

#ifndef LEGATO_HD
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define LEGATO_HD __host__ __device__ __forceinline__
#else
#define LEGATO_HD inline __attribute__((always_inline))
#endif
#endif

#ifndef LEGATO_MATH_HD_H
#define LEGATO_MATH_HD_H

#if defined(__CUDACC_RTC__)  // has the functions, but not under the compilers' names for them
#define __builtin_memcpy memcpy
#define __builtin_sqrt sqrt
#define __builtin_sqrtf sqrtf
#define __builtin_inf() __longlong_as_double(0x7ff0000000000000)
#define __builtin_nan(text) __longlong_as_double(0x7ff8000000000000)
#endif

namespace LEGATO_MATH {

LEGATO_HD bool any(bool mask) { return mask; }
LEGATO_HD double select(bool mask, double yes, double no) { return mask ? yes : no; }
LEGATO_HD double magnitude(double x) { return x < 0 ? -x : x; }
LEGATO_HD double square_root(double x) { return __builtin_sqrt(x); }

/// The constant x in the type of the computation: a double or a pack of lanes.
template <class T>
LEGATO_HD T constant(double x) {
  return T{} + x;
}

/// Splits x > 0 into mantissa in [1, 8) and root such that x = mantissa * root^3, root a power of two.
LEGATO_HD double cube_split(double x, double& root) {
  long long bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  const long long third = (((bits >> 52) - 1023 + 3072) * 21846) >> 16;  // floor((e + 3072) / 3)
  const long long exponent = third - 1024;
  const long long root_bits = (exponent + 1023) << 52;
  const long long scale_bits = (1023 - 3 * exponent) << 52;
  double scale;
  __builtin_memcpy(&root, &root_bits, sizeof root);
  __builtin_memcpy(&scale, &scale_bits, sizeof scale);
  return x * scale;
}

/// The power of two at or below x > 0.
LEGATO_HD double binade(double x) {
  long long bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  bits &= 0x7ff0000000000000LL;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

}  // namespace LEGATO_MATH

#endif  // LEGATO_MATH_HD_H
