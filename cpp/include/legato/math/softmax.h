// One row of a softmax, in one pass: float32 arithmetic, float64 sums, the subtraction of the maximum before any
// product. T is float or a pack of them (src/packs-inl.h), with the same operators, fused, power_scaled, larger and
// select_less.
#include "legato/math/hd.h"

#ifndef LEGATO_MATH_SOFTMAX_H
#define LEGATO_MATH_SOFTMAX_H

namespace LEGATO_MATH {

constexpr double kLog2E = 1.4426950408889634074;
/// Adding this to |x| < 2^22 leaves round(x) in the low bits of a float32.
constexpr float kRoundingMagic = 12582912.0f;
/// Smaller terms than e^-43 of the largest count as that: their squares stay normal, and 10^9 of them change no
/// float32.
constexpr float kNegligible = -43.0f;

/// x * y + z, rounded once. Packs round once where the processor can.
LEGATO_HD float fused(float x, float y, float z) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(x, y, z);
#else
  return __builtin_fmaf(x, y, z);
#endif
}

/// b where either is NaN.
LEGATO_HD float larger(float a, float b) { return a > b ? a : b; }
/// yes where a < b, no elsewhere (NaN too).
LEGATO_HD float select_less(float a, float b, float yes, float no) { return a < b ? yes : no; }

/// fraction * 2^n where `shifted` is n + kRoundingMagic and the result is a normal number.
LEGATO_HD float power_scaled(float fraction, float shifted) {
  unsigned bits, power;
  __builtin_memcpy(&bits, &fraction, sizeof bits);
  __builtin_memcpy(&power, &shifted, sizeof power);
  bits += power << 23;
  __builtin_memcpy(&fraction, &bits, sizeof bits);
  return fraction;
}

/// 2^(x * scale) for |x * scale| < 126; relative error below 2.4e-7, and 1e-7 |x * scale| more where fused products are
/// not. Minimax polynomial of degree 5 on [-1/2, 1/2].
template <class T>
LEGATO_HD T power_of_two(const T& x, const T& scale) {
  const T magic = T{} + kRoundingMagic;
  const T shifted = fused(x, scale, magic);
  const T f = fused(x, scale, magic - shifted);
  T p = fused(f, T{} + 1.32253999e-3f, T{} + 9.67566855e-3f);
  p = fused(p, f, T{} + 5.55086397e-2f);
  p = fused(p, f, T{} + 2.40221307e-1f);
  p = fused(p, f, T{} + 6.93146944e-1f);
  p = fused(p, f, T{} + 1.0f);
  return power_scaled(p, shifted);
}

/// Columns between two flushes of the float32 sums into float64.
constexpr int kSoftmaxBlock = 2048;
/// How far in units of T a logit may be above the reference of the sums before they are moved.
constexpr double kReach = 8.0;

/// What a block's logits are summed against: the reference, kNegligible T, log2(e) / T.
template <class T>
struct RowScale {
  T reference, floor, scale;
};

/// Sums over a block by lane, with d = z - reference: sum e^(d/T), sum e^(d/T) d, sum e^(2d/T), and the largest logit.
template <class T>
struct BlockSums {
  T s, t, q, most;
};

/// NaN in some lane is NaN in its sum t, or without entropy in s or t: e^NaN stays NaN only if the low bits of the NaN
/// are zero, as they are in 16-bit logits; kWide says that they may be others.
template <bool kEntropy, bool kWide, class T>
LEGATO_HD void add_logits(const T& z, const RowScale<T>& row, BlockSums<T>& block) {
  block.most = larger(z, block.most);                // passes over NaN
  const T d = larger(row.floor, z - row.reference);  // NaN stays
  const T e = power_of_two(d, row.scale);
  block.s = block.s + e;
  if (kEntropy) {
    block.t = fused(e, d, block.t);
    block.q = fused(e, e, block.q);
  } else if (kWide) {
    block.t = block.t + d;
  }
}

/// Of one row: the largest logit, 1/T, -log_sum, -grad_logp / T, -grad_entropy / T, entropy.
template <class T>
struct GradientScale {
  T reference, scale, offset, weight, entropy_weight, entropy;
};

