// The rows of token_stats and its gradient. Compiled once per ISA region by rft.cpp, which includes <immintrin.h>
// before.
//
// fused() rounds once in the AVX2 and AVX-512 copies and twice in the baseline copy, where it would cost a call. So
// results are the same bits on every processor with FMA, and within the stated tolerance on those without.
#include "core/packs-inl.h"

#undef LEGATO_MATH_SOFTMAX_H

namespace LEGATO_MATH {

LEGATO_HD Floats fused(const Floats& x, const Floats& y, const Floats& z) {
  Floats out;
#if defined(__x86_64__) && LEGATO_REGION_WIDTH == 8
  out.part[0] = _mm512_fmadd_ps(x.part[0], y.part[0], z.part[0]);
#elif defined(__x86_64__) && LEGATO_REGION_WIDTH == 4
  for (int i = 0; i < Floats::kParts; ++i) out.part[i] = _mm256_fmadd_ps(x.part[i], y.part[i], z.part[i]);
#else
  for (int i = 0; i < Floats::kParts; ++i) out.part[i] = x.part[i] * y.part[i] + z.part[i];
#endif
  return out;
}

/// fraction * 2^n where `shifted` is n + kRoundingMagic.
LEGATO_HD Floats power_scaled(const Floats& fraction, const Floats& shifted) {
  return float_of_bits(bits_of(fraction) + (bits_of(shifted) << 23));
}

}  // namespace LEGATO_MATH

#include "legato/math/softmax.h"

namespace legato::LEGATO_REGION {

using math::Doubles;
using math::filled;
using math::Floats;
using math::kPack;
using math::Words;

/// Elements of logits stored in 16 bits.
struct Brain16 {
  unsigned short bits;
};
struct Half16 {
  unsigned short bits;
};

LEGATO_HD float to_float(float x) { return x; }
LEGATO_HD float to_float(Brain16 x) { return math::float_of_bfloat<float>(unsigned{x.bits}); }
LEGATO_HD float to_float(Half16 x) { return math::float_of_half<float>(unsigned{x.bits}); }

LEGATO_HD float minus_infinity(float) { return -__builtin_inff(); }
LEGATO_HD Brain16 minus_infinity(Brain16) { return {0xff80}; }
LEGATO_HD Half16 minus_infinity(Half16) { return {0xfc00}; }

/// Thirty-two logits of a row: the first and the second sixteen, or of bfloat16 those of even and those of odd index:
/// the halves of 32-bit words, which need no widening.
struct Pair {
  Floats first, second;
};
constexpr std::size_t kPair = 2 * kPack;

LEGATO_HD Pair load_pair(const float* x) { return {math::load_pack(x), math::load_pack(x + kPack)}; }
/// Of unknown origin to the compiler: GCC 12 turns the maximum of what it knows to be shifted into a slow comparison.
LEGATO_HD Floats opaque(Floats x) {
#if defined(__x86_64__)
  for (auto& part : x.part) __asm__("" : "+x"(part));
#endif
  return x;
}
LEGATO_HD Pair load_pair(const Brain16* x) {
  Words words;
  for (int i = 0; i < Words::kParts; ++i) {  // a row of an odd number of columns leaves the next one off a word
    __builtin_memcpy(&words.part[i], x + 2 * i * Words::kWide, sizeof words.part[i]);
  }
  return {opaque(math::float_of_bits(words << 16)), opaque(math::float_of_bits(words & 0xffff0000U))};
}
#if defined(__x86_64__) && LEGATO_REGION_WIDTH == 8
LEGATO_HD Pair load_pair(const Half16* x) {  // left to itself GCC 12 widens in two parts
  const __m256i* half = reinterpret_cast<const __m256i*>(x);
  return {{{_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(half))}},
          {{_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(half + 1))}}};
}
#else
LEGATO_HD Pair load_pair(const Half16* x) {
  return {math::float_of_half<Floats>(math::widen(&x->bits)), math::float_of_half<Floats>(math::widen(&x[kPack].bits))};
}
#endif

LEGATO_HD void store_pair(float* x, const Pair& z) {
  math::store_pack(x, z.first);
  math::store_pack(x + kPack, z.second);
}
LEGATO_HD void store_pair(Brain16* x, const Pair& z) {
  const Words words = math::bfloat_of_float<Words>(z.first) | (math::bfloat_of_float<Words>(z.second) << 16);
  for (int i = 0; i < Words::kParts; ++i) {
    __builtin_memcpy(x + 2 * i * Words::kWide, &words.part[i], sizeof words.part[i]);
  }
}
LEGATO_HD void store_pair(Half16* x, const Pair& z) {
  math::narrow(math::half_of_float<Words>(z.first), &x->bits);
  math::narrow(math::half_of_float<Words>(z.second), &x[kPack].bits);
}

