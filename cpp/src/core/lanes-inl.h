// Packs of eight doubles: one register with AVX-512, two with AVX2, four with SSE2 or NEON, and the same arithmetic in
// each. Included by -inl.h files inside an ISA region, before any math/ header.
#undef LEGATO_MATH_HD_H
#undef LEGATO_MATH_HOMOGRAPHY_H
#include "legato/math/hd.h"

namespace LEGATO_MATH {

constexpr int kLanes = 8;
constexpr int kWidth = LEGATO_REGION_WIDTH;
constexpr int kParts = kLanes / kWidth;

typedef double Register __attribute__((vector_size(8 * LEGATO_REGION_WIDTH)));
using RegisterMask = decltype(Register{} < Register{});  // integers of the same width, 0 or -1
typedef long long RegisterBits __attribute__((vector_size(8 * LEGATO_REGION_WIDTH)));
typedef double __attribute__((may_alias)) Lane;

struct alignas(64) Lanes {
  Register part[kParts];

  LEGATO_HD double operator[](int lane) const { return part[lane / kWidth][lane % kWidth]; }
  LEGATO_HD Lane& operator[](int lane) { return reinterpret_cast<Lane*>(this)[lane]; }
};

struct LaneMask {
  RegisterMask part[kParts];

  LEGATO_HD bool operator[](int lane) const { return part[lane / kWidth][lane % kWidth] != 0; }
};

template <>
LEGATO_HD Lanes constant<Lanes>(double x) {
  Lanes out;
  for (int i = 0; i < kParts; ++i) out.part[i] = Register{} + x;
  return out;
}

#define LEGATO_LANES_ARITHMETIC(op)                                        \
  LEGATO_HD Lanes operator op(const Lanes& a, const Lanes& b) {            \
    Lanes out;                                                             \
    for (int i = 0; i < kParts; ++i) out.part[i] = a.part[i] op b.part[i]; \
    return out;                                                            \
  }                                                                        \
  LEGATO_HD Lanes operator op(const Lanes& a, double b) {                  \
    Lanes out;                                                             \
    for (int i = 0; i < kParts; ++i) out.part[i] = a.part[i] op b;         \
    return out;                                                            \
  }                                                                        \
  LEGATO_HD Lanes operator op(double a, const Lanes& b) {                  \
    Lanes out;                                                             \
    for (int i = 0; i < kParts; ++i) out.part[i] = a op b.part[i];         \
    return out;                                                            \
  }                                                                        \
  LEGATO_HD Lanes& operator op## = (Lanes & a, const Lanes& b) {           \
    for (int i = 0; i < kParts; ++i) a.part[i] = a.part[i] op b.part[i];   \
    return a;                                                              \
  }
LEGATO_LANES_ARITHMETIC(+)
LEGATO_LANES_ARITHMETIC(-)
LEGATO_LANES_ARITHMETIC(*)
LEGATO_LANES_ARITHMETIC(/)
#undef LEGATO_LANES_ARITHMETIC

LEGATO_HD Lanes operator-(const Lanes& a) {
  Lanes out;
  for (int i = 0; i < kParts; ++i) out.part[i] = -a.part[i];
  return out;
}

#define LEGATO_LANES_COMPARISON(op)                                        \
  LEGATO_HD LaneMask operator op(const Lanes& a, const Lanes& b) {         \
    LaneMask out;                                                          \
    for (int i = 0; i < kParts; ++i) out.part[i] = a.part[i] op b.part[i]; \
    return out;                                                            \
  }
LEGATO_LANES_COMPARISON(<)
LEGATO_LANES_COMPARISON(<=)
LEGATO_LANES_COMPARISON(>)
LEGATO_LANES_COMPARISON(>=)
LEGATO_LANES_COMPARISON(==)
LEGATO_LANES_COMPARISON(!=)
#undef LEGATO_LANES_COMPARISON

LEGATO_HD LaneMask operator&(const LaneMask& a, const LaneMask& b) {
  LaneMask out;
  for (int i = 0; i < kParts; ++i) out.part[i] = a.part[i] & b.part[i];
  return out;
}
LEGATO_HD LaneMask operator|(const LaneMask& a, const LaneMask& b) {
  LaneMask out;
  for (int i = 0; i < kParts; ++i) out.part[i] = a.part[i] | b.part[i];
  return out;
}
LEGATO_HD LaneMask operator~(const LaneMask& a) {
  LaneMask out;
  for (int i = 0; i < kParts; ++i) out.part[i] = ~a.part[i];
  return out;
}

