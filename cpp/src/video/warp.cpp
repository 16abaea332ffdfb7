#include "video/warp.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <thread>

#include "core/core.h"
#include "legato/video.hpp"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // of GCC 12's own headers: _mm512_undefined_epi32
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#define LEGATO_REGION_FILE "video/warp-inl.h"
#include "core/isa_region.h"

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx2,fma,bmi,bmi2,avx512f,avx512dq,avx512bw,avx512vl,avx512vbmi"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi,bmi2,avx512f,avx512dq,avx512bw,avx512vl,avx512vbmi,prefer-vector-width=512")
#endif
#include "video/warp-vbmi-inl.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

namespace legato::video {
namespace {

constexpr std::size_t kRowGrain = 16;
constexpr double kPixelNs = 0.15;  // bilinear, of one plane

Taps make_bicubic() {
  Taps taps{};
  taps.count = 4;
  for (int i = 0; i < kSubpixels; ++i) {
    const float t = static_cast<float>(i) * (1.0f / kSubpixels), u = 1.0f - t, tu = (t * u) * -0.75f;
    float* w = taps.down[i];
    w[0] = tu * u;
    w[3] = tu * t;
    w[1] = (1.25f * t - 2.25f) * (t * t) + 1.0f;
    w[2] = ((1.0f - w[0]) - w[1]) - w[3];
    int rest = 16384;
    for (const int c : {0, 2, 3}) {
      taps.across[i][c] = static_cast<std::int16_t>(std::lrintf(w[c] * 16384.0f));
      rest -= taps.across[i][c];
    }
    taps.across[i][1] = static_cast<std::int16_t>(rest);
  }
  return taps;
}

Taps make_lanczos() {
  Taps taps{};
  taps.count = 8;
  constexpr double pi = 3.14159265358979323846;
  for (int i = 0; i < kSubpixels; ++i) {
    double w[8], total = 0;
    for (int c = 0; c < 8; ++c) {
      const double x = static_cast<double>(i) / kSubpixels - (c - 3);
      w[c] = i == 0 ? (c == 3) : std::sin(pi * x) * std::sin(pi * x / 4) / (x * x);
      total += w[c];
    }
    int rest = 16384;
    for (int c = 0; c < 8; ++c) {
      taps.down[i][c] = static_cast<float>(w[c] / total);
      taps.across[i][c] = static_cast<std::int16_t>(std::lrint(w[c] / total * 16384));
      rest -= taps.across[i][c];
    }
    const int largest = i < kSubpixels / 2 ? 3 : 4;
    taps.across[i][largest] = static_cast<std::int16_t>(taps.across[i][largest] + rest);
  }
  return taps;
}

const Taps* taps_of(Interpolation interpolation) {
  static const Taps bicubic = make_bicubic(), lanczos = make_lanczos();
  return interpolation == Interpolation::bilinear  ? nullptr
         : interpolation == Interpolation::bicubic ? &bicubic
                                                   : &lanczos;
}

template <class Sample>
bool is_image(const Image<Sample>& image) {
  return image.data != nullptr && image.width >= 1 && image.height >= 1 && image.width <= kLongestSide &&
         image.height <= kLongestSide;
}

bool known(Interpolation interpolation) {
  return interpolation >= Interpolation::bilinear && interpolation <= Interpolation::lanczos;
}

template <class Sample>
Status make_job(std::span<const double> map, std::span<const Image<const Sample>> sources,
                std::span<const Image<Sample>> targets, int most, Interpolation interpolation, WarpJob<Sample>& job) {
  if (map.size() != 9 || sources.empty() || sources.size() > kMostPlanes || sources.size() != targets.size() ||
      !known(interpolation)) {
    return Status::invalid_argument;
  }
  job.planes = static_cast<int>(sources.size());
  for (std::size_t p = 0; p < sources.size(); ++p) {
    const auto &source = sources[p], &first_source = sources[0];
    const auto &target = targets[p], &first_target = targets[0];
    if (!is_image(source) || !is_image(target) || source.width != first_source.width ||
        source.height != first_source.height || target.width != first_target.width ||
        target.height != first_target.height || std::abs(source.stride) < source.width ||
        std::abs(target.stride) < target.width) {
      return Status::invalid_argument;
    }
    job.source[p] = source.data;
    job.source_stride[p] = source.stride;
    job.target[p] = target.data;
    job.target_stride[p] = target.stride;
  }
  double largest = 0;
  for (const double entry : map) {
    if (!std::isfinite(entry)) return Status::not_finite;
    largest = std::max(largest, std::abs(entry));
  }
  // Neither huge nor tiny entries may overflow: the scale, a power of two, changes no ratio.
  int exponent = 0;
  std::frexp(largest, &exponent);
  for (int i = 0; i < 9; ++i) job.map[i] = std::ldexp(map[static_cast<std::size_t>(i)], -exponent);
  job.source_width = sources[0].width;
  job.source_height = sources[0].height;
  job.target_width = targets[0].width;
  job.target_height = targets[0].height;
  job.most = most;
  job.taps = taps_of(interpolation);
  return Status::ok;
}

#if defined(__x86_64__)
bool has_vbmi() {
  static const bool has = __builtin_cpu_supports("avx512vbmi");
  return has;
}
#endif

template <class Sample>
void run(const WarpJob<Sample>& job, int begin, int end) {
#if defined(__x86_64__)
  const bool few_taps = job.taps == nullptr || job.taps->count == 4;
  if (active_isa() == Isa::avx512 && has_vbmi() && static_cast<std::size_t>(job.source_width) * sizeof(Sample) >= 64 &&
      few_taps) {
    return avx512vbmi::warp_rows(job, begin, end);
  }
#endif
  LEGATO_DISPATCH(warp_rows, job, begin, end);
}

template <class Sample>
void run_all(const WarpJob<Sample>& job, int threads) {
  for_chunks(static_cast<std::size_t>(job.target_height), kRowGrain, threads, kPixelNs * job.planes * job.target_width,
             [&job](std::size_t begin, std::size_t end, std::size_t) {
               run(job, static_cast<int>(begin), static_cast<int>(end));
             });
  note_isa(active_isa());
}

std::size_t padded(int width) { return (static_cast<std::size_t>(width) + 63) / 64 * 64; }

}  // namespace

Status warp(std::span<const double> map, std::span<const Image<const std::uint8_t>> sources,
            std::span<const Image<std::uint8_t>> targets, Interpolation interpolation, int threads) noexcept {
  WarpJob<std::uint8_t> job;
  const Status status = make_job(map, sources, targets, 255, interpolation, job);
  if (status != Status::ok || threads < 1) return status != Status::ok ? status : Status::invalid_argument;
  run_all(job, threads);
  return outcome();
}

Status warp(std::span<const double> map, std::span<const Image<const std::uint16_t>> sources,
            std::span<const Image<std::uint16_t>> targets, int bit_depth, Interpolation interpolation,
            int threads) noexcept {
  if (bit_depth < 9 || bit_depth > 16 || threads < 1) return Status::invalid_argument;
  WarpJob<std::uint16_t> job;
  const Status status = make_job(map, sources, targets, (1 << bit_depth) - 1, interpolation, job);
  if (status != Status::ok) return status;
  run_all(job, threads);
  return outcome();
}

std::size_t warp_packed_workspace_size(int source_width, int source_height, int target_width,
                                       int target_height) noexcept {
  const auto [least, most] = std::minmax({source_width, source_height, target_width, target_height});
  if (least < 1 || most > kLongestSide) return 0;
  const Size source = padded(source_width) * Size{static_cast<std::size_t>(source_height)};
  const Size target = padded(target_width) * Size{static_cast<std::size_t>(target_height)};
  return (3 * (source + target)).or_zero();
}

Status warp_packed(std::span<const double> map, const Image<const std::uint8_t>& source,
                   const Image<std::uint8_t>& target, Interpolation interpolation, std::span<std::byte> workspace,
                   int threads) noexcept {
  if (!is_image(source) || !is_image(target) || std::abs(source.stride) < 3 * source.width ||
      std::abs(target.stride) < 3 * target.width) {
    return Status::invalid_argument;
  }
  if (!is_enough(workspace, warp_packed_workspace_size(source.width, source.height, target.width, target.height))) {
    return Status::workspace_too_small;
  }
  Image<const std::uint8_t> from[3];
  Image<std::uint8_t> split[3], to[3];
  auto* memory = reinterpret_cast<std::uint8_t*>(workspace.data());
  for (int p = 0; p < 3; ++p) {
    split[p] = {memory, source.width, source.height, static_cast<std::ptrdiff_t>(padded(source.width))};
    from[p] = {memory, source.width, source.height, split[p].stride};
    memory += padded(source.width) * static_cast<std::size_t>(source.height);
  }
  for (int p = 0; p < 3; ++p) {
    to[p] = {memory, target.width, target.height, static_cast<std::ptrdiff_t>(padded(target.width))};
    memory += padded(target.width) * static_cast<std::size_t>(target.height);
  }
  for (int y = 0; y < source.height; ++y) {
    if (static_cast<std::size_t>(y) % kRowGrain == 0 && cancelled()) return Status::cancelled;
    LEGATO_DISPATCH(split_row, source.data + y * source.stride, source.width, split[0].data + y * split[0].stride,
                    split[1].data + y * split[1].stride, split[2].data + y * split[2].stride);
  }
  const Status status = warp(map, from, to, interpolation, threads);
  if (status != Status::ok) return status;
  for (int y = 0; y < target.height; ++y) {
    if (static_cast<std::size_t>(y) % kRowGrain == 0 && cancelled()) return Status::cancelled;
    LEGATO_DISPATCH(merge_row, to[0].data + y * to[0].stride, to[1].data + y * to[1].stride,
                    to[2].data + y * to[2].stride, target.width, target.data + y * target.stride);
  }
  return Status::ok;
}

void chroma_map(std::span<const double, 9> map, int sx, int sy, double ox, double oy,
                std::span<double, 9> chroma) noexcept {
  double h[9];  // map S
  for (std::size_t r = 0; r < 3; ++r) {
    h[3 * r] = map[3 * r] * sx;
    h[3 * r + 1] = map[3 * r + 1] * sy;
    h[3 * r + 2] = map[3 * r] * ox + map[3 * r + 1] * oy + map[3 * r + 2];
  }
  for (std::size_t c = 0; c < 3; ++c) {
    chroma[c] = (h[c] - ox * h[6 + c]) / sx;
    chroma[3 + c] = (h[3 + c] - oy * h[6 + c]) / sy;
    chroma[6 + c] = h[6 + c];
  }
}

}  // namespace legato::video