/// The first `count` logits of a pair, then minus infinity.
template <class Stored>
LEGATO_HD Pair load_some(const Stored* x, std::size_t count) {
  Stored held[kPair];
  for (auto& logit : held) logit = minus_infinity(Stored{});
  __builtin_memcpy(held, x, count * sizeof(Stored));
  return load_pair(held);
}

LEGATO_HD float largest_lane(const Floats& x) {
  float most = x[0];
  for (int i = 1; i < kPack; ++i) most = x[i] > most ? x[i] : most;
  return most;
}

constexpr std::size_t kBlock = math::kSoftmaxBlock;
using BlockSums = math::BlockSums<Floats>;
using RowScale = math::RowScale<Floats>;
using GradientScale = math::GradientScale<Floats>;

template <class Stored, bool kEntropy>
LEGATO_HD void add_pair(const Pair& z, const RowScale& row, BlockSums& block) {
  math::add_logits<kEntropy, sizeof(Stored) == 4>(z.first, row, block);
  math::add_logits<kEntropy, sizeof(Stored) == 4>(z.second, row, block);
}

/// One reading of a block; while it is worked on, the next one is fetched.
template <bool kEntropy, class Stored>
LEGATO_HD BlockSums add_block(const Stored* z, std::size_t count, const RowScale& row) {
  BlockSums block{{}, {}, {}, filled(-__builtin_inff())};
  std::size_t i = 0;
  for (; i + kPair <= count; i += kPair) {
    __builtin_prefetch(z + i + kBlock);
    if (sizeof(Stored) == 4) __builtin_prefetch(z + i + kBlock + kPack);
    add_pair<Stored, kEntropy>(load_pair(z + i), row, block);
  }
  if (i < count) add_pair<Stored, kEntropy>(load_some(z + i, count - i), row, block);
  return block;
}

template <class Stored>
LEGATO_HD double block_largest(const Stored* z, std::size_t count) {
  Floats most = filled(-__builtin_inff());
  const auto see = [&](const Pair& pair) { most = math::larger(pair.second, math::larger(pair.first, most)); };
  std::size_t i = 0;
  for (; i + kPair <= count; i += kPair) see(load_pair(z + i));
  if (i < count) see(load_some(z + i, count - i));
  return static_cast<double>(largest_lane(most));
}

/// Sums over a row by lane; the lanes are added up as a fixed tree when their reference moves.
struct LaneSums {
  Doubles s, t, q;
};

LEGATO_HD void collect(LaneSums& lanes, double temperature, math::SoftmaxSums& sums) {
  sums.s += math::sum(lanes.s);
  sums.t += math::sum(lanes.t) / temperature;
  sums.q += math::sum(lanes.q);
  lanes = {};
}

/// The reference is the largest logit of the first block, and moves only where a block goes far beyond it: that block
/// is then read again. Without kEntropy the entropy and sum p^2 mean nothing; all else has the same bits.
template <bool kEntropy, class Stored>
math::TokenStats row_stats(const Stored* row, std::size_t columns, std::size_t id, double temperature) {
  RowScale scale{{},
                 filled(math::kNegligible * static_cast<float>(temperature)),
                 filled(static_cast<float>(math::kLog2E / temperature))};
  math::SoftmaxSums sums = math::no_terms();
  LaneSums lanes{};
  double largest = -__builtin_inf();
  const auto refer = [&](double to) {
    collect(lanes, temperature, sums);
    math::raise(sums, to, temperature);
    scale.reference = filled(sums.largest == -__builtin_inf() ? 0.0f : static_cast<float>(sums.largest));
  };
  for (std::size_t at = 0; at < columns; at += kBlock) {
    const std::size_t left = columns - at, count = left < kBlock ? left : kBlock;
    if (largest == -__builtin_inf()) refer(block_largest(row + at, count));
    BlockSums block = add_block<kEntropy>(row + at, count, scale);
    const double most = static_cast<double>(largest_lane(block.most));
    if (most > sums.largest + math::kReach * temperature) {
      refer(most);
      block = add_block<kEntropy>(row + at, count, scale);
    }
    largest = most > largest ? most : largest;
    lanes.s = lanes.s + math::to_double(block.s);
    lanes.t = lanes.t + math::to_double(block.t);
    lanes.q = lanes.q + math::to_double(block.q);
  }
  refer(largest);
  return math::finish(sums, static_cast<double>(to_float(row[id])), temperature);
}

