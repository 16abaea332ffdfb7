// Homographies as the group SL(3) and their logarithms in sl(3): determinant, logarithm, exponential.
// T is double, or a pack of lanes of which each holds its own matrix; no lane's result depends on another lane.
#include "legato/math/hd.h"

#ifndef LEGATO_MATH_HOMOGRAPHY_H
#define LEGATO_MATH_HOMOGRAPHY_H

namespace LEGATO_MATH {

/// Row-major 3x3 matrix.
template <class T>
struct Matrix3 {
  T at[9];
};

template <class T>
LEGATO_HD Matrix3<T> product(const Matrix3<T>& a, const Matrix3<T>& b) {
  Matrix3<T> c;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) {
      c.at[3 * i + j] = a.at[3 * i] * b.at[j] + a.at[3 * i + 1] * b.at[3 + j] + a.at[3 * i + 2] * b.at[6 + j];
    }
  }
  return c;
}

template <class T>
LEGATO_HD Matrix3<T> adjugate(const Matrix3<T>& a) {
  const T* m = a.at;
  return {{m[4] * m[8] - m[5] * m[7], m[2] * m[7] - m[1] * m[8], m[1] * m[5] - m[2] * m[4], m[5] * m[6] - m[3] * m[8],
           m[0] * m[8] - m[2] * m[6], m[2] * m[3] - m[0] * m[5], m[3] * m[7] - m[4] * m[6], m[1] * m[6] - m[0] * m[7],
           m[0] * m[4] - m[1] * m[3]}};
}

template <class T>
LEGATO_HD T determinant(const Matrix3<T>& a) {
  const T* m = a.at;
  return m[0] * (m[4] * m[8] - m[5] * m[7]) + m[1] * (m[5] * m[6] - m[3] * m[8]) + m[2] * (m[3] * m[7] - m[4] * m[6]);
}

template <class T>
LEGATO_HD Matrix3<T> inverse(const Matrix3<T>& a) {
  const Matrix3<T> adj = adjugate(a);
  const T det = a.at[0] * adj.at[0] + a.at[1] * adj.at[3] + a.at[2] * adj.at[6];
  Matrix3<T> out;
  for (int i = 0; i < 9; ++i) out.at[i] = adj.at[i] / det;
  return out;
}

/// Largest absolute row sum.
template <class T>
LEGATO_HD T row_norm(const Matrix3<T>& a) {
  T most = magnitude(a.at[0]) + magnitude(a.at[1]) + magnitude(a.at[2]);
  for (int i = 3; i < 9; i += 3) {
    const T sum = magnitude(a.at[i]) + magnitude(a.at[i + 1]) + magnitude(a.at[i + 2]);
    most = select(sum > most, sum, most);
  }
  return most;
}

template <class T>
LEGATO_HD void add_to_diagonal(Matrix3<T>& a, double x) {
  for (int i = 0; i < 9; i += 4) a.at[i] = a.at[i] + x;
}

/// Cube root of x > 0, exact for powers of eight. Ours, because libm's differ in the last bit between platforms.
template <class T>
LEGATO_HD T cube_root(T x) {
  T root;
  const T m = cube_split(x, root);  // m in [1, 8)
  T t = constant<T>(0.65) + m * 0.21 - m * m * 0.009;
  for (int i = 0; i < 4; ++i) {  // Halley: cubic convergence from a relative error of at most 0.2
    const T cube = t * t * t;
    t = t * ((cube + m + m) / (cube + cube + m));
  }
  return root * select(m == constant<T>(1.0), constant<T>(1.0), t);
}

