// Counter-based random numbers and Gaussians, for one lane or many: Threefry4x32 and Philox4x32 (Salmon, Moraes, Dror,
// Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011), and Box-Muller with its own logarithm, sine and
// cosine. Only IEEE operations in a fixed order: every instruction set, and the NumPy twin, give the same bits.
#ifndef LEGATO_MATH_RANDOM_H
#define LEGATO_MATH_RANDOM_H

#include "legato/math/hd.h"

namespace LEGATO_MATH {

// --- One lane of the operations that src/packs-inl.h has for sixteen ------------------------------------------------

LEGATO_HD unsigned bits_of(float x) {
  unsigned bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}
LEGATO_HD float float_of_bits(unsigned bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}
LEGATO_HD float signed_to_float(unsigned x) { return static_cast<float>(static_cast<int>(x)); }
LEGATO_HD unsigned sign_mask(unsigned x) { return 0u - (x >> 31); }
LEGATO_HD unsigned shift_signed(unsigned x, int count) { return static_cast<unsigned>(static_cast<int>(x) >> count); }
LEGATO_HD float square_root(float x) { return __builtin_sqrtf(x); }
LEGATO_HD unsigned multiply_high(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<unsigned long long>(a) * b) >> 32);
}

template <class W>
LEGATO_HD W rotate_left(const W& x, int count) {
  return (x << count) | (x >> (32 - count));
}

// --- Generators -----------------------------------------------------------------------------------------------------

template <class W>
struct Block {
  W word[4];
};

/// Threefry4x32 with Skein's rotations; 20 rounds as published, 13 and more pass BigCrush by the paper's tests.
template <int kRounds, class W>
LEGATO_HD Block<W> threefry4x32(const Block<W>& counter, const Block<W>& key) {
  constexpr int first[8] = {10, 11, 13, 23, 6, 17, 25, 18}, second[8] = {26, 21, 27, 5, 20, 11, 10, 20};
  const W whole[5] = {key.word[0], key.word[1], key.word[2], key.word[3],
                      key.word[0] ^ key.word[1] ^ key.word[2] ^ key.word[3] ^ 0x1BD11BDAu};
  W x0 = counter.word[0] + whole[0], x1 = counter.word[1] + whole[1];
  W x2 = counter.word[2] + whole[2], x3 = counter.word[3] + whole[3];
#pragma GCC unroll 20
  for (int round = 0; round < kRounds; ++round) {
    const int a = first[round % 8], b = second[round % 8];
    if (round % 2 == 0) {
      x0 = x0 + x1;
      x1 = rotate_left(x1, a) ^ x0;
      x2 = x2 + x3;
      x3 = rotate_left(x3, b) ^ x2;
    } else {
      x0 = x0 + x3;
      x3 = rotate_left(x3, a) ^ x0;
      x2 = x2 + x1;
      x1 = rotate_left(x1, b) ^ x2;
    }
    if (round % 4 == 3) {
      const int turn = round / 4 + 1;
      x0 = x0 + whole[turn % 5];
      x1 = x1 + whole[(turn + 1) % 5];
      x2 = x2 + whole[(turn + 2) % 5];
      x3 = x3 + whole[(turn + 3) % 5] + static_cast<unsigned>(turn);
    }
  }
  return {{x0, x1, x2, x3}};
}

/// Philox4x32-10.
template <class W>
LEGATO_HD Block<W> philox4x32(const Block<W>& counter, W key0, W key1) {
  W x0 = counter.word[0], x1 = counter.word[1], x2 = counter.word[2], x3 = counter.word[3];
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const W high0 = multiply_high(x0, 0xD2511F53u), low0 = x0 * 0xD2511F53u;
    const W high1 = multiply_high(x2, 0xCD9E8D57u), low1 = x2 * 0xCD9E8D57u;
    x0 = high1 ^ x1 ^ key0;
    x1 = low1;
    x2 = high0 ^ x3 ^ key1;
    x3 = low0;
    key0 = key0 + 0x9E3779B9u;
    key1 = key1 + 0xBB67AE85u;
  }
  return {{x0, x1, x2, x3}};
}