/// The gradient for logit z of a token that is not the row's.
template <class T>
LEGATO_HD T logit_gradient(const T& z, const GradientScale<T>& row) {
  const T floor = T{} + -87.0f, log2e = T{} + static_cast<float>(kLog2E);
  const T u = fused(z - row.reference, row.scale, row.offset);  // log p
  const T kept = select_less(u, floor, floor, u);
  const T p = select_less(u, floor, T{}, power_of_two(kept, log2e));
  return p * fused(kept + row.entropy, row.entropy_weight, row.weight);
}

/// e^x for x <= 0, relative error below 1e-15; 0 below -700. Its own, so that no libm decides a bit.
LEGATO_HD double decay(double x) {
  if (!(x > -700.0)) return x < 0 ? 0.0 : x;               // NaN stays
  const double shifted = x * kLog2E + 6755399441055744.0;  // 1.5 * 2^52
  const double n = shifted - 6755399441055744.0;
  const double r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  double p = 1.0;
  for (int k = 14; k >= 1; --k) p = 1.0 + p * r / k;
  long long bits;
  __builtin_memcpy(&bits, &p, sizeof bits);
  bits += static_cast<long long>(n) * (1LL << 52);
  __builtin_memcpy(&p, &bits, sizeof bits);
  return p;
}

/// log(x) for finite normal x > 0, error below 2e-16 (1 + |log x|).
LEGATO_HD double natural_log(double x) {
  long long bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  long long exponent = ((bits >> 52) & 0x7ff) - 1023;
  bits = (bits & 0xfffffffffffffLL) | (1023LL << 52);
  double m;
  __builtin_memcpy(&m, &bits, sizeof m);
  if (m > 1.41421356237309504880) {
    m *= 0.5;
    ++exponent;
  }
  const double s = (m - 1.0) / (m + 1.0), square = s * s;
  double series = 0.0;
  for (int k = 23; k >= 3; k -= 2) series = (series + 1.0 / k) * square;
  const double e = static_cast<double>(exponent);
  return e * 6.93147180369123816490e-01 + (2.0 * s + (2.0 * s * series + e * 1.90821492927058770002e-10));
}

/// Sums over part of a row, relative to its largest logit m: sum e^d, sum e^d d and sum e^2d with d = (z - m) / T.
struct SoftmaxSums {
  double largest, s, t, q;
};

LEGATO_HD SoftmaxSums no_terms() { return {-__builtin_inf(), 0, 0, 0}; }

/// Moves the reference of the sums up to `largest`.
LEGATO_HD void raise(SoftmaxSums& sums, double largest, double temperature) {
  if (!(largest > sums.largest)) return;
  if (sums.largest == -__builtin_inf()) {    // whatever was summed were terms of minus infinity
    sums.s = sums.s != sums.s ? sums.s : 0;  // NaN stays
    sums.t = sums.t != sums.t ? sums.t : 0;
    sums.q = 0;
  } else {
    const double d = (sums.largest - largest) / temperature, ratio = decay(d);
    sums.t = sums.t != sums.t ? sums.t : ratio > 0 ? ratio * (sums.t + sums.s * d) : 0;
    sums.s *= ratio;
    sums.q *= ratio * ratio;
  }
  sums.largest = largest;
}

struct TokenStats {
  double logp, entropy, sum_p2, lse;
  double largest, log_sum;  // log p_j = (z_j - largest) / T - log_sum, exact where lse has lost its last digits
};

/// What a row's sums say of the token whose logit is z.
LEGATO_HD TokenStats finish(const SoftmaxSums& sums, double z, double temperature) {
  const double nan = __builtin_nan("");
  // Nothing but minus infinity, or NaN or plus infinity somewhere.
  if (!(sums.largest > -__builtin_inf()) || sums.s != sums.s || sums.t != sums.t) return {nan, nan, nan, nan, nan, nan};
  const double log_s = natural_log(sums.s), entropy = log_s - sums.t / sums.s;
  return {(z - sums.largest) / temperature - log_s,
          entropy > 0 ? entropy : 0.0,
          sums.q / (sums.s * sums.s),
          sums.largest / temperature + log_s,
          sums.largest,
          log_s};
}

}  // namespace LEGATO_MATH

#endif  // LEGATO_MATH_SOFTMAX_H
