// Counter-based Gaussians and the fused step. Compiled once per ISA region by diffusion.cpp.
#include "packs-inl.h"

namespace legato::LEGATO_REGION {

using diffusion::BFloat16;
using diffusion::Coefficients;
using diffusion::Half;
using math::Doubles;
using math::filled;
using math::Floats;
using math::kPack;
using math::load_pack;
using math::Pack;
using math::store_pack;
using math::Words;

// --- Storage --------------------------------------------------------------------------------------------------------

template <class Storage>
struct ArithmeticOf {
  using type = float;
};
template <>
struct ArithmeticOf<double> {
  using type = double;
};
template <class Storage>
using Arithmetic = typename ArithmeticOf<Storage>::type;

LEGATO_HD Words widen(const void* source) {
  unsigned short narrow[kPack];
  __builtin_memcpy(narrow, source, sizeof narrow);
  Words out;
  for (int i = 0; i < kPack; ++i) out[i] = narrow[i];
  return out;
}
LEGATO_HD void narrow(const Words& source, void* target) {
  unsigned short out[kPack];
  for (int i = 0; i < kPack; ++i) out[i] = static_cast<unsigned short>(source[i]);
  __builtin_memcpy(target, out, sizeof out);
}

LEGATO_HD Floats load_stored(const float* x) { return load_pack(x); }
LEGATO_HD Doubles load_stored(const double* x) { return load_pack(x); }
LEGATO_HD Floats load_stored(const Half* x) { return math::float_of_half<Floats>(widen(x)); }
LEGATO_HD Floats load_stored(const BFloat16* x) { return math::float_of_bfloat<Floats>(widen(x)); }
LEGATO_HD void store_stored(float* x, const Floats& value) { store_pack(x, value); }
LEGATO_HD void store_stored(double* x, const Doubles& value) { store_pack(x, value); }
LEGATO_HD void store_stored(Half* x, const Floats& value) { narrow(math::half_of_float<Words>(value), x); }
LEGATO_HD void store_stored(BFloat16* x, const Floats& value) { narrow(math::bfloat_of_float<Words>(value), x); }

template <class Storage>
LEGATO_HD auto load_some(const Storage* x, std::size_t count) {
  Storage held[kPack] = {};
  __builtin_memcpy(held, x, count * sizeof(Storage));
  return load_stored(held);
}
template <class Storage, class Real>
LEGATO_HD void store_some(Storage* x, const Pack<Real>& value, std::size_t count) {
  Storage held[kPack];
  store_stored(held, value);
  __builtin_memcpy(x, held, count * sizeof(Storage));
}

// --- Noise ----------------------------------------------------------------------------------------------------------

struct Draw {
  unsigned seed_low, seed_high, stream_low, stream_high, step, substep;
};

/// Sixty-four normals of one sample: elements 64 group .. 64 group + 63.
template <bool kPhilox>
LEGATO_HD void sixty_four(const Draw& of, std::uint64_t group, Floats (&z)[4]) {
  Words block;  // lanes in the order that makes interleave() cheap
  for (int lane = 0; lane < kPack; ++lane) block[lane] = static_cast<unsigned>(4 * (lane % 4) + lane / 4);
  const std::uint64_t first = group * 16;
  const auto words = math::draw<kPhilox, Words>(
      {filled(of.seed_low), filled(of.seed_high), filled(of.stream_low), filled(of.stream_high)},
      block + static_cast<unsigned>(first), filled(static_cast<unsigned>(first >> 32)), filled(of.step),
      filled(of.substep));
  math::gaussian_pair(words.word[0], words.word[1], z[0], z[1]);
  math::gaussian_pair(words.word[2], words.word[3], z[2], z[3]);
  math::interleave(z);
}

/// Calls sink(at, normals) for the elements [64 group, 64 group + count) of one sample, sixty-four at a time; the last
/// call may hold more normals than are left.
template <bool kPhilox, class Sink>
LEGATO_HD void for_groups(const Draw& of, std::uint64_t group, std::size_t count, Sink&& sink) {
  for (std::size_t at = 0; at < count; at += 64, ++group) {
    Floats four[4] = {};
    sixty_four<kPhilox>(of, group, four);
    sink(at, four);
  }
}

/// Sixteen samples side by side: the first `wanted` (at least) of normals 4 block .. 4 block + 3 of each, lane by lane.
template <bool kPhilox>
LEGATO_HD void four_across(const math::Stream<Words>& streams, unsigned block, unsigned step, unsigned substep,
                           std::size_t wanted, Floats (&z)[4]) {
  const auto words = math::draw<kPhilox, Words>(streams, filled(block), filled(0u), filled(step), filled(substep));
  math::gaussian_pair(words.word[0], words.word[1], z[0], z[1]);
  if (wanted > 2) math::gaussian_pair(words.word[2], words.word[3], z[2], z[3]);
}

LEGATO_HD Draw draw_of(const diffusion::Noise& noise, std::size_t sample) {
  const std::uint64_t seed = noise.seeds[sample * noise.stride];
  const std::uint64_t stream = noise.stride == 0 ? noise.first_stream + sample : 0;
  return {static_cast<unsigned>(seed),
          static_cast<unsigned>(seed >> 32),
          static_cast<unsigned>(stream),
          static_cast<unsigned>(stream >> 32),
          noise.step,
          noise.substep};
}

/// Streams of samples [first, first + count); the lanes past `count` repeat the last one.
LEGATO_HD math::Stream<Words> streams_of(const diffusion::Noise& noise, std::size_t first, std::size_t count) {
  math::Stream<Words> out;
  for (int lane = 0; lane < kPack; ++lane) {
    const auto at = static_cast<std::size_t>(lane);
    const Draw one = draw_of(noise, first + (at < count ? at : count - 1));
    out.seed_low[lane] = one.seed_low;
    out.seed_high[lane] = one.seed_high;
    out.stream_low[lane] = one.stream_low;
    out.stream_high[lane] = one.stream_high;
  }
  return out;
}

/// Normals of up to sixteen small samples, rows of `elements`, into z with room for 16 x elements and a pack.
template <bool kPhilox>
inline void fill_across(const diffusion::Noise& noise, std::size_t first, std::size_t count, std::size_t elements,
                        float* z) {
  const auto streams = streams_of(noise, first, count);
  for (std::size_t block = 0; 4 * block < elements; ++block) {
    Floats four[4] = {};
    four_across<kPhilox>(streams, static_cast<unsigned>(block), noise.step, noise.substep, elements - 4 * block, four);
    for (std::size_t q = 0; q < 4 && 4 * block + q < elements; ++q) {
      for (std::size_t lane = 0; lane < count; ++lane) {
        z[lane * elements + 4 * block + q] = four[q][static_cast<int>(lane)];
      }
    }
  }
}

/// A tile: part of one sample, or up to sixteen whole small samples; elements lie one after another in memory.
struct Tile {
  std::size_t sample, samples;  // samples > 1 only where each has at most kSmall elements
  std::size_t element, count;   // first element of the first sample; count over all
};

constexpr std::size_t kTile = 1024;
constexpr std::size_t kSmall = kTile / kPack;  // elements of a sample that go sixteen samples at a time

/// Calls work(tile) for the tiles [begin, end) of samples x elements numbers.
template <class Work>
LEGATO_HD void for_tiles(std::size_t samples, std::size_t elements, std::size_t begin, std::size_t end, Work&& work) {
  if (elements <= kSmall) {
    for (std::size_t index = begin; index < end; ++index) {
      const std::size_t first = index * kPack, count = samples - first < kPack ? samples - first : kPack;
      work(Tile{first, count, 0, count * elements});
    }
  } else {
    const std::size_t each = (elements + kTile - 1) / kTile;
    for (std::size_t index = begin; index < end; ++index) {
      const std::size_t element = index % each * kTile, left = elements - element;
      work(Tile{index / each, 1, element, left < kTile ? left : kTile});
    }
  }
}

/// Calls work(at, pack, count) for the normals z of `count` elements in a row, a pack at a time.
template <class Work>
LEGATO_HD void for_packs(const float* z, std::size_t count, Work&& work) {
  for (std::size_t at = 0; at < count; at += kPack) {
    work(at, load_pack(z + at), count - at < kPack ? count - at : kPack);
  }
}

template <bool kPhilox, class Storage>
inline void normal_tiles(const diffusion::Noise& noise, std::size_t samples, std::size_t elements, std::size_t begin,
                         std::size_t end, Storage* out) {
  using Real = Arithmetic<Storage>;
  for_tiles(samples, elements, begin, end, [&](const Tile& tile) {
    Storage* target = out + tile.sample * elements + tile.element;
    const auto put = [&](std::size_t at, const Floats& z, std::size_t count) {
      if (count >= kPack) {
        store_stored(target + at, to_real(z, Real{}));
      } else {
        store_some(target + at, to_real(z, Real{}), count);
      }
    };
    if (elements <= kSmall) {
      alignas(64) float z[kTile + 64];
      fill_across<kPhilox>(noise, tile.sample, tile.samples, elements, z);
      for_packs(z, tile.count, put);
    } else {
      for_groups<kPhilox>(draw_of(noise, tile.sample), tile.element / 64, tile.count,
                          [&](std::size_t at, const Floats(&four)[4]) {
                            const std::size_t left = tile.count - at;
                            if (left >= 64) {
                              for (std::size_t q = 0; q < 4; ++q) put(at + 16 * q, four[q], kPack);
                            } else {
                              for (std::size_t q = 0; 16 * q < left; ++q) put(at + 16 * q, four[q], left - 16 * q);
                            }
                          });
    }
  });
}

template <class Storage>
inline void normal_range(const diffusion::Noise& noise, std::size_t samples, std::size_t elements, std::size_t begin,
                         std::size_t end, Storage* out) {
  if (noise.generator == diffusion::Generator::philox) {
    normal_tiles<true>(noise, samples, elements, begin, end, out);
  } else {
    normal_tiles<false>(noise, samples, elements, begin, end, out);
  }
  note_isa(LEGATO_REGION_ISA);
}

// --- The fused step -------------------------------------------------------------------------------------------------

/// x' of `count` elements in a row; add(value, at, some) takes the deterministic part of a pack to the result.
template <bool kUncond, class Storage, class Add>
LEGATO_HD void update_run(const Coefficients& by, const Storage* x, const Storage* cond, const Storage* uncond,
                          Storage* out, std::size_t count, Add&& add) {
  using Real = Arithmetic<Storage>;
  const Real a = static_cast<Real>(by.a), c = static_cast<Real>(by.cond), u = static_cast<Real>(by.uncond);
  const auto combine = [&](const auto& at, const auto& with, const auto& without) __attribute__((always_inline)) {
    auto value = at * a + with * c;
    if constexpr (kUncond) value = value + without * u;
    return value;
  };
  std::size_t at = 0;
  for (; at + kPack <= count; at += kPack) {
    const auto value = combine(load_stored(x + at), load_stored(cond + at), load_stored(uncond + at));
    store_stored(out + at, add(value, at, std::size_t{kPack}));
  }
  if (const std::size_t rest = count - at; rest > 0) {
    const auto value = combine(load_some(x + at, rest), load_some(cond + at, rest), load_some(uncond + at, rest));
    store_some(out + at, add(value, at, rest), rest);
  }
}

template <bool kPhilox, bool kUncond, class Storage>
inline void step_tiles(const diffusion::Step<Storage>& step, std::size_t begin, std::size_t end) {
  using Real = Arithmetic<Storage>;
  const bool one = step.coefficients.size() == 1, draws = step.given_noise == nullptr;
  // The elements [from, from + count) in memory, which share their coefficients; z: their normals, or null.
  const auto run = [&](const Coefficients& by, std::size_t from, std::size_t count,
                       const float* z) __attribute__((always_inline)) {
    const Real scale = static_cast<Real>(by.noise);
    const Storage *x = step.x + from, *cond = step.cond + from,
                  *given = step.given_noise != nullptr ? step.given_noise + from : nullptr;
    const Storage* uncond = (kUncond ? step.uncond : step.cond) + from;
    Storage* out = step.out + from;
    if (by.noise == 0) {
      update_run<kUncond>(by, x, cond, uncond, out, count,
                          [](const auto& value, std::size_t, std::size_t)
                              __attribute__((always_inline)) { return value; });
    } else if (z != nullptr) {
      update_run<kUncond>(by, x, cond, uncond, out, count,
                          [&](const auto& value, std::size_t at, std::size_t) __attribute__((always_inline)) {
                            return value + to_real(load_pack(z + at), Real{}) * scale;
                          });
    } else {
      update_run<kUncond>(by, x, cond, uncond, out, count,
                          [&](const auto& value, std::size_t at, std::size_t some) __attribute__((always_inline)) {
                            return value +
                                   (some == kPack ? load_stored(given + at) : load_some(given + at, some)) * scale;
                          });
    }
  };
  for_tiles(step.samples, step.elements, begin, end, [&](const Tile& tile) {
    const std::size_t start = tile.sample * step.elements + tile.element;
    alignas(64) float z[kTile + 64];
    bool noisy = false;
    for (std::size_t i = 0; i < (one ? 1 : tile.samples); ++i) {
      noisy = noisy || step.coefficients[one ? 0 : tile.sample + i].noise != 0;
    }
    const float* normals = draws && noisy ? z : nullptr;
    if (normals != nullptr && step.elements <= kSmall) {
      fill_across<kPhilox>(step.noise, tile.sample, tile.samples, step.elements, z);
    } else if (normals != nullptr) {
      for_groups<kPhilox>(draw_of(step.noise, tile.sample), tile.element / 64, tile.count,
                          [&](std::size_t at, const Floats(&four)[4]) {
                            for (std::size_t q = 0; q < 4; ++q) store_pack(z + at + 16 * q, four[q]);
                          });
    }
    if (one || tile.samples == 1) {
      run(step.coefficients[one ? 0 : tile.sample], start, tile.count, normals);
      return;
    }
    for (std::size_t i = 0; i < tile.samples; ++i) {
      const std::size_t from = i * step.elements;
      run(step.coefficients[tile.sample + i], start + from, step.elements, normals != nullptr ? z + from : nullptr);
    }
  });
}

template <class Storage>
inline void step_range(const diffusion::Step<Storage>& step, std::size_t begin, std::size_t end) {
  const bool philox = step.noise.generator == diffusion::Generator::philox;
  if (step.uncond != nullptr) {
    philox ? step_tiles<true, true>(step, begin, end) : step_tiles<false, true>(step, begin, end);
  } else {
    philox ? step_tiles<true, false>(step, begin, end) : step_tiles<false, false>(step, begin, end);
  }
  note_isa(LEGATO_REGION_ISA);
}

/// The eight sums of one sample, lanes added in a fixed tree.
template <class Storage>
inline void sums_of_sample(std::size_t elements, const Storage* cond, const Storage* uncond, const Storage* x,
                           double* out) {
  Doubles sums[diffusion::kSums] = {};
  const auto add = [&](const auto& stored_c, const auto& stored_u, const auto& stored_x) {
    const Doubles c = to_double(stored_c), u = to_double(stored_u), at = to_double(stored_x);
    sums[0] = sums[0] + c * c;
    sums[1] = sums[1] + u * u;
    sums[2] = sums[2] + c * u;
    sums[3] = sums[3] + c;
    sums[4] = sums[4] + u;
    sums[5] = sums[5] + at * c;
    sums[6] = sums[6] + at * u;
    sums[7] = sums[7] + at * at;
  };
  const Pack<Arithmetic<Storage>> nothing{};
  std::size_t at = 0;
  for (; at + kPack <= elements; at += kPack) {
    add(load_stored(cond + at), load_stored(uncond + at), x != nullptr ? load_stored(x + at) : nothing);
  }
  if (const std::size_t rest = elements - at; rest > 0) {
    add(load_some(cond + at, rest), load_some(uncond + at, rest), x != nullptr ? load_some(x + at, rest) : nothing);
  }
  for (std::size_t i = 0; i < diffusion::kSums; ++i) out[i] = sum(sums[i]);
}

template <class Storage>
inline void sums_range(std::size_t elements, const Storage* cond, const Storage* uncond, const Storage* x, double* out,
                       std::size_t begin, std::size_t end) {
  for (std::size_t i = begin; i < end; ++i) {
    const std::size_t at = i * elements;
    sums_of_sample(elements, cond + at, uncond + at, x != nullptr ? x + at : nullptr, out + i * diffusion::kSums);
  }
  note_isa(LEGATO_REGION_ISA);
}

}  // namespace legato::LEGATO_REGION
