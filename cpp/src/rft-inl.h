// The rows of token_stats and its gradient. Compiled once per ISA region by rft.cpp, which includes <immintrin.h>
// before.
//
// fused() rounds once in the AVX2 and AVX-512 copies and twice in the baseline copy, where it would cost a call. So
// results are the same bits on every processor with FMA, and within the stated tolerance on those without.
#include "packs-inl.h"

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

/// Elements of logits stored in 16 bits.
struct Brain16 {
  unsigned short bits;
};
struct Half16 {
  unsigned short bits;
};

LEGATO_HD Floats load_logits(const float* x) { return math::load_pack(x); }
// Left to itself GCC 12 widens by halves, and turns the maximum of what it knows to be shifted into a comparison.
#if defined(__x86_64__) && LEGATO_REGION_WIDTH == 8
LEGATO_HD Floats load_logits(const Brain16* x) {
  const __m512i wide = _mm512_maskz_cvtepu16_epi32(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
  return {{_mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, wide, 16))}};
}
LEGATO_HD Floats load_logits(const Half16* x) {
  return {{_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)))}};
}
#else
LEGATO_HD Floats load_logits(const Brain16* x) { return math::float_of_bfloat<Floats>(math::widen(&x->bits)); }
LEGATO_HD Floats load_logits(const Half16* x) { return math::float_of_half<Floats>(math::widen(&x->bits)); }
#endif
LEGATO_HD void store_logits(float* x, const Floats& value) { math::store_pack(x, value); }
LEGATO_HD void store_logits(Brain16* x, const Floats& value) {
  math::narrow(math::bfloat_of_float<math::Words>(value), &x->bits);
}
LEGATO_HD void store_logits(Half16* x, const Floats& value) {
  math::narrow(math::half_of_float<math::Words>(value), &x->bits);
}

/// The first `count` logits, then minus infinity.
template <class Stored>
LEGATO_HD Floats load_some_logits(const Stored* x, std::size_t count) {
  Stored held[kPack] = {};
  __builtin_memcpy(held, x, count * sizeof(Stored));
  float z[kPack];
  math::store_pack(z, load_logits(held));
  for (std::size_t i = count; i < kPack; ++i) z[i] = -__builtin_inff();
  return math::load_pack(z);
}

LEGATO_HD float largest_lane(const Floats& x) {
  float most = x[0];
  for (int i = 1; i < kPack; ++i) most = x[i] > most ? x[i] : most;
  return most;
}

/// Columns between two flushes of the float32 sums into float64.
constexpr std::size_t kBlock = 2048;
/// How far in units of T a logit may be above the reference of the sums before they are moved.
constexpr double kReach = 8.0;

struct BlockSums {
  Floats s, t, q, most;
};

struct RowScale {
  Floats reference, floor, scale;
};

LEGATO_HD void add_pack(const Floats& z, const RowScale& row, BlockSums& block) {
  block.most = math::larger(z, block.most);                     // passes over NaN
  const Floats d = math::larger(row.floor, z - row.reference);  // NaN stays
  const Floats e = math::power_of_two(d, row.scale);
  block.s = block.s + e;
  block.t = math::fused(e, d, block.t);
  block.q = math::fused(e, e, block.q);
}

/// One reading of a block; while it is worked on, the next one is fetched.
template <class Stored>
LEGATO_HD BlockSums add_block(const Stored* z, std::size_t count, const RowScale& row) {
  BlockSums block{{}, {}, {}, filled(-__builtin_inff())};
  std::size_t i = 0;
  for (; i + kPack <= count; i += kPack) {
    __builtin_prefetch(z + i + kBlock);
    add_pack(load_logits(z + i), row, block);
  }
  if (i < count) add_pack(load_some_logits(z + i, count - i), row, block);
  return block;
}

template <class Stored>
LEGATO_HD double block_largest(const Stored* z, std::size_t count) {
  Floats most = filled(-__builtin_inff());
  std::size_t i = 0;
  for (; i + kPack <= count; i += kPack) most = math::larger(load_logits(z + i), most);
  if (i < count) most = math::larger(load_some_logits(z + i, count - i), most);
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
/// is then read again.
template <class Stored>
math::TokenStats row_stats(const Stored* row, std::size_t columns, std::size_t id, double temperature) {
  RowScale scale{{},
                 filled(math::kNegligible * static_cast<float>(temperature)),
                 filled(static_cast<float>(math::kLog2E / temperature))};
  math::SoftmaxSums sums;
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
    BlockSums block = add_block(row + at, count, scale);
    const double most = static_cast<double>(largest_lane(block.most));
    if (most > sums.largest + kReach * temperature) {
      refer(most);
      block = add_block(row + at, count, scale);
    }
    largest = most > largest ? most : largest;
    lanes.s = lanes.s + math::to_double(block.s);
    lanes.t = lanes.t + math::to_double(block.t);
    lanes.q = lanes.q + math::to_double(block.q);
  }
  refer(largest);
  return math::finish(sums, static_cast<double>(load_some_logits(row + id, 1)[0]), temperature);
}