LEGATO_HD Lanes select(const LaneMask& mask, const Lanes& yes, const Lanes& no) {
  Lanes out;
  for (int i = 0; i < kParts; ++i) out.part[i] = mask.part[i] ? yes.part[i] : no.part[i];
  return out;
}
LEGATO_HD Lanes larger(const Lanes& a, const Lanes& b) { return select(a > b, a, b); }

LEGATO_HD bool any(const LaneMask& mask) {
  RegisterMask all = mask.part[0];
  for (int i = 1; i < kParts; ++i) all = all | mask.part[i];
  bool found = false;
  for (int i = 0; i < kWidth; ++i) found = found || all[i] != 0;
  return found;
}

LEGATO_HD Lanes magnitude(const Lanes& x) {
  Lanes out;
  for (int i = 0; i < kParts; ++i) out.part[i] = (Register)((RegisterBits)x.part[i] & 0x7fffffffffffffffLL);
  return out;
}

LEGATO_HD Lanes square_root(const Lanes& x) {
  Lanes root;
  for (int i = 0; i < kParts; ++i) {
    for (int j = 0; j < kWidth; ++j) root.part[i][j] = __builtin_sqrt(x.part[i][j]);
  }
  return root;
}

LEGATO_HD Lanes binade(const Lanes& x) {
  Lanes out;
  for (int i = 0; i < kParts; ++i) out.part[i] = (Register)((RegisterBits)x.part[i] & 0x7ff0000000000000LL);
  return out;
}

LEGATO_HD Lanes cube_split(const Lanes& x, Lanes& root) {
  Lanes mantissa;
  for (int i = 0; i < kLanes; ++i) {
    double lane_root;
    mantissa[i] = cube_split(double(x[i]), lane_root);
    root[i] = lane_root;
  }
  return mantissa;
}

/// Sums over the lanes as a fixed tree, so that every instruction set adds in the same order.
LEGATO_HD double sum(const Lanes& x) { return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7])); }
LEGATO_HD double largest(const Lanes& x) {
  double most = x[0];
  for (int i = 1; i < kLanes; ++i) most = x[i] > most ? double(x[i]) : most;
  return most;
}

LEGATO_HD Lanes load(const double* x) {
  Lanes out;
  __builtin_memcpy(&out, x, sizeof out);
  return out;
}

LEGATO_HD void store(double* to, const Lanes& x) { __builtin_memcpy(to, &x, sizeof x); }

/// The nearest integers, ties to even, of numbers within 31 bits.
LEGATO_HD void store_rounded(std::int32_t* to, const Lanes& x) {
  typedef std::int32_t Integers __attribute__((vector_size(4 * LEGATO_REGION_WIDTH)));
  for (int i = 0; i < kParts; ++i) {
    // At 1.5 * 2^52 the last bit of a double stands for one: the sum has the integer in its low half.
    const Register shifted = x.part[i] + 6755399441055744.0;
    const Integers low = __builtin_convertvector((RegisterBits)shifted, Integers);
    __builtin_memcpy(to + i * kWidth, &low, sizeof low);
  }
}

/// (a, b, c, 0, 0, 0, 0, 0).
LEGATO_HD Lanes first_three(double a, double b, double c) {
  Lanes out{};
#if LEGATO_REGION_WIDTH == 2
  out.part[0] = Register{a, b};
  out.part[1] = Register{c, 0.0};
#else
  out.part[0] = Register{a, b, c};
#endif
  return out;
}

template <int lane>
LEGATO_HD Lanes broadcast(const Lanes& x) {
#if LEGATO_REGION_WIDTH == 8
  const Register all = __builtin_shufflevector(x.part[0], x.part[0], lane, lane, lane, lane, lane, lane, lane, lane);
  return {{all}};
#else
  return constant<Lanes>(x[lane]);
#endif
}

