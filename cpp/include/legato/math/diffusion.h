// Arithmetic of diffusion models, for one lane or many: half-precision storage, the exponential of softmax weights, and
// the logarithm of normalizers. Only IEEE operations in a fixed order.
#ifndef LEGATO_MATH_DIFFUSION_H
#define LEGATO_MATH_DIFFUSION_H

#include "legato/math/hd.h"
#include "legato/math/random.h"

namespace LEGATO_MATH {

// --- Storage of 16 bits, arithmetic of 32 ---------------------------------------------------------------------------

/// IEEE binary16 in the low half of a word, exactly.
template <class F, class W>
LEGATO_HD F float_of_half(const W& half) {
  const W size = half & 0x7fffu;
  const F scaled = float_of_bits(size << 13) * 0x1p112f;  // subnormal halves become normal floats
  const W special = sign_mask(W{} + 0x7bffu - size) & 0x7f800000u;
  return float_of_bits(bits_of(scaled) | special | ((half & 0x8000u) << 16));
}

/// To the nearest half, ties to even; beyond 65520 infinity.
template <class W, class F>
LEGATO_HD W half_of_float(const F& x) {
  const W bits = bits_of(x), size = bits & 0x7fffffffu;
  const W normal = ((size + 0xfffu + ((size >> 13) & 1u)) >> 13) - 0x1c000u;
  const W subnormal = bits_of(float_of_bits(size) + 0.5f) - 0x3f000000u;  // 0.5f has the spacing of subnormal halves
  W half = choose_bits(sign_mask(size - 0x38800000u), subnormal, normal);
  half = choose_bits(sign_mask(W{} + 0x477fefffu - size), W{} + 0x7c00u, half);
  half = choose_bits(sign_mask(W{} + 0x7f800000u - size), W{} + 0x7e00u, half);
  return half | ((bits >> 16) & 0x8000u);
}

template <class F, class W>
LEGATO_HD F float_of_bfloat(const W& bfloat) {
  return float_of_bits(bfloat << 16);
}

/// To the nearest bfloat16, ties to even.
template <class W, class F>
LEGATO_HD W bfloat_of_float(const F& x) {
  const W bits = bits_of(x);
  const W rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return choose_bits(sign_mask(W{} + 0x7f800000u - (bits & 0x7fffffffu)), (bits >> 16) | 0x40u, rounded);
}

// --- Exponential and logarithm --------------------------------------------------------------------------------------

/// Constants of exp(x) = 2^n (1 + r + r^2 P(r)), r = x - n log 2 in [-log(2) / 2, log(2) / 2].
template <class Real>
struct Exponential;
template <>
struct Exponential<float> {
  static constexpr float lowest = -80.0f;  // a weight of 1e-35: nothing beside 1
  static constexpr float round = 0x1.8p23f;
  static constexpr float log2_high = 0x1.62e4p-1f, log2_low = 1.4286068203094173e-6f;
  static constexpr int mantissa = 23, degree = 4;
  static constexpr float coefficient[5] = {5.000000095e-01f, 1.666651884e-01f, 4.166620583e-02f, 8.368889558e-03f,
                                           1.395048916e-03f};
};
template <>
struct Exponential<double> {
  static constexpr double lowest = -700.0;
  static constexpr double round = 0x1.8p52;
  static constexpr double log2_high = 0x1.62e42fefap-1, log2_low = 1.6465949582897082e-12;
  static constexpr int mantissa = 52, degree = 10;
  static constexpr double coefficient[11] = {5.00000000000012434e-01, 1.66666666666701851e-01, 4.16666666652412906e-02,
                                             8.33333332929522309e-03, 1.38888893309049356e-03, 1.98412820244013875e-04,
                                             2.48010397492116213e-05, 2.75437462616641647e-06, 2.78428687413164236e-07,
                                             3.01078613656886536e-08, -3.00942221863052443e-09};
};

/// log x for x > 0, normal: atanh series of the mantissa in [sqrt(1/2), sqrt(2)). Relative error below 1e-15.
LEGATO_HD double logarithm_of(double x) {
  unsigned long long bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  const long long exponent = static_cast<long long>(bits - 0x3fe6a09e667f3bcdULL) >> 52;
  bits -= static_cast<unsigned long long>(exponent) << 52;
  double m;
  __builtin_memcpy(&m, &bits, sizeof m);
  const double t = (m - 1.0) / (m + 1.0), square = t * t;
  double series = 1.0 / 23;
  for (int odd = 21; odd >= 3; odd -= 2) series = series * square + 1.0 / odd;
  const double e = static_cast<double>(exponent);
  return e * 0x1.62e42fefap-1 + (2.0 * t + (2.0 * t * square * series + e * 1.6465949582897082e-12));
}

}  // namespace LEGATO_MATH

#endif  // LEGATO_MATH_DIFFUSION_H
