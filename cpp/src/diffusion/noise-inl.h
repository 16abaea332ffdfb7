// Counter-based Gaussians and the fused step. Compiled once per ISA region by diffusion.cpp.
#include "core/packs-inl.h"

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

/// Lanes drawn in lockstep: where registers allow, two packs at a time hide each other's latency.
constexpr int kStretch = LEGATO_REGION_WIDTH == 8 ? 2 * kPack : kPack;

/// The normals of elements 4 block .. 4 block + count - 1 of one sample. They are written in whole stretches, so z has
/// room for `count` rounded up to a multiple of 4 kStretch. Calls ahead(i) before it draws number i, once in a stretch.
template <bool kPhilox, class Ahead>
inline void draw_run(const Draw& of, std::uint64_t block, std::size_t count, float* z, const Ahead& ahead) {
  using W = Pack<unsigned, kStretch>;
  W lanes;  // in the order that makes interleave() cheap
  for (int lane = 0; lane < kStretch; ++lane) {
    lanes[lane] = static_cast<unsigned>(lane / kPack * kPack + 4 * (lane % 4) + lane % kPack / 4);
  }
  const math::Stream<W> stream{filled<kStretch>(of.seed_low), filled<kStretch>(of.seed_high),
                               filled<kStretch>(of.stream_low), filled<kStretch>(of.stream_high)};
  const W step = filled<kStretch>(of.step), substep = filled<kStretch>(of.substep);
  for (std::size_t at = 0; at < count; at += 4 * kStretch, block += kStretch) {
    ahead(at);
    const auto words = math::draw<kPhilox, W>(stream, lanes + static_cast<unsigned>(block),
                                              filled<kStretch>(static_cast<unsigned>(block >> 32)), step, substep);
    Pack<float, kStretch> four[4];
    math::gaussian_pair(words.word[0], words.word[1], four[0], four[1]);
    math::gaussian_pair(words.word[2], words.word[3], four[2], four[3]);
    math::interleave(four);
    for (int part = 0; part < Pack<float, kStretch>::kParts; ++part) {
      float* to = z + at + part / Floats::kParts * 64 + part % Floats::kParts * Floats::kWide;
      for (int q = 0; q < 4; ++q) __builtin_memcpy(to + q * kPack, &four[q].part[part], sizeof four[q].part[part]);
    }
  }
}

