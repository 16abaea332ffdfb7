// The rows of token_stats and its gradient, a block of columns at a time. Compiled once per ISA region by rft.cpp.
#include "float-lanes-inl.h"

namespace legato::LEGATO_REGION {

using math::float_constant;
using math::Floats;
using math::kFloatLanes;

/// Columns between two flushes of the float32 sums into float64; the second reading of a block comes from the L1 cache.
constexpr std::size_t kBlock = 2048;

/// Columns [at, at + count) of a row as float32 in a multiple of sixteen; the rest of the last pack is minus infinity.
/// Float32 is used where it lies, but for the last few columns.
LEGATO_HD const float* widen(const void* row, rft::FloatType type, std::size_t at, std::size_t count, float* buffer) {
  const std::size_t whole = count / kFloatLanes * kFloatLanes;
  if (type == rft::FloatType::f32) {
    const float* source = static_cast<const float*>(row) + at;
    if (whole == count) return source;
    __builtin_memcpy(buffer, source, count * sizeof(float));
  } else {
    const auto* source = static_cast<const unsigned short*>(row) + at;
    const bool brain = type == rft::FloatType::bf16;
    if (brain) {
      for (std::size_t i = 0; i < whole; i += kFloatLanes) math::store(math::load_bfloat16(source + i), buffer + i);
    } else {
      for (std::size_t i = 0; i < whole; i += kFloatLanes) math::store(math::load_float16(source + i), buffer + i);
    }
    if (whole < count) {
      unsigned short tail[kFloatLanes] = {};
      __builtin_memcpy(tail, source + whole, (count - whole) * sizeof(unsigned short));
      math::store(brain ? math::load_bfloat16(tail) : math::load_float16(tail), buffer + whole);
    }
  }
  for (std::size_t i = count; i % kFloatLanes != 0; ++i) buffer[i] = -__builtin_inff();
  return buffer;
}

LEGATO_HD void narrow(const float* source, void* row, rft::FloatType type, std::size_t at, std::size_t count) {
  if (type == rft::FloatType::f32) {
    float* target = static_cast<float*>(row) + at;
    if (target != source) __builtin_memcpy(target, source, count * sizeof(float));
    return;
  }
  auto* target = static_cast<unsigned short*>(row) + at;
  for (std::size_t i = 0; i < count; i += kFloatLanes) {
    const std::size_t left = count - i;
    unsigned short packed[kFloatLanes];
    unsigned short* into = left < kFloatLanes ? packed : target + i;
    if (type == rft::FloatType::bf16) {
      math::store_bfloat16(math::load(source + i), into);
    } else {
      math::store_float16(math::load(source + i), into);
    }
    if (into == packed) __builtin_memcpy(target + i, packed, left * sizeof(unsigned short));
  }
}

LEGATO_HD float logit_at(const void* row, rft::FloatType type, std::size_t column) {
  if (type == rft::FloatType::f32) return static_cast<const float*>(row)[column];
  unsigned short pack[kFloatLanes] = {};
  pack[0] = static_cast<const unsigned short*>(row)[column];
  float value[kFloatLanes];
  math::store(type == rft::FloatType::bf16 ? math::load_bfloat16(pack) : math::load_float16(pack), value);
  return value[0];
}

LEGATO_HD float block_largest(const float* z, std::size_t count) {
  Floats most[4];
  for (auto& m : most) m = float_constant(-__builtin_inff());
  std::size_t i = 0;
  for (; i + 4 * kFloatLanes <= count; i += 4 * kFloatLanes) {
    for (std::size_t j = 0; j < 4; ++j) most[j] = math::larger(math::load(z + i + j * kFloatLanes), most[j]);
  }
  for (; i < count; i += kFloatLanes) most[0] = math::larger(math::load(z + i), most[0]);
  return math::largest(math::larger(math::larger(most[0], most[1]), math::larger(most[2], most[3])));
}

/// Sums over a row by lane, in float64; the lanes are added up as a fixed tree when their reference moves.
struct LaneSums {
  double s[kFloatLanes] = {}, t[kFloatLanes] = {}, q[kFloatLanes] = {};
};

LEGATO_HD void add(const Floats& x, double* lanes) {
  float lane[kFloatLanes];
  math::store(x, lane);
  for (int i = 0; i < kFloatLanes; ++i) lanes[i] += static_cast<double>(lane[i]);
}

LEGATO_HD double take(double* lanes) {
  for (int width = kFloatLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  const double total = lanes[0];
  for (int i = 0; i < kFloatLanes; ++i) lanes[i] = 0;
  return total;
}

LEGATO_HD void collect(LaneSums& lanes, double temperature, math::SoftmaxSums& sums) {
  sums.s += take(lanes.s);
  sums.t += take(lanes.t) / temperature;
  sums.q += take(lanes.q);
}

inline math::TokenStats row_stats(const void* row, rft::FloatType type, std::size_t columns, std::size_t id,
                                  double temperature) {
  alignas(64) float buffer[kBlock];
  const Floats scale = float_constant(static_cast<float>(math::kLog2E / temperature));
  const Floats floor = float_constant(math::kNegligible * static_cast<float>(temperature));
  const std::size_t pack_bytes = kFloatLanes * (type == rft::FloatType::f32 ? sizeof(float) : 2);
  const auto* ahead = static_cast<const std::byte*>(row) + kBlock / kFloatLanes * pack_bytes;
  math::SoftmaxSums sums;
  LaneSums lanes;
  for (std::size_t at = 0; at < columns; at += kBlock) {
    const std::size_t left = columns - at, count = left < kBlock ? left : kBlock;
    const float* z = widen(row, type, at, count, buffer);
    const std::size_t padded = (count + kFloatLanes - 1) / kFloatLanes * kFloatLanes;
    const double most = static_cast<double>(block_largest(z, padded));
    if (most > sums.largest) {
      collect(lanes, temperature, sums);
      math::raise(sums, most, temperature);
    }
    const bool none = sums.largest == -__builtin_inf();  // NaN may still be among them
    const Floats reference = float_constant(none ? 0.0f : static_cast<float>(sums.largest));
    Floats s{}, t{}, q{};
    for (std::size_t i = 0; i < padded; i += kFloatLanes) {
      __builtin_prefetch(ahead);
      ahead += pack_bytes;
      const Floats d = math::larger(floor, math::load(z + i) - reference);  // NaN stays
      const Floats e = math::power_of_two(d, scale);
      s = s + e;
      t = math::fused(e, d, t);
      q = math::fused(e, e, q);
    }
    add(s, lanes.s);
    add(t, lanes.t);
    add(q, lanes.q);
  }
  collect(lanes, temperature, sums);
  return math::finish(sums, static_cast<double>(logit_at(row, type, id)), temperature);
}

inline void stats_rows(const rft::Logits& logits, const std::int64_t* ids, double temperature, const std::uint8_t* mask,
                       const rft::TokenStats& out, std::size_t begin, std::size_t end) {
  const std::size_t stride = logits.columns * (logits.type == rft::FloatType::f32 ? sizeof(float) : 2);
  for (std::size_t n = begin; n < end; ++n) {
    math::TokenStats stats{};
    if (mask == nullptr || mask[n] != 0) {
      stats = row_stats(static_cast<const std::byte*>(logits.data) + n * stride, logits.type, logits.columns,
                        static_cast<std::size_t>(ids[n]), temperature);
    }
    out.logp[n] = static_cast<float>(stats.logp);
    out.entropy[n] = static_cast<float>(stats.entropy);
    out.sum_p2[n] = static_cast<float>(stats.sum_p2);
    out.lse[n] = static_cast<float>(stats.lse);
    out.largest[n] = static_cast<float>(stats.largest);
    out.log_sum[n] = static_cast<float>(stats.log_sum);
  }
  note_isa(LEGATO_REGION_ISA);
}

struct RowGradient {
  std::size_t id;
  float entropy, largest, log_sum, grad_logp, grad_entropy;
};

inline void row_gradient(const void* row, void* out, rft::FloatType type, std::size_t columns, double temperature,
                         const RowGradient& g) {
  alignas(64) float buffer[kBlock];
  alignas(64) float result[kBlock];
  const float inverse = static_cast<float>(1.0 / temperature);
  const Floats scale = float_constant(inverse), offset = float_constant(-g.log_sum);
  const Floats reference = float_constant(g.largest);
  const Floats floor = float_constant(-87.0f), log2e = float_constant(static_cast<float>(math::kLog2E));
  const Floats weight = float_constant(-g.grad_logp * inverse);
  const Floats entropy_weight = float_constant(-g.grad_entropy * inverse), entropy = float_constant(g.entropy);
  for (std::size_t at = 0; at < columns; at += kBlock) {
    const std::size_t left = columns - at, count = left < kBlock ? left : kBlock;
    const float* z = widen(row, type, at, count, buffer);
    for (std::size_t i = 0; i < count; i += kFloatLanes) {
      const Floats u = math::fused(math::load(z + i) - reference, scale, offset);  // log p
      const auto negligible = u < floor;
      const Floats kept = math::select(negligible, floor, u);
      const Floats p = math::select(negligible, Floats{}, math::power_of_two(kept, log2e));
      math::store(p * math::fused(kept + entropy, entropy_weight, weight), result + i);
    }
    if (g.id >= at && g.id - at < count) result[g.id - at] += g.grad_logp * inverse;
    narrow(result, out, type, at, count);
  }
}

inline void gradient_rows(const rft::Logits& logits, const std::int64_t* ids, double temperature,
                          const std::uint8_t* mask, const rft::TokenStats& stats, const float* grad_logp,
                          const float* grad_entropy, void* gradient, std::size_t begin, std::size_t end) {
  const std::size_t stride = logits.columns * (logits.type == rft::FloatType::f32 ? sizeof(float) : 2);
  for (std::size_t n = begin; n < end; ++n) {
    std::byte* out = static_cast<std::byte*>(gradient) + n * stride;
    if (mask != nullptr && mask[n] == 0) {
      __builtin_memset(out, 0, stride);
      continue;
    }
    row_gradient(static_cast<const std::byte*>(logits.data) + n * stride, out, logits.type, logits.columns, temperature,
                 {static_cast<std::size_t>(ids[n]), stats.entropy[n], stats.largest[n], stats.log_sum[n], grad_logp[n],
                  grad_entropy == nullptr ? 0.0f : grad_entropy[n]});
  }
  note_isa(LEGATO_REGION_ISA);
}

}  // namespace legato::LEGATO_REGION