/// The eight sums over lanes of eight packs, as one pack: each ((0+1) + (2+3)) + ((4+5) + (6+7)).
LEGATO_HD Lanes sums_of(const Lanes* a) {
  Lanes out;
#if LEGATO_REGION_WIDTH == 8
  Register pair[4];
  for (int i = 0; i < 4; ++i) {
    const Register x = a[2 * i].part[0], y = a[2 * i + 1].part[0];
    pair[i] = __builtin_shufflevector(x, y, 0, 8, 2, 10, 4, 12, 6, 14) +
              __builtin_shufflevector(x, y, 1, 9, 3, 11, 5, 13, 7, 15);
  }
  const Register low = __builtin_shufflevector(pair[0], pair[1], 0, 1, 8, 9, 4, 5, 12, 13) +
                       __builtin_shufflevector(pair[0], pair[1], 2, 3, 10, 11, 6, 7, 14, 15);
  const Register high = __builtin_shufflevector(pair[2], pair[3], 0, 1, 8, 9, 4, 5, 12, 13) +
                        __builtin_shufflevector(pair[2], pair[3], 2, 3, 10, 11, 6, 7, 14, 15);
  out.part[0] = __builtin_shufflevector(low, high, 0, 1, 2, 3, 8, 9, 10, 11) +
                __builtin_shufflevector(low, high, 4, 5, 6, 7, 12, 13, 14, 15);
#elif LEGATO_REGION_WIDTH == 4
  for (int half = 0; half < 2; ++half) {
    Register quarter[2];  // lanes 0..3, lanes 4..7
    for (int i = 0; i < 2; ++i) {
      const Register x = a[4 * half].part[i], y = a[4 * half + 1].part[i];
      const Register z = a[4 * half + 2].part[i], w = a[4 * half + 3].part[i];
      const Register xy = __builtin_shufflevector(x, y, 0, 4, 2, 6) + __builtin_shufflevector(x, y, 1, 5, 3, 7);
      const Register zw = __builtin_shufflevector(z, w, 0, 4, 2, 6) + __builtin_shufflevector(z, w, 1, 5, 3, 7);
      quarter[i] = __builtin_shufflevector(xy, zw, 0, 1, 4, 5) + __builtin_shufflevector(xy, zw, 2, 3, 6, 7);
    }
    out.part[half] = quarter[0] + quarter[1];
  }
#else
  for (int i = 0; i < kParts; ++i) {
    Register pair[4];
    for (int j = 0; j < 4; ++j) {
      const Register x = a[2 * i].part[j], y = a[2 * i + 1].part[j];
      pair[j] = __builtin_shufflevector(x, y, 0, 2) + __builtin_shufflevector(x, y, 1, 3);
    }
    out.part[i] = (pair[0] + pair[1]) + (pair[2] + pair[3]);
  }
#endif
  return out;
}

/// out[i] = (a[0][i], ..., a[7][i]).
LEGATO_HD void transpose(const Lanes* a, Lanes* out) {
#if LEGATO_REGION_WIDTH == 8
  Register pair[8], four[8];
  for (int i = 0; i < 4; ++i) {
    const Register x = a[2 * i].part[0], y = a[2 * i + 1].part[0];
    pair[2 * i] = __builtin_shufflevector(x, y, 0, 8, 2, 10, 4, 12, 6, 14);
    pair[2 * i + 1] = __builtin_shufflevector(x, y, 1, 9, 3, 11, 5, 13, 7, 15);
  }
  for (int i = 0; i < 2; ++i) {
    for (int odd = 0; odd < 2; ++odd) {
      const Register x = pair[4 * i + odd], y = pair[4 * i + 2 + odd];
      four[4 * i + odd] = __builtin_shufflevector(x, y, 0, 1, 8, 9, 4, 5, 12, 13);
      four[4 * i + 2 + odd] = __builtin_shufflevector(x, y, 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
  for (int i = 0; i < 4; ++i) {
    out[i].part[0] = __builtin_shufflevector(four[i], four[4 + i], 0, 1, 2, 3, 8, 9, 10, 11);
    out[4 + i].part[0] = __builtin_shufflevector(four[i], four[4 + i], 4, 5, 6, 7, 12, 13, 14, 15);
  }
#else
  for (int i = 0; i < kLanes; ++i) {
    Lanes row;
    for (int j = 0; j < kLanes; ++j) row.part[j / kWidth][j % kWidth] = a[j][i];
    out[i] = row;
  }
#endif
}

}  // namespace LEGATO_MATH

#include "legato/math/homography.h"