/// Samples side by side: the first `wanted` (at least) of normals 4 block .. 4 block + 3 of each, lane by lane.
template <bool kPhilox, int n>
LEGATO_HD void four_across(const math::Stream<Pack<unsigned, n>>& streams, unsigned block, unsigned step,
                           unsigned substep, std::size_t wanted, Pack<float, n> (&z)[4]) {
  const auto words = math::draw<kPhilox, Pack<unsigned, n>>(streams, filled<n>(block), filled<n>(0u), filled<n>(step),
                                                            filled<n>(substep));
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
template <int n>
LEGATO_HD math::Stream<Pack<unsigned, n>> streams_of(const diffusion::Noise& noise, std::size_t first,
                                                     std::size_t count) {
  math::Stream<Pack<unsigned, n>> out;
  for (int lane = 0; lane < n; ++lane) {
    const auto at = static_cast<std::size_t>(lane);
    const Draw one = draw_of(noise, first + (at < count ? at : count - 1));
    out.seed_low[lane] = one.seed_low;
    out.seed_high[lane] = one.seed_high;
    out.stream_low[lane] = one.stream_low;
    out.stream_high[lane] = one.stream_high;
  }
  return out;
}

/// A tile: part of one sample, or up to sixteen whole small samples; elements lie one after another in memory.
struct Tile {
  std::size_t sample, samples;  // samples > 1 only where each has at most kSmall elements
  std::size_t element, count;   // first element of the first sample; count over all
};

constexpr std::size_t kTile = 1024;  // with what a step reads of it, half of the first cache
constexpr std::size_t kSmall = 64;   // elements of a sample that go sixteen samples at a time

/// Where a tile begins in memory; one past the last tile is the end.
LEGATO_HD std::size_t first_of_tile(std::size_t samples, std::size_t elements, std::size_t index) {
  const std::size_t each = (elements + kTile - 1) / kTile, all = samples * elements;
  const std::size_t first =
      elements <= kSmall ? index * kPack * elements : index / each * elements + index % each * kTile;
  return first < all ? first : all;
}

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

/// Normals of up to sixteen small samples, rows of `elements`, into z.
template <bool kPhilox>
inline void fill_across(const diffusion::Noise& noise, std::size_t first, std::size_t count, std::size_t elements,
                        float* z) {
  const auto streams = streams_of<kPack>(noise, first, count);
  for (std::size_t block = 0; 4 * block < elements; ++block) {
    Floats four[4] = {};
    four_across<kPhilox, kPack>(streams, static_cast<unsigned>(block), noise.step, noise.substep, elements - 4 * block,
                                four);
    for (std::size_t q = 0; q < 4 && 4 * block + q < elements; ++q) {
      for (std::size_t lane = 0; lane < count; ++lane) {
        z[lane * elements + 4 * block + q] = four[q][static_cast<int>(lane)];
      }
    }
  }
}

constexpr std::size_t kTileRoom = kTile + 4 * kStretch;

struct Nothing {
  LEGATO_HD void operator()(std::size_t) const {}
};

/// The normals of a tile into z, which has kTileRoom.
template <bool kPhilox, class Ahead>
inline void draw_tile(const diffusion::Noise& noise, const Tile& tile, std::size_t elements, float* z,
                      const Ahead& ahead) {
  if (elements <= kSmall) {
    fill_across<kPhilox>(noise, tile.sample, tile.samples, elements, z);
  } else {
    draw_run<kPhilox>(draw_of(noise, tile.sample), tile.element / 4, tile.count, z, ahead);
  }
}
template <class Ahead = Nothing>
inline void draw_tile(const diffusion::Noise& noise, const Tile& tile, std::size_t elements, float* z,
                      const Ahead& ahead = {}) {
  if (noise.generator == diffusion::Generator::philox) {
    draw_tile<true>(noise, tile, elements, z, ahead);
  } else {
    draw_tile<false>(noise, tile, elements, z, ahead);
  }
}

/// Fetches what a step reads of a tile while its noise is drawn: memory and arithmetic at the same time.
template <class Storage>
struct Fetch {
  const Storage *x, *cond, *uncond;  // uncond may be null
  std::size_t count;

  LEGATO_HD void operator()(std::size_t at) const {
    const std::size_t end = at + 4 * kStretch < count ? at + 4 * kStretch : count;
    for (; at < end; at += 64 / sizeof(Storage)) {
      __builtin_prefetch(x + at);
      __builtin_prefetch(cond + at);
      if (uncond != nullptr) __builtin_prefetch(uncond + at);
    }
  }
};

template <class Storage>
inline void normal_range(const diffusion::Noise& noise, std::size_t samples, std::size_t elements, std::size_t begin,
                         std::size_t end, Storage* out) {
  alignas(64) float z[kTileRoom];
  for_tiles(samples, elements, begin, end, [&](const Tile& tile) {
    Storage* target = out + tile.sample * elements + tile.element;
    if constexpr (sizeof(Storage) == sizeof(float)) {
      if (elements > kSmall && tile.count % (4 * kStretch) == 0) return draw_tile(noise, tile, elements, target);
    }
    draw_tile(noise, tile, elements, z);
    std::size_t at = 0;
    for (; at + kPack <= tile.count; at += kPack) {
      store_stored(target + at, to_real(load_pack(z + at), Arithmetic<Storage>{}));
    }
    store_some(target + at, to_real(load_pack(z + at), Arithmetic<Storage>{}), tile.count - at);
  });
  note_isa(LEGATO_REGION_ISA);
}

// --- The fused step -------------------------------------------------------------------------------------------------

/// What a run of elements is made of: all pointers at its first element; uncond and noise may be null.
template <class Storage>
struct Run {
  const Storage *x, *cond, *uncond;
  Storage* out;
  std::size_t count;
};

/// x' of a run with one set of coefficients, noise from z (drawn, float; or given, Storage).
template <bool kUncond, bool kNoise, class Storage, class Z>
inline void update(const Coefficients& by, const Run<Storage>& run, const Z* z) {
  using Real = Arithmetic<Storage>;
  const Real a = static_cast<Real>(by.a), c = static_cast<Real>(by.cond), u = static_cast<Real>(by.uncond);
  const Real scale = static_cast<Real>(by.noise);
  const auto combine = [&](const auto& x, const auto& with, const auto& without, const auto& noise)
                           __attribute__((always_inline)) {
                             auto value = x * a + with * c;
                             if constexpr (kUncond) value = value + without * u;
                             if constexpr (kNoise) value = value + to_real(noise, Real{}) * scale;
                             return value;
                           };
  // What is not there is read from cond, and the compiler drops it.
  const Storage* uncond = kUncond ? run.uncond : run.cond;
  const auto* noise = [&] {
    if constexpr (kNoise) {
      return z;
    } else {
      return run.cond;
    }
  }();
  const auto part_of_pack = [&](std::size_t at, std::size_t some) {
    store_some(run.out + at,
               combine(load_some(run.x + at, some), load_some(run.cond + at, some), load_some(uncond + at, some),
                       load_some(noise + at, some)),
               some);
  };
  std::size_t at = 0;
  if (!kNoise && run.count >= 4 * kPack) {  // packs that start on a cache line of the result: a tenth faster
    at = (0 - reinterpret_cast<std::uintptr_t>(run.out) / sizeof(Storage)) % (64 / sizeof(Storage));
    for (std::size_t done = 0; done < at; done += kPack) part_of_pack(done, at - done < kPack ? at - done : kPack);
  }
  const auto pack = [&](std::size_t from) __attribute__((always_inline)) {
    store_stored(run.out + from, combine(load_stored(run.x + from), load_stored(run.cond + from),
                                         load_stored(uncond + from), load_stored(noise + from)));
  };
  if constexpr (!kNoise) {
    // Beyond the second cache the processor's own fetching is late by some percent; far ahead it would be disturbed.
    constexpr std::size_t kRound = 4 * kPack, kLine = 64 / sizeof(Storage);
    for (; at + kRound <= run.count; at += kRound) {
#pragma GCC unroll 8
      for (std::size_t next = at + kRound; next < at + 2 * kRound; next += kLine) {
        __builtin_prefetch(run.x + next);
        __builtin_prefetch(run.cond + next);
        if constexpr (kUncond) __builtin_prefetch(uncond + next);
      }
#pragma GCC unroll 4
      for (std::size_t i = 0; i < kRound; i += kPack) pack(at + i);
    }
  }
#pragma GCC unroll 4
  for (; at + kPack <= run.count; at += kPack) pack(at);
  if (at < run.count) part_of_pack(at, run.count - at);
}

/// The same with the noise drawn (z), given, or none.
template <class Storage>
inline void update_any(const Coefficients& by, const Run<Storage>& run, const float* z, const Storage* given) {
  const bool guided = run.uncond != nullptr;
  if (by.noise == 0) {
    guided ? update<true, false>(by, run, z) : update<false, false>(by, run, z);
  } else if (given != nullptr) {
    guided ? update<true, true>(by, run, given) : update<false, true>(by, run, given);
  } else {
    guided ? update<true, true>(by, run, z) : update<false, true>(by, run, z);
  }
}

template <class Storage>
inline void step_range(const diffusion::Step<Storage>& step, std::size_t begin, std::size_t end) {
  const bool one = step.coefficients.size() == 1, given = !step.given_noise.empty();
  const auto uncond_at = [&](std::size_t from) { return step.uncond.empty() ? nullptr : step.uncond.data() + from; };
  const auto update_at = [&](const Coefficients& by, std::size_t from, std::size_t count, const float* z) {
    const Run<Storage> run{step.x.data() + from, step.cond.data() + from, uncond_at(from), step.out.data() + from,
                           count};
    update_any(by, run, z, given ? step.given_noise.data() + from : nullptr);
  };
  if (one && (given || step.coefficients[0].noise == 0)) {  // one run: nothing depends on where a sample begins
    const std::size_t from = first_of_tile(step.samples, step.elements, begin);
    update_at(step.coefficients[0], from, first_of_tile(step.samples, step.elements, end) - from, nullptr);
    return note_isa(LEGATO_REGION_ISA);
  }
  alignas(64) float z[kTileRoom];
  for_tiles(step.samples, step.elements, begin, end, [&](const Tile& tile) {
    const std::size_t start = tile.sample * step.elements + tile.element;
    bool draws = false;
    for (std::size_t i = 0; i < (one ? 1 : tile.samples); ++i) {
      draws = draws || (!given && step.coefficients[one ? 0 : tile.sample + i].noise != 0);
    }
    if (draws) {
      draw_tile(step.noise, tile, step.elements, z,
                Fetch<Storage>{step.x.data() + start, step.cond.data() + start, uncond_at(start), tile.count});
    }
    if (one || tile.samples == 1) return update_at(step.coefficients[one ? 0 : tile.sample], start, tile.count, z);
    for (std::size_t i = 0; i < tile.samples; ++i) {
      const std::size_t from = i * step.elements;
      update_at(step.coefficients[tile.sample + i], start + from, step.elements, z + from);
    }
  });
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
