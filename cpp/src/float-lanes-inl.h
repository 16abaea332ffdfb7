// Packs of sixteen floats: one register with AVX-512, two with AVX2, four with SSE2 or NEON, and the same arithmetic in
// each; with loads from and stores to bfloat16 and float16. Included by -inl.h files inside an ISA region; on x86-64
// <immintrin.h> must be included before.
//
// fused() rounds once in the AVX2 and AVX-512 copies and twice in the baseline copy: token_stats gains 1.5 times by it.
// So results are the same bits on every processor with FMA, and within the stated tolerance on those without.
#undef LEGATO_MATH_HD_H
#undef LEGATO_MATH_SOFTMAX_H
#include "legato/math/hd.h"

namespace LEGATO_MATH {

constexpr int kFloatLanes = 16;
constexpr int kFloatWidth = 2 * LEGATO_REGION_WIDTH;
constexpr int kFloatParts = kFloatLanes / kFloatWidth;

typedef float FloatRegister __attribute__((vector_size(8 * LEGATO_REGION_WIDTH)));
typedef unsigned FloatBits __attribute__((vector_size(8 * LEGATO_REGION_WIDTH)));
typedef unsigned short HalfBits __attribute__((vector_size(4 * LEGATO_REGION_WIDTH)));
using FloatRegisterMask = decltype(FloatRegister{} < FloatRegister{});  // integers of the same width, 0 or -1

struct alignas(64) Floats {
  FloatRegister part[kFloatParts];
};

struct FloatMask {
  FloatRegisterMask part[kFloatParts];
};

LEGATO_HD Floats float_constant(float x) {
  Floats out;
  for (int i = 0; i < kFloatParts; ++i) out.part[i] = FloatRegister{} + x;
  return out;
}

#define LEGATO_FLOATS_ARITHMETIC(op)                                            \
  LEGATO_HD Floats operator op(const Floats& a, const Floats& b) {              \
    Floats out;                                                                 \
    for (int i = 0; i < kFloatParts; ++i) out.part[i] = a.part[i] op b.part[i]; \
    return out;                                                                 \
  }                                                                             \
  LEGATO_HD Floats operator op(const Floats& a, float b) {                      \
    Floats out;                                                                 \
    for (int i = 0; i < kFloatParts; ++i) out.part[i] = a.part[i] op b;         \
    return out;                                                                 \
  }
LEGATO_FLOATS_ARITHMETIC(+)
LEGATO_FLOATS_ARITHMETIC(-)
LEGATO_FLOATS_ARITHMETIC(*)
#undef LEGATO_FLOATS_ARITHMETIC

LEGATO_HD Floats fused(const Floats& x, const Floats& y, const Floats& z) {
  Floats out;
#if defined(__x86_64__) && LEGATO_REGION_WIDTH == 8
  out.part[0] = _mm512_fmadd_ps(x.part[0], y.part[0], z.part[0]);
#elif defined(__x86_64__) && LEGATO_REGION_WIDTH == 4
  for (int i = 0; i < kFloatParts; ++i) out.part[i] = _mm256_fmadd_ps(x.part[i], y.part[i], z.part[i]);
#else
  for (int i = 0; i < kFloatParts; ++i) out.part[i] = x.part[i] * y.part[i] + z.part[i];
#endif
  return out;
}

LEGATO_HD FloatMask operator<(const Floats& a, const Floats& b) {
  FloatMask out;
  for (int i = 0; i < kFloatParts; ++i) out.part[i] = a.part[i] < b.part[i];
  return out;
}
LEGATO_HD Floats select(const FloatMask& mask, const Floats& yes, const Floats& no) {
  Floats out;
  for (int i = 0; i < kFloatParts; ++i) out.part[i] = mask.part[i] ? yes.part[i] : no.part[i];
  return out;
}
/// The larger of each pair; b where either is NaN.
LEGATO_HD Floats larger(const Floats& a, const Floats& b) {
  Floats out;
  for (int i = 0; i < kFloatParts; ++i) out.part[i] = a.part[i] > b.part[i] ? a.part[i] : b.part[i];
  return out;
}

/// fraction * 2^n where `shifted` is n + kRoundingMagic.
LEGATO_HD Floats power_scaled(const Floats& fraction, const Floats& shifted) {
  Floats out;
  for (int i = 0; i < kFloatParts; ++i) {
    out.part[i] = (FloatRegister)((FloatBits)fraction.part[i] + ((FloatBits)shifted.part[i] << 23));
  }
  return out;
}

/// Register by register: a copy of all 64 bytes is split by GCC into pieces that a register cannot be loaded from fast.
LEGATO_HD Floats load(const float* x) {
  Floats out;
  for (int i = 0; i < kFloatParts; ++i) __builtin_memcpy(&out.part[i], x + kFloatWidth * i, sizeof out.part[i]);
  return out;
}
LEGATO_HD void store(const Floats& x, float* out) {
  for (int i = 0; i < kFloatParts; ++i) __builtin_memcpy(out + kFloatWidth * i, &x.part[i], sizeof x.part[i]);
}

/// The largest lane; no lane may be NaN.
LEGATO_HD float largest(const Floats& x) {
  float lane[kFloatLanes];
  store(x, lane);
  for (int width = kFloatLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lane[i] = lane[i] > lane[i + width] ? lane[i] : lane[i + width];
  }
  return lane[0];
}

/// The upper halves of float32 numbers.
LEGATO_HD Floats load_bfloat16(const unsigned short* x) {
  Floats out;
  for (int i = 0; i < kFloatParts; ++i) {
    HalfBits half;
    __builtin_memcpy(&half, x + kFloatWidth * i, sizeof half);
    out.part[i] = (FloatRegister)(__builtin_convertvector(half, FloatBits) << 16);
  }
  return out;
}

/// The exponent is moved by a product with 2^112, which is exact and brings subnormals along.
LEGATO_HD Floats load_float16(const unsigned short* x) {
  Floats out;
  for (int i = 0; i < kFloatParts; ++i) {
    HalfBits half;
    __builtin_memcpy(&half, x + kFloatWidth * i, sizeof half);
    const FloatBits wide = __builtin_convertvector(half, FloatBits);
    const FloatBits sign = (wide & 0x8000u) << 16, magnitude_bits = (wide & 0x7fffu) << 13;
    const FloatRegister scaled = (FloatRegister)magnitude_bits * 0x1p112f;
    const FloatBits special = (FloatBits)(magnitude_bits >= 0x0f800000u) & 0x7f800000u;  // infinity and NaN
    out.part[i] = (FloatRegister)((FloatBits)scaled | special | sign);
  }
  return out;
}

/// Rounds to nearest, ties to even.
LEGATO_HD void store_bfloat16(const Floats& x, unsigned short* out) {
  for (int i = 0; i < kFloatParts; ++i) {
    const FloatBits bits = (FloatBits)x.part[i];
    const FloatBits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const FloatBits quiet = (bits >> 16) | 0x40u;
    const FloatBits nan = (FloatBits)((bits & 0x7fffffffu) > 0x7f800000u);
    const HalfBits half = __builtin_convertvector((nan & quiet) | (~nan & rounded), HalfBits);
    __builtin_memcpy(out + kFloatWidth * i, &half, sizeof half);
  }
}

/// Rounds to nearest, ties to even: subnormals by the adder (their unit is that of 0.5), the others by the carry.
LEGATO_HD void store_float16(const Floats& x, unsigned short* out) {
  for (int i = 0; i < kFloatParts; ++i) {
    const FloatBits bits = (FloatBits)x.part[i], size = bits & 0x7fffffffu;
    const FloatBits sign = (bits & 0x80000000u) >> 16;
    const FloatBits small = (FloatBits)((FloatRegister)size + 0.5f) - 0x3f000000u;
    const FloatBits normal = (size - 0x38000000u + 0xfffu + ((size >> 13) & 1u)) >> 13;
    const FloatBits is_small = (FloatBits)(size < 0x38800000u), is_large = (FloatBits)(size >= 0x47800000u);
    const FloatBits is_nan = (FloatBits)(size > 0x7f800000u);
    FloatBits half_bits = (is_small & small) | (~is_small & normal);
    half_bits = (is_large & (0x7c00u | (is_nan & 0x200u))) | (~is_large & half_bits);
    const HalfBits half = __builtin_convertvector(half_bits | sign, HalfBits);
    __builtin_memcpy(out + kFloatWidth * i, &half, sizeof half);
  }
}

}  // namespace LEGATO_MATH

#include "legato/math/softmax.h"
