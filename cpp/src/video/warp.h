// What the compiled copies of the warp share: the job, the block map, the tap tables.
#pragma once

#include <cstddef>
#include <cstdint>

namespace legato::video {

// A row of the output is cut into blocks of 32 pixels. The source position is exact at both ends of a block; inside it
// is the chord plus the mean second difference, in 1/512 px and 16-bit integers:
//   x(i) = x0 + 512 i + round(512 i dx / 2^15) + round(quad(i) qx / 2^15),  quad(i) = 2^15 i (i - 32) / (2 32^2).
// Error. With exact values at the nodes -1, 0, 1, 2 (in blocks) and t in [0, 1], Bessel's formula leaves out
// t (t - 1)(t - 1/2) / 6 times the third difference D, at most 0.0081 |D|; the cubic's own remainder for a function
// a + b / (x - p) is exactly |(t + 1) t (t - 1)(t - 2)| / (6 |x - p| / 32) |D|, at most 0.0235 |D| when the pole p is
// four blocks away or more. Rounding: 0.5 (x0) + 0.25 (dx) + 0.5 + 0.1 (qx) + 0.5 = 1.85 units of 1/512 px. A block
// is sound when its pole is that far and 0.0316 |D| <= 3.2 units: together less than 5.05 units, 0.0099 px.
// Blocks that are not, or too steep for the kernels' windows, take their positions one pixel at a time.
constexpr int kBlock = 32;
constexpr int kSubpixelBits = 9;
constexpr int kSubpixels = 1 << kSubpixelBits;
constexpr double kMostThirdDifference = 3.2 / 0.0316;
// Up to here, of dx and dy (2^15: a pixel for each) and of the second differences, eight pixels and a neighbor lie
// within 16 columns, 32 and four taps within 64.
constexpr double kMostSlope = 29000, kMostRise = 12000, kMostSecondDifference = 2000;
constexpr int kSegment = 64;   // blocks mapped at once
constexpr int kRowsAhead = 8;  // a rotated row touches many source rows, which defeats the hardware prefetcher
// dx beyond which four taps do not fit: of eight pixels 16 bytes, of four pixels 8 samples of 16 bits.
template <class Sample>
constexpr int kSteepestTaps = sizeof(Sample) == 1 ? 21000 : 8192;
constexpr int kSteepestDeepTaps = 25000;  // the same of sixteen pixels and 32 samples

struct RowMap {
  alignas(64) std::int32_t x0[kSegment], y0[kSegment];
  alignas(64) std::int32_t dx[kSegment], dy[kSegment], qx[kSegment], qy[kSegment];
  alignas(64) std::int32_t sound[kSegment];
};

struct BlockTables {
  alignas(64) std::int16_t lane[kBlock];  // 512 i
  alignas(64) std::int16_t quad[kBlock];
};

constexpr BlockTables make_block_tables() {
  BlockTables tables{};
  for (int i = 0; i < kBlock; ++i) {
    tables.lane[i] = static_cast<std::int16_t>(i * kSubpixels);
    tables.quad[i] = static_cast<std::int16_t>(-((i * (kBlock - i) * 32768 + kBlock * kBlock) / (2 * kBlock * kBlock)));
  }
  return tables;
}
inline constexpr BlockTables kBlockTables = make_block_tables();

/// Weights of the kernels with more than two taps at each of the 512 subpixel positions.
struct Taps {
  int count;
  alignas(64) std::int16_t across[kSubpixels][8];  // sum 2^14
  alignas(64) float down[kSubpixels][8];
};

template <class Sample>
struct WarpJob {
  double map[9];
  int planes;
  const Sample* source[3];
  std::ptrdiff_t source_stride[3];
  Sample* target[3];
  std::ptrdiff_t target_stride[3];
  int source_width, source_height, target_width, target_height;
  int most;          // largest sample of the result
  const Taps* taps;  // null: bilinear
};

}  // namespace legato::video