/// Who draws: one number is a function of (seed, stream, step, substep, element) and nothing else.
template <class W>
struct Stream {
  W seed_low, seed_high, stream_low, stream_high;
};

constexpr int kThreefryRounds = 13;

/// The four words of elements 4 block .. 4 block + 3.
template <bool kPhilox, class W>
LEGATO_HD Block<W> draw(const Stream<W>& of, const W& block_low, const W& block_high, const W& step, const W& substep) {
  if constexpr (kPhilox) {
    return philox4x32<W>({{block_low, step, substep, of.stream_low}}, of.seed_low, of.seed_high);
  } else {
    return threefry4x32<kThreefryRounds, W>({{block_low, block_high, step, substep}},
                                            {{of.seed_low, of.seed_high, of.stream_low, of.stream_high}});
  }
}

// --- Gaussians ------------------------------------------------------------------------------------------------------

template <class W>
LEGATO_HD W choose_bits(const W& mask, const W& yes, const W& no) {
  return (yes & mask) | (no & (mask ^ 0xffffffffu));
}
template <class F, class W>
LEGATO_HD F choose(const W& mask, const F& yes, const F& no) {
  return float_of_bits(choose_bits(mask, bits_of(yes), bits_of(no)));
}

/// sqrt(-2 log u) with u = (a + 1/2) / 2^32: all 32 bits count, so the radius reaches 6.76, and u near 1 is taken as
/// 1 - u, so small radii are as exact. With w = a + 1/2, or a + 1/2 - 2^32 in the upper half, |w| in float has lost
/// nothing that matters: u = 1 - |w| / 2^32 above, and u = 2^exponent m / 2 below, m in [1, 2).
template <class F, class W>
LEGATO_HD F gaussian_radius(const W& a) {
  const F w = signed_to_float(a) + 0.5f;
  const W bits = bits_of(w), upper = sign_mask(bits);
  const W exponent = shift_signed(bits - 0x4f000000u, 23) & (upper ^ 0xffffffffu);
  const F m = float_of_bits((bits & 0x7fffffu) | 0x3f800000u);
  const F t = choose(upper, w * -0x1p-31f, 2.0f - m);
  const F square = t * t;  // -2 log(1 - t / 2) = t + t^2 p(t) for t in [0, 1]
  F p = square * 9.067285663e-03f + (t * -1.619008004e-02f + 2.348796294e-02f);
  p = p * square + (t * 3.176504996e-03f + 3.370785754e-02f);
  p = p * square + (t * 8.303230836e-02f + 2.500123050e-01f);
  return square_root((p * square + t) + signed_to_float(exponent) * -1.386294361f);
}

/// Two standard normals from two words (Box and Muller 1958). The angle is 2 pi b / 2^32, reduced exactly.
template <class F, class W>
LEGATO_HD void gaussian_pair(const W& a, const W& b, F& z0, F& z1) {
  const F radius = gaussian_radius<F>(a);
  const F angle = signed_to_float(b << 2) * 3.6572951981679e-10f;  // pi / 2^33, in [-pi / 4, pi / 4]
  const F square = angle * angle;
  const F s = angle + angle * square * ((square * -1.951528322e-4f + 8.332160762e-3f) * square - 1.666665461e-1f);
  const F c = 1.0f + square * ((square * -1.359185356e-3f + 4.165577704e-2f) * square - 4.999988475e-1f);
  const W quadrant = b + 0x20000000u;  // in its two upper bits
  const W next = quadrant << 1, odd = sign_mask(next);
  const W sine = choose_bits(odd, bits_of(c), bits_of(s)) ^ (quadrant & 0x80000000u);
  const W cosine = choose_bits(odd, bits_of(s), bits_of(c)) ^ ((quadrant ^ next) & 0x80000000u);
  z0 = radius * float_of_bits(cosine);
  z1 = radius * float_of_bits(sine);
}

}  // namespace LEGATO_MATH

#endif  // LEGATO_MATH_RANDOM_H