template <class Stored>
void stats_of(const Stored* logits, std::size_t columns, const std::int64_t* ids, double temperature,
              const std::uint8_t* mask, const rft::TokenStats& out, std::size_t begin, std::size_t end) {
  for (std::size_t n = begin; n < end; ++n) {
    math::TokenStats stats{};
    if (mask == nullptr || mask[n] != 0) {
      stats = row_stats(logits + n * columns, columns, static_cast<std::size_t>(ids[n]), temperature);
    }
    out.logp[n] = static_cast<float>(stats.logp);
    out.entropy[n] = static_cast<float>(stats.entropy);
    out.sum_p2[n] = static_cast<float>(stats.sum_p2);
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
      return work(static_cast<const float*>(logits.data));
    case rft::FloatType::bf16:
      return work(static_cast<const Brain16*>(logits.data));
    case rft::FloatType::f16:
      return work(static_cast<const Half16*>(logits.data));
  }
}

inline void stats_rows(const rft::Logits& logits, const std::int64_t* ids, double temperature, const std::uint8_t* mask,
                       const rft::TokenStats& out, std::size_t begin, std::size_t end) {
  as_stored(logits, [&](const auto* data) { stats_of(data, logits.columns, ids, temperature, mask, out, begin, end); });
  note_isa(LEGATO_REGION_ISA);
}

struct RowGradient {
  std::size_t id;
  float entropy, largest, log_sum, grad_logp, grad_entropy;
};

template <class Stored>
void row_gradient(const Stored* row, Stored* out, std::size_t columns, double temperature, const RowGradient& g) {
  const float inverse = static_cast<float>(1.0 / temperature);
  const Floats scale = filled(inverse), offset = filled(-g.log_sum), reference = filled(g.largest);
  const Floats floor = filled(-87.0f), log2e = filled(static_cast<float>(math::kLog2E));
  const Floats weight = filled(-g.grad_logp * inverse);
  const Floats entropy_weight = filled(-g.grad_entropy * inverse), entropy = filled(g.entropy);
  const auto gradient = [&](const Floats& z, std::size_t at) {
    const Floats u = math::fused(z - reference, scale, offset);  // log p
    const Floats kept = math::select_less(u, floor, floor, u);
    const Floats p = math::select_less(u, floor, Floats{}, math::power_of_two(kept, log2e));
    Floats result = p * math::fused(kept + entropy, entropy_weight, weight);
    if (g.id - at < kPack) result[static_cast<int>(g.id - at)] += g.grad_logp * inverse;
    return result;
  };
  std::size_t i = 0;
  for (; i + kPack <= columns; i += kPack) store_logits(out + i, gradient(load_logits(row + i), i));
  if (i < columns) {
    Stored held[kPack];
    store_logits(held, gradient(load_some_logits(row + i, columns - i), i));
    __builtin_memcpy(out + i, held, (columns - i) * sizeof(Stored));
  }
}

inline void gradient_rows(const rft::Logits& logits, const std::int64_t* ids, double temperature,
                          const std::uint8_t* mask, const rft::TokenStats& stats, const float* grad_logp,
                          const float* grad_entropy, void* gradient, std::size_t begin, std::size_t end) {
  as_stored(logits, [&]<class Stored>(const Stored* data) {
    const std::size_t columns = logits.columns;
    for (std::size_t n = begin; n < end; ++n) {
      Stored* out = static_cast<Stored*>(gradient) + n * columns;
      if (mask != nullptr && mask[n] == 0) {
        __builtin_memset(out, 0, columns * sizeof(Stored));
        continue;
      }
      row_gradient(data + n * columns, out, columns, temperature,
                   {static_cast<std::size_t>(ids[n]), stats.entropy[n], stats.largest[n], stats.log_sum[n],
                    grad_logp[n], grad_entropy == nullptr ? 0.0f : grad_entropy[n]});
    }
  });
  note_isa(LEGATO_REGION_ISA);
}

}  // namespace legato::LEGATO_REGION