template <bool kEntropy, class Stored>
void stats_of(const Stored* logits, std::size_t columns, const std::int64_t* ids, double temperature,
              const std::uint8_t* mask, const rft::TokenStats& out, std::size_t begin, std::size_t end) {
  for (std::size_t n = begin; n < end; ++n) {
    math::TokenStats stats{};
    if (mask == nullptr || mask[n] != 0) {
      stats = row_stats<kEntropy>(logits + n * columns, columns, static_cast<std::size_t>(ids[n]), temperature);
    }
    out.logp[n] = static_cast<float>(stats.logp);
    if (kEntropy) {
      out.entropy[n] = static_cast<float>(stats.entropy);
      out.sum_p2[n] = static_cast<float>(stats.sum_p2);
    }
    out.lse[n] = static_cast<float>(stats.lse);
    out.largest[n] = static_cast<float>(stats.largest);
    out.log_sum[n] = static_cast<float>(stats.log_sum);
  }
}

/// Calls work with the logits as a pointer to what they are stored as.
template <class Work>
void as_stored(const rft::Logits& logits, Work&& work) {
  switch (logits.type) {
    case rft::FloatType::f32:
      return work(reinterpret_cast<const float*>(logits.data.data()));
    case rft::FloatType::bf16:
      return work(reinterpret_cast<const Brain16*>(logits.data.data()));
    case rft::FloatType::f16:
      return work(reinterpret_cast<const Half16*>(logits.data.data()));
  }
}

inline void stats_rows(const rft::Logits& logits, const std::int64_t* ids, double temperature, const std::uint8_t* mask,
                       const rft::TokenStats& out, std::size_t begin, std::size_t end) {
  as_stored(logits, [&](const auto* data) {
    if (out.entropy.empty()) return stats_of<false>(data, logits.columns, ids, temperature, mask, out, begin, end);
    stats_of<true>(data, logits.columns, ids, temperature, mask, out, begin, end);
  });
  note_isa(LEGATO_REGION_ISA);
}

struct RowGradient {
  std::size_t id;
  float entropy, largest, log_sum, grad_logp, grad_entropy;
};

/// Of a pair, whose `chosen`-th logit (if it has as many) is the row's token's.
template <class Stored>
LEGATO_HD Pair gradients_of(const Pair& z, const GradientScale& row, std::size_t chosen, float weight) {
  Pair gradient{math::logit_gradient(z.first, row), math::logit_gradient(z.second, row)};
  if (chosen < kPair) {
    constexpr bool kOddSecond = __is_same(Stored, Brain16);
    Floats& half = (kOddSecond ? chosen % 2 != 0 : chosen >= kPack) ? gradient.second : gradient.first;
    half[static_cast<int>(kOddSecond ? chosen / 2 : chosen % kPack)] += weight;
  }
  return gradient;
}

template <class Stored>
void row_gradient(const Stored* row, Stored* out, std::size_t columns, double temperature, const RowGradient& g) {
  const float inverse = static_cast<float>(1.0 / temperature), weight = g.grad_logp * inverse;
  const GradientScale scale{
      filled(g.largest), filled(inverse), filled(-g.log_sum), filled(-weight), filled(-g.grad_entropy * inverse),
      filled(g.entropy)};
  std::size_t i = 0;
  for (; i + kPair <= columns; i += kPair) {
    store_pair(out + i, gradients_of<Stored>(load_pair(row + i), scale, g.id - i, weight));
  }
  if (i < columns) {
    Stored held[kPair];
    store_pair(held, gradients_of<Stored>(load_some(row + i, columns - i), scale, g.id - i, weight));
    __builtin_memcpy(out + i, held, (columns - i) * sizeof(Stored));
  }
}

inline void gradient_rows(const rft::Logits& logits, const std::int64_t* ids, double temperature,
                          const std::uint8_t* mask, const rft::GivenStats& stats, const float* grad_logp,
                          const float* grad_entropy, std::byte* gradient, std::size_t begin, std::size_t end) {
  as_stored(logits, [&]<class Stored>(const Stored* data) {
    const std::size_t columns = logits.columns;
    for (std::size_t n = begin; n < end; ++n) {
      Stored* out = reinterpret_cast<Stored*>(gradient) + n * columns;
      if (mask != nullptr && mask[n] == 0) {
        __builtin_memset(out, 0, columns * sizeof(Stored));
        continue;
      }
      row_gradient(
          data + n * columns, out, columns, temperature,
          {static_cast<std::size_t>(ids[n]), grad_entropy == nullptr ? 0.0f : stats.entropy[n], stats.largest[n],
           stats.log_sum[n], grad_logp[n], grad_entropy == nullptr ? 0.0f : grad_entropy[n]});
    }
  });
  note_isa(LEGATO_REGION_ISA);
}

}  // namespace legato::LEGATO_REGION
