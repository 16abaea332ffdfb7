// Sums in twice the digits of float64: each value enters without a rounding error of its own, so that neither the order
// of the values nor a common offset shows in mean and variance. T is double or a pack of them (src/packs-inl.h).
#include "legato/math/hd.h"

#ifndef LEGATO_MATH_MOMENTS_H
#define LEGATO_MATH_MOMENTS_H

namespace LEGATO_MATH {

/// high + low, where low is what rounding took from high.
template <class T>
struct Doubled {
  T high, low;
};

/// a + b exactly (Knuth).
template <class T>
LEGATO_HD Doubled<T> exact_sum(const T& a, const T& b) {
  const T sum = a + b, part = sum - a;
  return {sum, (a - (sum - part)) + (b - part)};
}

template <class T>
LEGATO_HD void add(Doubled<T>& total, const T& x) {
  const Doubled<T> sum = exact_sum(total.high, x);
  total.high = sum.high;
  total.low = total.low + sum.low;
}

/// The upper 26 bits of x, |x| < 1e300; what is left has 26 too, so that products of halves are exact (Veltkamp).
template <class T>
LEGATO_HD T upper_half(const T& x) {
  const T scaled = x * 134217729.0;
  return scaled - (scaled - x);
}

/// a * b exactly (Dekker).
LEGATO_HD Doubled<double> exact_product(double a, double b) {
  const double product = a * b, ah = upper_half(a), al = a - ah, bh = upper_half(b), bl = b - bh;
  return {product, ((ah * bh - product) + ah * bl + al * bh) + al * bl};
}

/// Sum and sum of squares. Float32 numbers have exact squares (kWide: float64 ones, whose squares come in two parts).
template <class T>
struct PowerSums {
  Doubled<T> sum, squares;

  template <bool kWide>
  LEGATO_HD void append(const T& x) {
    add(sum, x);
    if constexpr (kWide) {
      const T high = upper_half(x), low = x - high;
      add(squares, high * high);
      add(squares, high * low * 2.0 + low * low);
    } else {
      add(squares, x * x);
    }
  }
};

struct Moments {
  double mean, m2;
};

/// Mean and sum of squared deviations of n >= 1 values with these sums.
LEGATO_HD Moments moments_of(const PowerSums<double>& sums, double n) {
  const Doubled<double> s = exact_sum(sums.sum.high, sums.sum.low);
  const Doubled<double> q = exact_sum(sums.squares.high, sums.squares.low);
  const double mean = s.high / n;
  const Doubled<double> whole = exact_product(mean, n);
  const double rest = (((s.high - whole.high) - whole.low) + s.low) / n;
  const Doubled<double> square = exact_product(s.high, mean);
  const double correction = square.low + (s.high * rest + s.low * mean);
  const Doubled<double> m2 = exact_sum(q.high, -square.high);
  const double found = m2.high + (m2.low + (q.low - correction));
  return {mean + rest, found > 0 ? found : 0.0};
}

}  // namespace LEGATO_MATH

#endif  // LEGATO_MATH_MOMENTS_H
