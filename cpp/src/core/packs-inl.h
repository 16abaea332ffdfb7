// Packs of sixteen elements of any type (or of another multiple): one, two or four registers for 32-bit elements, twice
// as many for 64-bit ones, and the same arithmetic lane by lane in each. Included by -inl.h files inside an ISA region,
// before any math/ header.
#undef LEGATO_MATH_HD_H
#undef LEGATO_MATH_RANDOM_H
#undef LEGATO_MATH_DIFFUSION_H
#include "legato/math/diffusion.h"

namespace LEGATO_MATH {

constexpr int kPack = 16;

template <class Element>
struct RegisterOf;
#define LEGATO_REGISTER_OF(Element, Integer)                                    \
  template <>                                                                   \
  struct RegisterOf<Element> {                                                  \
    typedef Element type __attribute__((vector_size(8 * LEGATO_REGION_WIDTH))); \
    typedef Element __attribute__((may_alias)) alias;                           \
    typedef Element half __attribute__((vector_size(4 * LEGATO_REGION_WIDTH))); \
    typedef Integer bits __attribute__((vector_size(8 * LEGATO_REGION_WIDTH))); \
  }
LEGATO_REGISTER_OF(float, unsigned);
LEGATO_REGISTER_OF(double, unsigned long long);
LEGATO_REGISTER_OF(unsigned, unsigned);
LEGATO_REGISTER_OF(int, unsigned);
LEGATO_REGISTER_OF(unsigned long long, unsigned long long);
LEGATO_REGISTER_OF(long long, unsigned long long);
#undef LEGATO_REGISTER_OF

template <class Element, int kLanes = kPack>
struct alignas(64) Pack {
  using Register = typename RegisterOf<Element>::type;
  static constexpr int kWide = 8 * LEGATO_REGION_WIDTH / static_cast<int>(sizeof(Element));
  static constexpr int kParts = kLanes / kWide;

  Register part[kParts];