/// exp(h) by scaling, Pade (6,6) and squaring. Computed as I + Z throughout, so that small motions keep their digits.
template <class T>
LEGATO_HD Matrix3<T> exponential(const Matrix3<T>& h) {
  constexpr int kMaxSquarings = 12;
  T norm = row_norm(h), scale = constant<T>(1.0), squarings = constant<T>(0.0);
  for (int k = 0; k < kMaxSquarings && any(norm > constant<T>(0.5)); ++k) {
    const auto large = norm > constant<T>(0.5);
    norm = select(large, norm * 0.5, norm);
    scale = select(large, scale * 0.5, scale);
    squarings = select(large, squarings + 1.0, squarings);
  }
  Matrix3<T> x;
  for (int i = 0; i < 9; ++i) x.at[i] = h.at[i] * scale;
  const Matrix3<T> x2 = product(x, x), x4 = product(x2, x2), x6 = product(x4, x2);
  Matrix3<T> odd, even;
  for (int i = 0; i < 9; ++i) {  // numerator even + odd, denominator even - odd
    odd.at[i] = x2.at[i] * (1.0 / 66) + x4.at[i] * (1.0 / 15840);
    even.at[i] = x2.at[i] * (5.0 / 44) + x4.at[i] * (1.0 / 792) + x6.at[i] * (1.0 / 665280);
  }
  add_to_diagonal(odd, 0.5);
  add_to_diagonal(even, 1.0);
  odd = product(x, odd);
  for (int i = 0; i < 9; ++i) even.at[i] = even.at[i] - odd.at[i];
  Matrix3<T> z = product(inverse(even), odd);
  for (int i = 0; i < 9; ++i) z.at[i] = z.at[i] + z.at[i];
  for (int k = 0; k < kMaxSquarings && any(squarings > constant<T>(k)); ++k) {
    const Matrix3<T> zz = product(z, z);
    for (int i = 0; i < 9; ++i) {
      z.at[i] = select(squarings > constant<T>(k), z.at[i] + z.at[i] + zz.at[i], z.at[i]);
    }
  }
  add_to_diagonal(z, 1.0);
  return z;
}

/// The derivative of exp at h: d exp(h)[E_k] exp(-h) for the nine unit matrices E_k, as out[k], row-major. The series
/// sum_j ad_h^j / (j+1)!, to rounding.
template <class T>
LEGATO_HD void exponential_derivative(const Matrix3<T>& h, T (&out)[9][9]) {
  for (int k = 0; k < 9; ++k) {
    Matrix3<T> term{};
    term.at[k] = constant<T>(1.0);
    for (int i = 0; i < 9; ++i) out[k][i] = term.at[i];
    for (int j = 1; j < 60; ++j) {
      const Matrix3<T> left = product(h, term), right = product(term, h);
      T size = constant<T>(0.0);
      for (int i = 0; i < 9; ++i) {
        term.at[i] = (left.at[i] - right.at[i]) * (1.0 / (j + 1));
        out[k][i] = out[k][i] + term.at[i];
        size = size + magnitude(term.at[i]);
      }
      if (!any(size > constant<T>(1e-18))) break;
    }
  }
}

/// Principal square root, product form of the Denman-Beavers iteration; lanes outside `wanted` are left alone.
template <class T, class Mask>
LEGATO_HD void square_root_in_place(Matrix3<T>& a, Mask wanted) {
  Matrix3<T> m = a;
  auto busy = wanted;
  for (int k = 0; k < 40 && any(busy); ++k) {
    const Matrix3<T> inv = inverse(m);
    Matrix3<T> half = inv;
    add_to_diagonal(half, 1.0);
    half = product(a, half);
    Matrix3<T> rest;
    for (int i = 0; i < 9; ++i) {
      const double unit = i % 4 == 0 ? 1.0 : 0.0;
      a.at[i] = select(busy, half.at[i] * 0.5, a.at[i]);
      m.at[i] = select(busy, (m.at[i] + inv.at[i]) * 0.25 + 0.5 * unit, m.at[i]);
      rest.at[i] = m.at[i] - unit;
    }
    busy = busy & (row_norm(rest) > constant<T>(1e-15));
  }
}

/// What log_homography found: 0 sound, 1 not finite or singular, 2 no principal logarithm.
template <class T>
struct LogResult {
  Matrix3<T> log;  ///< trace 0; meaningless where defect is not 0
  T defect;
};

