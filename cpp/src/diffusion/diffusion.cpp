#include "legato/diffusion.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/core.h"

#define LEGATO_REGION_FILE "diffusion/noise-inl.h"
#include "core/isa_region.h"

#undef LEGATO_MATH_HD_H
#undef LEGATO_MATH_RANDOM_H
#undef LEGATO_MATH_DIFFUSION_H
#include "legato/math/diffusion.h"

namespace legato::diffusion {
namespace {

constexpr std::size_t kTilesOfChunk = 16;
constexpr double kDrawnNs = 0.6, kPlainNs = 0.12;  // a number

/// What a tile takes whose numbers take so long each.
double tile_ns(std::size_t elements, double number_ns) {
  const bool small = elements <= baseline::kSmall;  // a tile has the numbers of a pack of samples
  return number_ns *
         static_cast<double>(small ? std::size_t{baseline::kPack} * elements : std::min(baseline::kTile, elements));
}

/// Tiles of samples x elements numbers, as for_tiles() counts them.
std::size_t tiles_of(std::size_t samples, std::size_t elements) {
  constexpr std::size_t tile = baseline::kTile, pack = baseline::kPack;
  return elements <= baseline::kSmall ? (samples + pack - 1) / pack : samples * ((elements + tile - 1) / tile);
}

bool drawable(const Noise& noise, std::size_t samples, std::size_t elements) {
  if (noise.stride > 1 || noise.seeds.size() != (noise.stride == 0 ? 1 : samples)) return false;
  if (noise.generator != Generator::philox) return noise.generator == Generator::threefry;
  constexpr std::uint64_t limit = std::uint64_t{1} << 32;
  return elements / 4 < limit && (noise.stride == 1 || noise.first_stream + samples <= limit);
}

template <int kRounds>
void threefry_blocks(std::span<const std::uint32_t> counters, std::span<const std::uint32_t> keys,
                     std::span<std::uint32_t> out) {
  for (std::size_t at = 0; at < out.size(); at += 4) {
    math::Block<unsigned> counter, key;
    std::copy_n(counters.data() + at, 4, counter.word);
    std::copy_n(keys.data() + at, 4, key.word);
    const auto block = math::threefry4x32<kRounds>(counter, key);
    std::copy_n(block.word, 4, out.data() + at);
  }
}

}  // namespace

Status threefry4x32(std::span<const std::uint32_t> counters, std::span<const std::uint32_t> keys, int rounds,
                    std::span<std::uint32_t> out) noexcept {
  if (counters.size() != out.size() || keys.size() != out.size() || out.size() % 4 != 0) {
    return Status::invalid_argument;
  }
  if (rounds == 12) {
    threefry_blocks<12>(counters, keys, out);
  } else if (rounds == 13) {
    threefry_blocks<13>(counters, keys, out);
  } else if (rounds == 20) {
    threefry_blocks<20>(counters, keys, out);
  } else {
    return Status::invalid_argument;
  }
  return Status::ok;
}

Status philox4x32(std::span<const std::uint32_t> counters, std::span<const std::uint32_t> keys,
                  std::span<std::uint32_t> out) noexcept {
  if (counters.size() != out.size() || 2 * keys.size() != out.size() || out.size() % 4 != 0) {
    return Status::invalid_argument;
  }
  for (std::size_t at = 0; at < out.size(); at += 4) {
    math::Block<unsigned> counter;
    std::copy_n(counters.data() + at, 4, counter.word);
    const auto block = math::philox4x32<unsigned>(counter, keys[at / 2], keys[at / 2 + 1]);
    std::copy_n(block.word, 4, out.data() + at);
  }
  return Status::ok;
}

template <class Storage>
Status normal(const Noise& noise, std::size_t samples, std::size_t elements, std::span<Storage> out,
              int threads) noexcept {
  if (!(Size{samples} * elements).is(out.size())) return Status::invalid_argument;
  if (out.empty()) return Status::ok;
  if (!drawable(noise, samples, elements)) return Status::invalid_argument;
  const std::size_t tiles = tiles_of(samples, elements);
  for_chunks(tiles, kTilesOfChunk, threads, tile_ns(elements, kDrawnNs),
             [&](std::size_t begin, std::size_t end, std::size_t) {
               LEGATO_DISPATCH(normal_range, noise, samples, elements, begin, end, out.data());
             });
  note_isa(active_isa());  // for this thread, where helpers did the work
  return outcome();
}

template <class Storage>
Status apply_step(const Step<Storage>& step, int threads) noexcept {
  const Size all = Size{step.samples} * step.elements;
  const bool shaped = (step.coefficients.size() == 1 || step.coefficients.size() == step.samples) &&
                      all.is(step.x.size()) && all.is(step.cond.size()) && all.is(step.out.size()) &&
                      (step.uncond.empty() || all.is(step.uncond.size())) &&
                      (step.given_noise.empty() || all.is(step.given_noise.size()));
  if (!shaped) return Status::invalid_argument;
  if (step.out.empty()) return Status::ok;
  bool noisy = false;
  for (const Coefficients& by : step.coefficients) {
    if (!std::isfinite(by.a) || !std::isfinite(by.cond) || !std::isfinite(by.uncond) || !std::isfinite(by.noise)) {
      return Status::invalid_argument;
    }
    noisy = noisy || by.noise != 0;
  }
  if (noisy && step.given_noise.empty() && !drawable(step.noise, step.samples, step.elements)) {
    return Status::invalid_argument;
  }
  const std::size_t tiles = tiles_of(step.samples, step.elements);
  const bool draws = noisy && step.given_noise.empty();
  for_chunks(tiles, kTilesOfChunk, threads, tile_ns(step.elements, draws ? kDrawnNs : kPlainNs),
             [&](std::size_t begin, std::size_t end, std::size_t) { LEGATO_DISPATCH(step_range, step, begin, end); });
  note_isa(active_isa());  // for this thread, where helpers did the work
  return outcome();
}

template <class Storage>
Status guidance_sums(std::size_t samples, std::size_t elements, std::span<const Storage> cond,
                     std::span<const Storage> uncond, std::span<const Storage> x, std::span<double> out,
                     int threads) noexcept {
  const Size all = Size{samples} * elements;
  if (!all.is(cond.size()) || !all.is(uncond.size()) || !(x.empty() || all.is(x.size())) ||
      !(kSums * Size{samples}).is(out.size())) {
    return Status::invalid_argument;
  }
  const Storage* at = x.empty() ? nullptr : x.data();
  const std::size_t grain = std::max<std::size_t>(1, 32768 / std::max<std::size_t>(elements, 1));
  for_chunks(samples, grain, threads, kPlainNs * static_cast<double>(elements),
             [&](std::size_t begin, std::size_t end, std::size_t) {
               LEGATO_DISPATCH(sums_range, elements, cond.data(), uncond.data(), at, out.data(), begin, end);
             });
  note_isa(active_isa());  // for this thread, where helpers did the work
  return outcome();
}

#define LEGATO_STORAGE(Storage)                                                                               \
  template Status normal(const Noise&, std::size_t, std::size_t, std::span<Storage>, int) noexcept;           \
  template Status apply_step(const Step<Storage>&, int) noexcept;                                             \
  template Status guidance_sums(std::size_t, std::size_t, std::span<const Storage>, std::span<const Storage>, \
                                std::span<const Storage>, std::span<double>, int) noexcept;
LEGATO_STORAGE(float)
LEGATO_STORAGE(double)
LEGATO_STORAGE(Half)
LEGATO_STORAGE(BFloat16)
#undef LEGATO_STORAGE

}  // namespace legato::diffusion