  LEGATO_HD Element operator[](int lane) const { return part[lane / kWide][lane % kWide]; }
  LEGATO_HD typename RegisterOf<Element>::alias& operator[](int lane) {
    return reinterpret_cast<typename RegisterOf<Element>::alias*>(this)[lane];
  }
};

using Floats = Pack<float>;
using Doubles = Pack<double>;
using Words = Pack<unsigned>;

template <int kLanes = kPack, class Element>
LEGATO_HD Pack<Element, kLanes> filled(Element x) {
  Pack<Element, kLanes> out;
  for (auto& part : out.part) part = x - typename Pack<Element>::Register{};  // + would turn -0 into 0
  return out;
}

template <class Element>
struct NotDeduced {
  using type = Element;
};
template <class Element>
using Itself = typename NotDeduced<Element>::type;

#define LEGATO_PACK_ARITHMETIC(op)                                                     \
  template <class E, int n>                                                            \
  LEGATO_HD Pack<E, n> operator op(const Pack<E, n>& a, const Pack<E, n>& b) {         \
    Pack<E, n> out;                                                                    \
    for (int i = 0; i < Pack<E, n>::kParts; ++i) out.part[i] = a.part[i] op b.part[i]; \
    return out;                                                                        \
  }                                                                                    \
  template <class E, int n>                                                            \
  LEGATO_HD Pack<E, n> operator op(const Pack<E, n>& a, Itself<E> b) {                 \
    Pack<E, n> out;                                                                    \
    for (int i = 0; i < Pack<E, n>::kParts; ++i) out.part[i] = a.part[i] op b;         \
    return out;                                                                        \
  }                                                                                    \
  template <class E, int n>                                                            \
  LEGATO_HD Pack<E, n> operator op(Itself<E> a, const Pack<E, n>& b) {                 \
    Pack<E, n> out;                                                                    \
    for (int i = 0; i < Pack<E, n>::kParts; ++i) out.part[i] = a op b.part[i];         \
    return out;                                                                        \
  }
LEGATO_PACK_ARITHMETIC(+)
LEGATO_PACK_ARITHMETIC(-)
LEGATO_PACK_ARITHMETIC(*)
LEGATO_PACK_ARITHMETIC(/)
LEGATO_PACK_ARITHMETIC(&)
LEGATO_PACK_ARITHMETIC(|)
LEGATO_PACK_ARITHMETIC(^)
#undef LEGATO_PACK_ARITHMETIC

#define LEGATO_PACK_SHIFT(op)                                                             \
  template <int n>                                                                        \
  LEGATO_HD Pack<unsigned, n> operator op(const Pack<unsigned, n>& a, int count) {        \
    Pack<unsigned, n> out;                                                                \
    for (int i = 0; i < Pack<unsigned, n>::kParts; ++i) out.part[i] = a.part[i] op count; \
    return out;                                                                           \
  }
LEGATO_PACK_SHIFT(<<)
LEGATO_PACK_SHIFT(>>)
#undef LEGATO_PACK_SHIFT

template <class E, int n>
LEGATO_HD Pack<E, n> larger(const Pack<E, n>& a, const Pack<E, n>& b) {
  Pack<E, n> out;
  for (int i = 0; i < Pack<E, n>::kParts; ++i) out.part[i] = a.part[i] > b.part[i] ? a.part[i] : b.part[i];
  return out;
}

/// The smaller of each pair; b where either is NaN, as in larger.
template <class E>
LEGATO_HD Pack<E> smaller(const Pack<E>& a, const Pack<E>& b) {
  Pack<E> out;
  for (int i = 0; i < Pack<E>::kParts; ++i) out.part[i] = a.part[i] < b.part[i] ? a.part[i] : b.part[i];
  return out;
}

/// yes where a < b, no elsewhere (NaN too).
template <class E, int n>
LEGATO_HD Pack<E, n> select_less(const Pack<E, n>& a, const Pack<E, n>& b, const Pack<E, n>& yes,
                                 const Pack<E, n>& no) {
  Pack<E, n> out;
  for (int i = 0; i < Pack<E, n>::kParts; ++i) out.part[i] = a.part[i] < b.part[i] ? yes.part[i] : no.part[i];
  return out;
}

/// Whether a comparison of registers holds in some lane.
template <class Mask>
LEGATO_HD bool any_lane(const Mask& mask) {
  unsigned long long words[sizeof(Mask) / 8], all = 0;
  __builtin_memcpy(words, &mask, sizeof words);
  for (const unsigned long long word : words) all |= word;
  return all != 0;
}

template <class E, int n>
LEGATO_HD bool any_less(const Pack<E, n>& a, const Pack<E, n>& b) {
  auto all = a.part[0] < b.part[0];
  for (int i = 1; i < Pack<E, n>::kParts; ++i) all = all | (a.part[i] < b.part[i]);
  return any_lane(all);
}

/// Whether some lane of a is not less than that of b: NaN is not.
template <class E, int n>
LEGATO_HD bool any_not_less(const Pack<E, n>& a, const Pack<E, n>& b) {
  auto all = ~(a.part[0] < b.part[0]);
  for (int i = 1; i < Pack<E, n>::kParts; ++i) all = all | ~(a.part[i] < b.part[i]);
  return any_lane(all);
}

template <int n>
LEGATO_HD Pack<float, n> square_root(const Pack<float, n>& x) {
  Pack<float, n> root;
  for (int i = 0; i < Pack<float, n>::kParts; ++i) {
    for (int j = 0; j < Floats::kWide; ++j) root.part[i][j] = __builtin_sqrtf(x.part[i][j]);
  }
  return root;
}

template <int n>
LEGATO_HD Pack<unsigned, n> bits_of(const Pack<float, n>& x) {
  Pack<unsigned, n> out;
  for (int i = 0; i < Pack<unsigned, n>::kParts; ++i) out.part[i] = (Words::Register)x.part[i];
  return out;
}
template <int n>
LEGATO_HD Pack<float, n> float_of_bits(const Pack<unsigned, n>& x) {
  Pack<float, n> out;
  for (int i = 0; i < Pack<unsigned, n>::kParts; ++i) out.part[i] = (Floats::Register)x.part[i];
  return out;
}
template <int n>
LEGATO_HD Pack<float, n> signed_to_float(const Pack<unsigned, n>& x) {
  Pack<float, n> out;
  for (int i = 0; i < Pack<unsigned, n>::kParts; ++i) {
    out.part[i] = __builtin_convertvector((Pack<int>::Register)x.part[i], Floats::Register);
  }
  return out;
}
/// All ones in the lanes whose top bit is set.
template <int n>
LEGATO_HD Pack<unsigned, n> sign_mask(const Pack<unsigned, n>& x) {
  Pack<unsigned, n> out;
  for (int i = 0; i < Pack<unsigned, n>::kParts; ++i) {
    out.part[i] = (Words::Register)((Pack<int>::Register)x.part[i] >> 31);
  }
  return out;
}
template <int n>
LEGATO_HD Pack<unsigned, n> shift_signed(const Pack<unsigned, n>& x, int count) {
  Pack<unsigned, n> out;
  for (int i = 0; i < Pack<unsigned, n>::kParts; ++i) {
    out.part[i] = (Words::Register)((Pack<int>::Register)x.part[i] >> count);
  }
  return out;
}

template <int n>
LEGATO_HD Pack<unsigned, n> multiply_high(const Pack<unsigned, n>& a, unsigned b) {
  using Wide = Pack<unsigned long long>::Register;
  Pack<unsigned, n> out;
  for (int i = 0; i < Pack<unsigned, n>::kParts; ++i) {
    const Wide x = (Wide)a.part[i];
    const Wide even = (x & 0xffffffffULL) * b, odd = (x >> 32) * b;
    out.part[i] = (Words::Register)((even >> 32) | (odd & 0xffffffff00000000ULL));
  }
  return out;
}

// Register by register: a copy of the whole pack would go through memory.
template <int n = kPack, class E>
LEGATO_HD Pack<E, n> load_pack(const E* x) {
  Pack<E, n> out;
  for (int i = 0; i < Pack<E, n>::kParts; ++i) {
    __builtin_memcpy(&out.part[i], x + i * Pack<E>::kWide, sizeof out.part[i]);
  }
  return out;
}
template <class E, int n>
LEGATO_HD void store_pack(E* x, const Pack<E, n>& value) {
  for (int i = 0; i < Pack<E, n>::kParts; ++i) {
    __builtin_memcpy(x + i * Pack<E>::kWide, &value.part[i], sizeof value.part[i]);
  }
}

/// Sixteen unsigned 16-bit numbers.
LEGATO_HD Words widen(const unsigned short* x) {
  typedef unsigned short Short __attribute__((vector_size(4 * LEGATO_REGION_WIDTH)));
  Words out;
  for (int i = 0; i < Words::kParts; ++i) {
    Short part;
    __builtin_memcpy(&part, x + i * Words::kWide, sizeof part);
    out.part[i] = __builtin_convertvector(part, Words::Register);
  }
  return out;
}
/// The lower halves.
LEGATO_HD void narrow(const Words& x, unsigned short* out) {
  typedef unsigned short Short __attribute__((vector_size(4 * LEGATO_REGION_WIDTH)));
  for (int i = 0; i < Words::kParts; ++i) {
    const Short part = __builtin_convertvector(x.part[i], Short);
    __builtin_memcpy(out + i * Words::kWide, &part, sizeof part);
  }
}

template <int n>
LEGATO_HD Pack<float, n> to_real(const Pack<float, n>& x, float) {
  return x;
}
LEGATO_HD Doubles to_real(const Floats& x, double) {
  Doubles out;
  for (int i = 0; i < Floats::kParts; ++i) {
    typename RegisterOf<float>::half half[2];
    __builtin_memcpy(half, &x.part[i], sizeof half);
    out.part[2 * i] = __builtin_convertvector(half[0], Doubles::Register);
    out.part[2 * i + 1] = __builtin_convertvector(half[1], Doubles::Register);
  }
  return out;
}
LEGATO_HD Doubles to_real(const Doubles& x, double) { return x; }
LEGATO_HD Doubles to_double(const Floats& x) { return to_real(x, double{}); }
LEGATO_HD Doubles to_double(const Doubles& x) { return x; }
/// exp(x) for x <= 0, relative error below 3e-8 (float) or 1e-15; the same below Exponential::lowest as there.
template <class Real, int n_lanes>
LEGATO_HD Pack<Real, n_lanes> exponential_of(const Pack<Real, n_lanes>& x) {
  using Constants = Exponential<Real>;
  using Bits = typename RegisterOf<Real>::bits;
  Pack<Real, n_lanes> out;
  for (int i = 0; i < Pack<Real, n_lanes>::kParts; ++i) {
    const auto lowest = typename Pack<Real>::Register{} + Constants::lowest;
    const auto held = x.part[i] > lowest ? x.part[i] : lowest;
    const auto shifted = held * Real(1.4426950408889634) + Constants::round;
    const auto n = shifted - Constants::round;
    const auto r = (held - n * Constants::log2_high) - n * Constants::log2_low;
    auto p = r * Constants::coefficient[Constants::degree] + Constants::coefficient[Constants::degree - 1];
    for (int j = Constants::degree - 2; j >= 0; --j) p = p * r + Constants::coefficient[j];
    const auto mantissa = p * (r * r) + r + Real(1);
    out.part[i] = (typename Pack<Real>::Register)((Bits)mantissa + ((Bits)shifted << Constants::mantissa));
  }
  return out;
}

/// 2^x for x <= 0, held at 2^-115. Minimax polynomial of degree 5 (math/softmax.h), relative error below 3e-7.
template <int n_lanes>
LEGATO_HD Pack<float, n_lanes> power_of_two_of(const Pack<float, n_lanes>& x) {
  using Bits = RegisterOf<float>::bits;
  constexpr float coefficient[6] = {1.0f,           6.93146944e-1f, 2.40221307e-1f,
                                    5.55086397e-2f, 9.67566855e-3f, 1.32253999e-3f};
  Pack<float, n_lanes> out;
  for (int i = 0; i < Pack<float, n_lanes>::kParts; ++i) {
    const auto lowest = Pack<float>::Register{} + -115.0f;
    const auto held = x.part[i] > lowest ? x.part[i] : lowest;
    const auto shifted = held + 0x1.8p23f;
    const auto r = held - (shifted - 0x1.8p23f);
    auto p = r * coefficient[5] + coefficient[4];
    for (int j = 3; j >= 0; --j) p = p * r + coefficient[j];
    out.part[i] = (Pack<float>::Register)((Bits)p + ((Bits)shifted << 23));
  }
  return out;
}

/// Sum over the lanes as a fixed tree: i + (i + 8), then 4, 2, 1 apart.
template <class E>
LEGATO_HD E sum(const Pack<E>& x) {
  E part[8];
  for (int i = 0; i < 8; ++i) part[i] = x[i] + x[i + 8];
  return ((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7]));
}