/// Principal logarithm of H / cbrt(det H), by inverse scaling and squaring and the series of 2 artanh.
/// It exists unless an eigenvalue lies on the closed negative real axis.
template <class T>
LEGATO_HD LogResult<T> logarithm(const Matrix3<T>& homography) {
  const T zero = constant<T>(0.0), one = constant<T>(1.0);
  LogResult<T> out;
  T most = zero;
  auto sound = zero == zero;
  for (int i = 0; i < 9; ++i) {
    const T size = magnitude(homography.at[i]);
    sound = sound & (size < constant<T>(1e300));  // false for NaN too
    most = select(size > most, size, most);
  }
  sound = sound & (most > constant<T>(1e-300));
  const T unit = binade(select(sound, most, one));
  Matrix3<T> a;
  for (int i = 0; i < 9; ++i) {
    a.at[i] = select(sound, homography.at[i] / unit, constant<T>(i % 4 == 0 ? 1.0 : 0.0));
  }
  const T det = determinant(a);
  sound = sound & (magnitude(det) > constant<T>(1e-60));
  const T root = cube_root(select(sound, magnitude(det), one));
  const T factor = select(det < zero, zero - root, root);
  for (int i = 0; i < 9; ++i) {
    a.at[i] = select(sound, a.at[i] / factor, constant<T>(i % 4 == 0 ? 1.0 : 0.0));
  }

  // With det 1 the negative eigenvalues -x are the positive roots of x^3 + tr x^2 + c x + 1: none, or two. There are
  // two exactly where the local minimum of that cubic is at or below zero.
  const Matrix3<T> adj = adjugate(a);
  const T trace = a.at[0] + a.at[4] + a.at[8], minors = adj.at[0] + adj.at[4] + adj.at[8];
  const T radicand = trace * trace - minors * 3.0;
  const T width = square_root(select(radicand > zero, radicand, zero));
  // Where the trace is positive the difference loses its digits; the product of the cubic's two extrema is minors / 3.
  const T x =
      select(trace > zero, (zero - minors) / (width + select(trace > zero, trace, one)), (width - trace) * (1.0 / 3));
  const T cubic = ((x + trace) * x + minors) * x + 1.0;
  const T terms = ((magnitude(x) + magnitude(trace)) * magnitude(x) + magnitude(minors)) * magnitude(x) + 1.0;
  const auto branch_cut = (radicand >= zero) & (x > zero) & (cubic <= terms * 1e-14);
  out.defect = select(sound, select(branch_cut, constant<T>(2.0), zero), one);
  for (int i = 0; i < 9; ++i) {
    a.at[i] = select(out.defect == zero, a.at[i], constant<T>(i % 4 == 0 ? 1.0 : 0.0));
  }

  T doubling = constant<T>(2.0);
  Matrix3<T> e = a;
  add_to_diagonal(e, -1.0);
  auto far = row_norm(e) > constant<T>(0.25);
  for (int k = 0; k < 60 && any(far); ++k) {
    square_root_in_place(a, far);
    doubling = select(far, doubling + doubling, doubling);
    e = a;
    add_to_diagonal(e, -1.0);
    far = far & (row_norm(e) > constant<T>(0.25));
  }
  // log A = 2 artanh((A - I)(A + I)^-1); the norm of the argument is at most 1/7, so ten terms reach 1e-18.
  add_to_diagonal(a, 1.0);
  const Matrix3<T> z = product(e, inverse(a)), w = product(z, z);
  Matrix3<T> series;
  for (int i = 0; i < 9; ++i) series.at[i] = w.at[i] * (1.0 / 21);
  add_to_diagonal(series, 1.0 / 19);
  for (int k = 8; k >= 0; --k) {
    series = product(series, w);
    add_to_diagonal(series, 1.0 / (2 * k + 1));
  }
  out.log = product(z, series);
  const T third = (out.log.at[0] + out.log.at[4] + out.log.at[8]) * (1.0 / 3);
  for (int i = 0; i < 9; i += 4) out.log.at[i] = out.log.at[i] - third;
  for (int i = 0; i < 9; ++i) out.log.at[i] = out.log.at[i] * doubling;
  return out;
}

}  // namespace LEGATO_MATH

#endif  // LEGATO_MATH_HOMOGRAPHY_H
