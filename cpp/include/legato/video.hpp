// Video kernels: planar warp. Spans and images in, images out; memory is the caller's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "legato/core.hpp"

namespace legato::video {

enum class Interpolation : int {
  bilinear = 0,
  bicubic = 1,  ///< four taps, Keys 1981 with a = -0.75
  lanczos = 2,  ///< eight taps, a = 4, weights normalized
};

/// One plane of samples. `stride` is the distance between rows in samples; it may be negative.
template <class Sample>
struct Image {
  Sample* data = nullptr;
  int width = 0, height = 0;
  std::ptrdiff_t stride = 0;
};

constexpr int kLongestSide = 32766;
constexpr std::size_t kMostPlanes = 3;

/// Resamples up to three planes of one size through one homography: the output pixel (x, y) shows the source at
/// map (x, y, 1), bilinear, bicubic or Lanczos; positions outside take the value of the nearest edge.
///
/// map: [3][3] row-major, output pixel to source pixel, pixel centers at integers; its scale has no meaning.
/// sources, targets: the same number of planes, the sources of one size, the targets of one size, no memory shared.
/// bit_depth: 8 for bytes; 9 to 16 for 16-bit samples, which never exceed (1 << bit_depth) - 1 in the result.
///
/// Positions are quantized to 1/512 px, within 0.01 px of the exact map; byte planes weigh neighbors across with 7 bits
/// when bilinear. The result has the same bits on every instruction set and for every number of threads.
/// Returns invalid_argument for wrong sizes, not_finite for a map with NaN or infinity.
Status warp(std::span<const double> map, std::span<const Image<const std::uint8_t>> sources,
            std::span<const Image<std::uint8_t>> targets, Interpolation interpolation, int threads = 1) noexcept;
Status warp(std::span<const double> map, std::span<const Image<const std::uint16_t>> sources,
            std::span<const Image<std::uint16_t>> targets, int bit_depth, Interpolation interpolation,
            int threads = 1) noexcept;

/// The same for packed pixels of three bytes (BGR, RGB, YUV 4:4:4). Width is in pixels, stride in bytes.
std::size_t warp_packed_workspace_size(int source_width, int source_height, int target_width,
                                       int target_height) noexcept;
Status warp_packed(std::span<const double> map, const Image<const std::uint8_t>& source,
                   const Image<std::uint8_t>& target, Interpolation interpolation, std::span<std::byte> workspace,
                   int threads = 1) noexcept;

/// The map of a chroma plane: S^-1 map S, with S = [[sx, 0, ox], [0, sy, oy], [0, 0, 1]] from chroma samples to luma
/// pixels.
void chroma_map(std::span<const double, 9> map, int sx, int sy, double ox, double oy,
                std::span<double, 9> chroma) noexcept;

}  // namespace legato::video