/// Turns four packs, word q of the blocks 4 (lane % 4) + lane / 4, into the sixteen blocks in order; sixteen lanes
/// after sixteen lanes in wider packs.
template <int n>
LEGATO_HD void interleave(Pack<float, n> (&z)[4]) {
  for (int i = 0; i < Pack<float, n>::kParts; ++i) {
    const Floats::Register a = z[0].part[i], b = z[1].part[i], c = z[2].part[i], d = z[3].part[i];
#if LEGATO_REGION_WIDTH == 8
    const Floats::Register ab0 =
        __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    const Floats::Register ab1 =
        __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
    const Floats::Register cd0 =
        __builtin_shufflevector(c, d, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    const Floats::Register cd1 =
        __builtin_shufflevector(c, d, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
    z[0].part[i] = __builtin_shufflevector(ab0, cd0, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
    z[1].part[i] = __builtin_shufflevector(ab0, cd0, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    z[2].part[i] = __builtin_shufflevector(ab1, cd1, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
    z[3].part[i] = __builtin_shufflevector(ab1, cd1, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
#elif LEGATO_REGION_WIDTH == 4
    const Floats::Register ab0 = __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13);
    const Floats::Register ab1 = __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
    const Floats::Register cd0 = __builtin_shufflevector(c, d, 0, 8, 1, 9, 4, 12, 5, 13);
    const Floats::Register cd1 = __builtin_shufflevector(c, d, 2, 10, 3, 11, 6, 14, 7, 15);
    z[0].part[i] = __builtin_shufflevector(ab0, cd0, 0, 1, 8, 9, 4, 5, 12, 13);
    z[1].part[i] = __builtin_shufflevector(ab0, cd0, 2, 3, 10, 11, 6, 7, 14, 15);
    z[2].part[i] = __builtin_shufflevector(ab1, cd1, 0, 1, 8, 9, 4, 5, 12, 13);
    z[3].part[i] = __builtin_shufflevector(ab1, cd1, 2, 3, 10, 11, 6, 7, 14, 15);
#else
    const Floats::Register ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5),
                           ab1 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const Floats::Register cd0 = __builtin_shufflevector(c, d, 0, 4, 1, 5),
                           cd1 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    z[0].part[i] = __builtin_shufflevector(ab0, cd0, 0, 1, 4, 5);
    z[1].part[i] = __builtin_shufflevector(ab0, cd0, 2, 3, 6, 7);
    z[2].part[i] = __builtin_shufflevector(ab1, cd1, 0, 1, 4, 5);
    z[3].part[i] = __builtin_shufflevector(ab1, cd1, 2, 3, 6, 7);
#endif
  }
}

}  // namespace LEGATO_MATH
