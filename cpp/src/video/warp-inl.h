// Planar warp, compiled once per ISA region by warp.cpp. The plain code is the definition; the others give its bits.
#include "core/lanes-inl.h"

namespace legato::LEGATO_REGION {

using namespace legato::video;
using std::int16_t;
using std::int32_t;
using std::ptrdiff_t;
using std::uint16_t;
using std::uint8_t;

inline int clamped(int v, int low, int high) { return v < low ? low : v > high ? high : v; }
inline int smaller(int a, int b) { return a < b ? a : b; }
inline int larger(int a, int b) { return a > b ? a : b; }
/// The high half of a product, rounded: pmulhrsw.
inline int high_product(int a, int b) { return (a * b + 16384) >> 15; }

/// Positions of `count` blocks of output row y, beginning with block `first`, eight at a time.
inline void map_row(const double* map, int y, int first, int count, RowMap& out) {
  using math::constant;
  using math::Lanes;
  alignas(64) double fx[kSegment + 8], fy[kSegment + 8], depth[kSegment + 8];  // node k: the start of block k - 1
  const double a = map[0], b = map[1] * y + map[2], d = map[3], e = map[4] * y + map[5];
  const double g = map[6], w = map[7] * y + map[8];
  Lanes x = constant<Lanes>((first - 1) * kBlock);
  for (int i = 0; i < math::kLanes; ++i) x[i] += i * kBlock;
  for (int k = 0; k < (count + 7) / 8 * 8 + 3; k += math::kLanes, x += constant<Lanes>(math::kLanes * kBlock)) {
    const Lanes front = g * x + w, scale = static_cast<double>(kSubpixels) / front;
    math::store(depth + k, front);
    math::store(fx + k, (a * x + b) * scale);
    math::store(fy + k, (d * x + e) * scale);
  }
  const double near = 4.0 * kBlock * (g < 0 ? -g : g);
  for (int k = 0; k < count; k += math::kLanes) {
    const auto node = [k](const double* v, int offset)
                          __attribute__((always_inline)) { return math::load(v + k + offset); };
    const Lanes x0 = node(fx, 1), x1 = node(fx, 2), y0 = node(fy, 1), y1 = node(fy, 2), zero{};
    const Lanes sx = ((x1 - x0) * (1.0 / (kBlock * kSubpixels)) - 1.0) * 32768.0;
    const Lanes sy = (y1 - y0) * (32768.0 / (kBlock * kSubpixels));
    const Lanes before_x = node(fx, 0), after_x = node(fx, 3), before_y = node(fy, 0), after_y = node(fy, 3);
    const Lanes qx = 0.5 * ((after_x - x1) - (x0 - before_x)), qy = 0.5 * ((after_y - y1) - (y0 - before_y));
    const Lanes cx = (after_x - before_x) - 3.0 * (x1 - x0), cy = (after_y - before_y) - 3.0 * (y1 - y0);
    const Lanes front = node(depth, 1), back = node(depth, 2), margin = constant<Lanes>(near);
    const auto below = [](const Lanes& v, double most)
                           __attribute__((always_inline)) { return math::magnitude(v) < constant<Lanes>(most); };
    const auto sound = (((front >= margin) & (back >= margin) & (front > zero)) |
                        ((-front >= margin) & (-back >= margin) & (front < zero))) &
                       below(sx, kMostSlope) & below(sy, kMostRise) & below(qx, kMostSecondDifference) &
                       below(qy, kMostSecondDifference) & below(cx, kMostThirdDifference) &
                       below(cy, kMostThirdDifference) & below(x0, 1e8) & below(y0, 1e8);
    const auto whole = [&sound, k](const Lanes& v, int32_t* to) __attribute__((always_inline)) {
      math::store_rounded(to + k, math::select(sound, v, Lanes{}));
    };
    whole(constant<Lanes>(1), out.sound);
    whole(x0, out.x0);
    whole(y0, out.y0);
    whole(sx, out.dx);
    whole(sy, out.dy);
    whole(qx, out.qx);
    whole(qy, out.qy);
  }
}

/// Position of pixel i of a block, in 1/512 px.
inline void position_in_block(const RowMap& m, int k, int i, int& x, int& y) {
  x = m.x0[k] + kBlockTables.lane[i] + high_product(kBlockTables.lane[i], m.dx[k]) +
      high_product(kBlockTables.quad[i], m.qx[k]);
  y = m.y0[k] + high_product(kBlockTables.lane[i], m.dy[k]) + high_product(kBlockTables.quad[i], m.qy[k]);
}

/// Position of any pixel under any map, clamped to a little outside of the source, where only the edge is seen.
inline void position_of(const double* map, int px, int py, int width, int height, int& x, int& y) {
  const double w = map[6] * px + map[7] * py + map[8], scale = w != 0.0 ? 1.0 / w : 0.0;
  double sx = (map[0] * px + map[1] * py + map[2]) * scale, sy = (map[3] * px + map[4] * py + map[5]) * scale;
  sx = sx > -16.0 ? sx : -16.0;  // NaN as well
  sy = sy > -16.0 ? sy : -16.0;
  sx = sx < width + 16.0 ? sx : width + 16.0;
  sy = sy < height + 16.0 ? sy : height + 16.0;
  x = static_cast<int>(__builtin_floor(sx * kSubpixels + 0.5));
  y = static_cast<int>(__builtin_floor(sy * kSubpixels + 0.5));
}

inline uint8_t bilinear(const uint8_t* source, ptrdiff_t stride, int width, int height, int x, int y, int) {
  const int fx = (x & (kSubpixels - 1)) << 6, fy = (y & (kSubpixels - 1)) << 6;
  const int ix = x >> kSubpixelBits, iy = y >> kSubpixelBits;
  const uint8_t* upper = source + clamped(iy, 0, height - 1) * stride;
  const uint8_t* lower = source + clamped(iy + 1, 0, height - 1) * stride;
  const int left = clamped(ix, 0, width - 1), right = clamped(ix + 1, 0, width - 1);
  const int t = upper[left] * 64 + high_product((upper[right] - upper[left]) * 64, fx);
  const int b = lower[left] * 64 + high_product((lower[right] - lower[left]) * 64, fx);
  return static_cast<uint8_t>((t + high_product(b - t, fy) + 32) >> 6);
}

inline uint16_t bilinear(const uint16_t* source, ptrdiff_t stride, int width, int height, int x, int y, int most) {
  const int fx = x & (kSubpixels - 1), fy = y & (kSubpixels - 1);
  const int ix = x >> kSubpixelBits, iy = y >> kSubpixelBits;
  const uint16_t* upper = source + clamped(iy, 0, height - 1) * stride;
  const uint16_t* lower = source + clamped(iy + 1, 0, height - 1) * stride;
  const int left = clamped(ix, 0, width - 1), right = clamped(ix + 1, 0, width - 1);
  const int t = (upper[left] * (kSubpixels - fx) + upper[right] * fx + 16) >> 5;  // four bits more than a sample
  const int b = (lower[left] * (kSubpixels - fx) + lower[right] * fx + 16) >> 5;
  return static_cast<uint16_t>(smaller((t * kSubpixels + (b - t) * fy + 4096) >> 13, most));
}

/// Sums by halves: (0 + 1) + (2 + 3), and so on.
template <int count>
inline float pairwise(const float* part) {
  if constexpr (count == 1) return part[0];
  if constexpr (count > 1) return pairwise<count / 2>(part) + pairwise<count / 2>(part + count / 2);
}

/// Four or eight taps each way: integers across, float down, added in the same order on every instruction set.
template <int count, class Sample>
inline Sample tapped(const Sample* source, ptrdiff_t stride, int width, int height, int x, int y, int most,
                     const Taps& taps) {
  const int16_t* across = taps.across[x & (kSubpixels - 1)];
  const float* down = taps.down[y & (kSubpixels - 1)];
  const int ix = (x >> kSubpixelBits) - (count / 2 - 1), iy = (y >> kSubpixelBits) - (count / 2 - 1);
  int column[count];
  float part[count];
  for (int c = 0; c < count; ++c) column[c] = clamped(ix + c, 0, width - 1);
  for (int r = 0; r < count; ++r) {
    const Sample* row = source + clamped(iy + r, 0, height - 1) * stride;
    int sum = 0;
    for (int c = 0; c < count; ++c) sum += row[column[c]] * across[c];
    part[r] = static_cast<float>(sum) * down[r];
  }
  const float total = pairwise<count>(part) * (1.0f / 16384.0f);
  return static_cast<Sample>(clamped(static_cast<int>(__builtin_lrintf(total)), 0, most));
}

/// Weights of the four taps of bicubic in 1/2^14, in steps that 16-bit lanes can take. Their sum is exactly one.
inline void byte_weights(int f, int* weight) {
  const int t = f << 5, u = 16384 - t;
  const int tu = 2 * high_product(high_product(2 * t, u), -24576);  // -3/4 t u, in 1/2^15
  weight[0] = high_product(tu, u);
  weight[3] = high_product(tu, t);
  weight[1] = 16384 + 2 * high_product((t >> 1) + (t >> 3) - 18432, 2 * high_product(2 * t, t));
  weight[2] = 16384 - weight[0] - weight[1] - weight[3];
}

/// Bicubic of bytes, all in 16 bits: samples less 128 in the high byte, sums across in 1/2^7 of a level and down in
/// 1/2^6. The weights' magnitudes sum to at most 1.375, so nothing overflows; rounding costs 0.04 levels.
inline uint8_t bicubic(const uint8_t* source, ptrdiff_t stride, int width, int height, int x, int y) {
  int across[4], down[4], total = 32;
  byte_weights(x & (kSubpixels - 1), across);
  byte_weights(y & (kSubpixels - 1), down);
  const int ix = (x >> kSubpixelBits) - 1, iy = (y >> kSubpixelBits) - 1;
  for (int r = 0; r < 4; ++r) {
    const uint8_t* row = source + clamped(iy + r, 0, height - 1) * stride;
    int sum = 0;
    for (int c = 0; c < 4; ++c) sum += high_product((row[clamped(ix + c, 0, width - 1)] - 128) * 256, across[c]);
    total += high_product(sum, down[r]);
  }
  return static_cast<uint8_t>(clamped((total >> 6) + 128, 0, 255));
}

/// One pixel of plane p at position (x, y) in 1/512 px.
template <class Sample>
inline Sample sampled(const WarpJob<Sample>& job, int p, int x, int y) {
  const Sample* source = job.source[p];
  const ptrdiff_t stride = job.source_stride[p];
  const int width = job.source_width, height = job.source_height;
  if (job.taps == nullptr) return bilinear(source, stride, width, height, x, y, job.most);
  if (job.taps->count == 4) {
    if constexpr (sizeof(Sample) == 1) return bicubic(source, stride, width, height, x, y);
    if constexpr (sizeof(Sample) == 2) return tapped<4>(source, stride, width, height, x, y, job.most, *job.taps);
  }
  return tapped<8>(source, stride, width, height, x, y, job.most, *job.taps);
}

/// Positions of a block's pixels in 1/512 px.
template <class Sample>
inline void block_positions(const WarpJob<Sample>& job, const RowMap& m, int k, int y, int x, int32_t* sx,
                            int32_t* sy) {
  if (m.sound[k]) {
    for (int i = 0; i < kBlock; ++i) position_in_block(m, k, i, sx[i], sy[i]);
    return;
  }
  for (int i = 0; i < kBlock; ++i) {
    position_of(job.map, x + i, y, job.source_width, job.source_height, sx[i], sy[i]);
  }
}

/// A block by the definition; also what special cases fall back on.
template <class Sample>
inline void plain_block(const WarpJob<Sample>& job, const RowMap& m, int k, int y, int x, int count) {
  int32_t sx[kBlock], sy[kBlock];
  block_positions(job, m, k, y, x, sx, sy);
  for (int p = 0; p < job.planes; ++p) {
    Sample* target = job.target[p] + y * job.target_stride[p] + x;
    for (int i = 0; i < count; ++i) target[i] = sampled(job, p, sx[i], sy[i]);
  }
}

#if LEGATO_REGION_WIDTH >= 4

inline __m256i load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline __m128i load128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline __m256i load256(const void* low, const void* high) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(load128(low)), load128(high), 1);
}
inline __m128i spread8(int v) { return _mm_set1_epi16(static_cast<short>(v)); }
inline __m256i spread(int v) { return _mm256_set1_epi16(static_cast<short>(v)); }
inline __m256i two_of(int low, int high) { return _mm256_set_m128i(spread8(high), spread8(low)); }
inline int least16(__m128i v) {
  return static_cast<int16_t>(_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_xor_si128(v, spread8(-32768)))) ^ 0x8000);
}
inline int most16(__m128i v) { return ~least16(_mm_xor_si128(v, spread8(-1))); }
template <class Sample>
constexpr int kWindow = 16 / static_cast<int>(sizeof(Sample));  // samples in a register
inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

/// The first `count` of the samples in a register go to memory.
template <class Register, class Sample>
inline void put(Register samples, int count, Sample* target) {
  if (static_cast<std::size_t>(count) * sizeof(Sample) >= sizeof samples) {
    std::memcpy(target, &samples, sizeof samples);
  } else {
    std::memcpy(target, &samples, static_cast<std::size_t>(count) * sizeof(Sample));
  }
}

/// Positions of pixels i to i + 15 of a block, in 1/512 px from the pixel that x0 and y0 are in.
struct Sixteen {
  __m256i x, y;
};
inline Sixteen sixteen_positions(const RowMap& m, int k, int i) {
  const __m256i lane = load256(kBlockTables.lane + i), quad = load256(kBlockTables.quad + i);
  const int mask = kSubpixels - 1;
  return {_mm256_add_epi16(
              _mm256_add_epi16(lane, spread(m.x0[k] & mask)),
              _mm256_add_epi16(_mm256_mulhrs_epi16(lane, spread(m.dx[k])), _mm256_mulhrs_epi16(quad, spread(m.qx[k])))),
          _mm256_add_epi16(spread(m.y0[k] & mask), _mm256_add_epi16(_mm256_mulhrs_epi16(lane, spread(m.dy[k])),
                                                                    _mm256_mulhrs_epi16(quad, spread(m.qy[k]))))};
}

/// Byte planes, bilinear: each group of eight pixels takes its neighbors from 16 bytes of a row.
inline void bilinear_block(const WarpJob<uint8_t>& job, const RowMap& m, int k, int y, int x, int count) {
  const int x0 = m.x0[k] >> kSubpixelBits, y0 = m.y0[k] >> kSubpixelBits;
  const int width = job.source_width, height = job.source_height;
  const __m256i first = spread(64), slope = spread(64 << 8 | (-64 & 255));  // 64 left, 64 (right - left)
  for (int i = 0; i < count; i += 16) {
    const Sixteen at = sixteen_positions(m, k, i);
    __m256i ix = _mm256_srai_epi16(at.x, kSubpixelBits);
    const __m256i iy = _mm256_srai_epi16(at.y, kSubpixelBits);
    const int begin0 = x0 + static_cast<int16_t>(_mm256_extract_epi16(ix, 0));
    const int begin1 = x0 + static_cast<int16_t>(_mm256_extract_epi16(ix, 8));
    const int base0 = clamped(begin0, 0, width - kWindow<uint8_t>),
              base1 = clamped(begin1, 0, width - kWindow<uint8_t>);
    const __m128i low = _mm256_castsi256_si128(iy), high = _mm256_extracti128_si256(iy, 1);
    const int top = least16(_mm_min_epi16(low, high)), bottom = most16(_mm_max_epi16(low, high));
    ix = _mm256_add_epi16(ix, two_of(clamped(x0 - base0, -8192, 8192), clamped(x0 - base1, -8192, 8192)));
    __m256i next = _mm256_add_epi16(ix, spread(1));
    if (base0 != begin0 || base1 != begin1) {
      const __m256i zero = _mm256_setzero_si256();
      const __m256i last = two_of(smaller(width - 1 - base0, 4096), smaller(width - 1 - base1, 4096));
      ix = _mm256_min_epi16(_mm256_max_epi16(ix, zero), last);
      next = _mm256_min_epi16(_mm256_max_epi16(next, zero), last);
    }
    const __m256i index = _mm256_or_si256(ix, _mm256_slli_epi16(next, 8));
    const __m256i fx = _mm256_slli_epi16(_mm256_and_si256(at.x, spread(kSubpixels - 1)), 6);
    const __m256i fy = _mm256_slli_epi16(_mm256_and_si256(at.y, spread(kSubpixels - 1)), 6);
    for (int p = 0; p < job.planes; ++p) {
      const uint8_t* source = job.source[p];
      const ptrdiff_t stride = job.source_stride[p];
      prefetch(source + clamped(y0 + kRowsAhead, 0, height - 1) * stride + base0);
      const auto row = [&](int r) __attribute__((always_inline)) {
        const uint8_t* from = source + clamped(y0 + r, 0, height - 1) * stride;
        const __m256i v = _mm256_shuffle_epi8(load256(from + base0, from + base1), index);
        return _mm256_add_epi16(_mm256_maddubs_epi16(v, first),
                                _mm256_mulhrs_epi16(_mm256_maddubs_epi16(v, slope), fx));
      };
      __m256i before = row(top), now = row(top + 1), upper = before, lower = now;
      for (int r = top + 1; r <= bottom; ++r) {
        before = now;
        now = row(r + 1);
        const __m256i here = _mm256_cmpeq_epi16(iy, spread(r));
        upper = _mm256_blendv_epi8(upper, before, here);
        lower = _mm256_blendv_epi8(lower, now, here);
      }
      __m256i v = _mm256_add_epi16(upper, _mm256_mulhrs_epi16(_mm256_sub_epi16(lower, upper), fy));
      v = _mm256_srai_epi16(_mm256_add_epi16(v, spread(32)), 6);
      put(_mm_packus_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)), smaller(16, count - i),
          job.target[p] + y * job.target_stride[p] + x + i);
    }
  }
}

/// 16-bit planes, bilinear: from neighbors weighed across above and below to the pixel, all less half the range.
template <class Integers>
inline __attribute__((always_inline)) Integers between_rows(Integers upper, Integers lower, Integers fy) {
  const Integers t = (upper + 16) >> 5, b = (lower + 16) >> 5;
  return (t * kSubpixels + (b - t) * fy + 4096) >> 13;
}

/// Each four pixels take their neighbors from 8 samples of a row.
inline void bilinear_block(const WarpJob<uint16_t>& job, const RowMap& m, int k, int y, int x, int count) {
  typedef int32_t Integers __attribute__((vector_size(32)));
  const int x0 = m.x0[k] >> kSubpixelBits, y0 = m.y0[k] >> kSubpixelBits;
  const int width = job.source_width, height = job.source_height;
  const __m256i sign = spread(-32768);
  for (int i = 0; i < count; i += 16) {
    const Sixteen at = sixteen_positions(m, k, i);
    for (int half = 0; half < 2 && i + 8 * half < count; ++half) {
      const __m128i x8 = half == 0 ? _mm256_castsi256_si128(at.x) : _mm256_extracti128_si256(at.x, 1);
      const __m128i y8 = half == 0 ? _mm256_castsi256_si128(at.y) : _mm256_extracti128_si256(at.y, 1);
      const Integers xs = (Integers)_mm256_cvtepi16_epi32(x8), ys = (Integers)_mm256_cvtepi16_epi32(y8);
      const int begin0 = x0 + (static_cast<int16_t>(_mm_extract_epi16(x8, 0)) >> kSubpixelBits);
      const int begin1 = x0 + (static_cast<int16_t>(_mm_extract_epi16(x8, 4)) >> kSubpixelBits);
      const int base0 = clamped(begin0, 0, width - kWindow<uint16_t>),
                base1 = clamped(begin1, 0, width - kWindow<uint16_t>);
      const int from0 = clamped(x0 - base0, -8192, 8192), from1 = clamped(x0 - base1, -8192, 8192);
      __m256i left =
          (__m256i)((xs >> kSubpixelBits) + Integers{from0, from0, from0, from0, from1, from1, from1, from1});
      __m256i right = (__m256i)((Integers)left + 1);
      if (base0 != begin0 || base1 != begin1) {
        const int last0 = width - 1 - base0, last1 = width - 1 - base1;
        const __m256i zero = _mm256_setzero_si256();
        const __m256i last = _mm256_setr_epi32(last0, last0, last0, last0, last1, last1, last1, last1);
        left = _mm256_min_epi32(_mm256_max_epi32(left, zero), last);
        right = _mm256_min_epi32(_mm256_max_epi32(right, zero), last);
      }
      // Byte numbers 2 i and 2 i + 1 of both neighbors.
      const __m256i index = (__m256i)((Integers)left * 0x0202 + (Integers)right * 0x02020000 + 0x01000100);
      const Integers fx = xs & (kSubpixels - 1), fy = ys & (kSubpixels - 1);
      const __m256i weight = (__m256i)((kSubpixels - fx) | fx << 16), rows = (__m256i)(ys >> kSubpixelBits);
      const int top = least16(y8) >> kSubpixelBits, bottom = most16(y8) >> kSubpixelBits;
      for (int p = 0; p < job.planes; ++p) {
        const uint16_t* source = job.source[p];
        const ptrdiff_t stride = job.source_stride[p];
        prefetch(source + clamped(y0 + kRowsAhead, 0, height - 1) * stride + base0);
        const auto row = [&](int r) __attribute__((always_inline)) {
          const uint16_t* from = source + clamped(y0 + r, 0, height - 1) * stride;
          return _mm256_shuffle_epi8(load256(from + base0, from + base1), index);
        };
        __m256i now = row(top + 1), upper = row(top), lower = now;
        for (int r = top + 1; r <= bottom; ++r) {
          const __m256i after = row(r + 1), here = _mm256_cmpeq_epi32(rows, _mm256_set1_epi32(r));
          upper = _mm256_blendv_epi8(upper, now, here);
          lower = _mm256_blendv_epi8(lower, after, here);
          now = after;
        }
        const Integers t = (Integers)_mm256_madd_epi16(_mm256_xor_si256(upper, sign), weight);
        const Integers b = (Integers)_mm256_madd_epi16(_mm256_xor_si256(lower, sign), weight);
        const __m256i v = (__m256i)between_rows(t, b, fy);
        const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
        put(_mm_min_epu16(_mm_xor_si128(words, spread8(-32768)), spread8(job.most)), smaller(8, count - i - 8 * half),
            job.target[p] + y * job.target_stride[p] + x + i + 8 * half);
      }
    }
  }
}

/// Weights of the four taps of bicubic, by the operations that make the table.
inline void bicubic_weights(__m256i f, __m256* weight) {
  const __m256 one = _mm256_set1_ps(1), t = _mm256_mul_ps(_mm256_cvtepi32_ps(f), _mm256_set1_ps(1.0f / kSubpixels));
  const __m256 u = _mm256_sub_ps(one, t), tu = _mm256_mul_ps(_mm256_mul_ps(t, u), _mm256_set1_ps(-0.75f));
  weight[0] = _mm256_mul_ps(tu, u);
  weight[3] = _mm256_mul_ps(tu, t);
  const __m256 slope = _mm256_sub_ps(_mm256_mul_ps(_mm256_set1_ps(1.25f), t), _mm256_set1_ps(2.25f));
  weight[1] = _mm256_add_ps(_mm256_mul_ps(slope, _mm256_mul_ps(t, t)), one);
  weight[2] = _mm256_sub_ps(_mm256_sub_ps(_mm256_sub_ps(one, weight[0]), weight[1]), weight[3]);
}

/// 16-bit planes, bicubic: each four pixels take their taps from 8 samples of a row, weighed less half their range.
inline void bicubic_block(const WarpJob<uint16_t>& job, const RowMap& m, int k, int y, int x, int count) {
  typedef int32_t Integers __attribute__((vector_size(32)));
  constexpr int window = kWindow<uint16_t>;
  const int x0 = m.x0[k] >> kSubpixelBits, y0 = m.y0[k] >> kSubpixelBits;
  const int width = job.source_width, height = job.source_height;
  const __m256i center = _mm256_set1_epi32(1 << 29);
  for (int i = 0; i < count; i += 8) {
    const Sixteen at = sixteen_positions(m, k, i & 16);
    const __m128i x8 = (i & 8) == 0 ? _mm256_castsi256_si128(at.x) : _mm256_extracti128_si256(at.x, 1);
    const __m128i y8 = (i & 8) == 0 ? _mm256_castsi256_si128(at.y) : _mm256_extracti128_si256(at.y, 1);
    const Integers xs = (Integers)_mm256_cvtepi16_epi32(x8), ys = (Integers)_mm256_cvtepi16_epi32(y8);
    const int begin0 = x0 - 1 + (static_cast<int16_t>(_mm_extract_epi16(x8, 0)) >> kSubpixelBits);
    const int begin1 = x0 - 1 + (static_cast<int16_t>(_mm_extract_epi16(x8, 4)) >> kSubpixelBits);
    const int base0 = clamped(begin0, 0, width - window), base1 = clamped(begin1, 0, width - window);
    const int from0 = clamped(x0 - 1 - base0, -8192, 8192), from1 = clamped(x0 - 1 - base1, -8192, 8192);
    const Integers first = (xs >> kSubpixelBits) + Integers{from0, from0, from0, from0, from1, from1, from1, from1};
    __m256i column[4];
    for (int c = 0; c < 4; ++c) column[c] = (__m256i)(first + c);
    if (base0 != begin0 || base1 != begin1) {
      const int last0 = width - 1 - base0, last1 = width - 1 - base1;
      const __m256i zero = _mm256_setzero_si256();
      const __m256i last = _mm256_setr_epi32(last0, last0, last0, last0, last1, last1, last1, last1);
      for (auto& c : column) c = _mm256_min_epi32(_mm256_max_epi32(c, zero), last);
    }
    const auto taken_by = [](__m256i one, __m256i other) __attribute__((always_inline)) {  // by both of their bytes
      return (__m256i)((Integers)one * 0x0202 + (Integers)other * 0x02020000 + 0x01000100);
    };
    const __m256i left = taken_by(column[0], column[1]), right = taken_by(column[2], column[3]);
    __m256 across[4], down[4];
    bicubic_weights((__m256i)(xs & (kSubpixels - 1)), across);
    bicubic_weights((__m256i)(ys & (kSubpixels - 1)), down);
    __m256i q[4];
    for (int c = 0; c < 4; ++c) q[c] = _mm256_cvtps_epi32(_mm256_mul_ps(across[c], _mm256_set1_ps(16384)));
    q[1] = _mm256_sub_epi32(_mm256_sub_epi32(_mm256_sub_epi32(_mm256_set1_epi32(16384), q[0]), q[2]), q[3]);
    const __m256i weight_left = _mm256_blend_epi16(q[0], _mm256_slli_epi32(q[1], 16), 0xAA);
    const __m256i weight_right = _mm256_blend_epi16(q[2], _mm256_slli_epi32(q[3], 16), 0xAA);
    const __m256i rows = (__m256i)(ys >> kSubpixelBits);
    const int top = least16(y8) >> kSubpixelBits, bottom = most16(y8) >> kSubpixelBits;
    for (int p = 0; p < job.planes; ++p) {
      const uint16_t* source = job.source[p];
      const ptrdiff_t stride = job.source_stride[p];
      prefetch(source + clamped(y0 + kRowsAhead, 0, height - 1) * stride + base0);
      const auto row = [&](int r) __attribute__((always_inline)) {
        const uint16_t* from = source + clamped(y0 + r, 0, height - 1) * stride;
        const __m256i v = _mm256_xor_si256(load256(from + base0, from + base1), spread(-32768));
        return _mm256_add_epi32(_mm256_madd_epi16(_mm256_shuffle_epi8(v, left), weight_left),
                                _mm256_madd_epi16(_mm256_shuffle_epi8(v, right), weight_right));
      };
      __m256i moving[4], taken[4];
      for (int r = 0; r < 4; ++r) taken[r] = moving[r] = row(top - 1 + r);
      for (int r = top + 1; r <= bottom; ++r) {
        moving[0] = moving[1], moving[1] = moving[2], moving[2] = moving[3], moving[3] = row(r + 2);
        const __m256i here = _mm256_cmpeq_epi32(rows, _mm256_set1_epi32(r));
        for (int c = 0; c < 4; ++c) taken[c] = _mm256_blendv_epi8(taken[c], moving[c], here);
      }
      __m256 part[4];
      for (int c = 0; c < 4; ++c) {
        part[c] = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(taken[c], center)), down[c]);
      }
      const __m256 total = _mm256_add_ps(_mm256_add_ps(part[0], part[1]), _mm256_add_ps(part[2], part[3]));
      const __m256i whole = _mm256_cvtps_epi32(_mm256_mul_ps(total, _mm256_set1_ps(1.0f / 16384)));
      const __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
      put(_mm_min_epu16(packed, spread8(job.most)), smaller(8, count - i),
          job.target[p] + y * job.target_stride[p] + x + i);
    }
  }
}

/// Weights of the four taps of bicubic for bytes: see the plain function.
inline void byte_weights(__m256i f, __m256i* weight) {
  const auto twice = [](__m256i v) __attribute__((always_inline)) { return _mm256_add_epi16(v, v); };
  const __m256i t = _mm256_slli_epi16(f, 5), u = _mm256_sub_epi16(spread(16384), t);
  const __m256i tu = twice(_mm256_mulhrs_epi16(_mm256_mulhrs_epi16(twice(t), u), spread(-24576)));
  const __m256i slope =
      _mm256_sub_epi16(_mm256_add_epi16(_mm256_srli_epi16(t, 1), _mm256_srli_epi16(t, 3)), spread(18432));
  const __m256i bend = twice(_mm256_mulhrs_epi16(slope, twice(_mm256_mulhrs_epi16(twice(t), t))));
  weight[0] = _mm256_mulhrs_epi16(tu, u);
  weight[3] = _mm256_mulhrs_epi16(tu, t);
  weight[1] = _mm256_add_epi16(bend, spread(16384));
  weight[2] = _mm256_sub_epi16(_mm256_sub_epi16(_mm256_setzero_si256(), weight[0]), _mm256_add_epi16(bend, weight[3]));
}

/// Byte planes, bicubic: each group of eight pixels takes its taps from 16 bytes of a row.
inline void bicubic_block(const WarpJob<uint8_t>& job, const RowMap& m, int k, int y, int x, int count) {
  const int x0 = m.x0[k] >> kSubpixelBits, y0 = m.y0[k] >> kSubpixelBits;
  const int width = job.source_width, height = job.source_height;
  const __m256i sign = _mm256_set1_epi8(-128);
  for (int i = 0; i < count; i += 16) {
    const Sixteen at = sixteen_positions(m, k, i);
    __m256i ix = _mm256_srai_epi16(at.x, kSubpixelBits);
    const __m256i iy = _mm256_srai_epi16(at.y, kSubpixelBits);
    const int begin0 = x0 - 1 + static_cast<int16_t>(_mm256_extract_epi16(ix, 0));
    const int begin1 = x0 - 1 + static_cast<int16_t>(_mm256_extract_epi16(ix, 8));
    const int base0 = clamped(begin0, 0, width - kWindow<uint8_t>),
              base1 = clamped(begin1, 0, width - kWindow<uint8_t>);
    const __m128i low = _mm256_castsi256_si128(iy), high = _mm256_extracti128_si256(iy, 1);
    const int top = least16(_mm_min_epi16(low, high)), bottom = most16(_mm_max_epi16(low, high));
    ix = _mm256_add_epi16(ix, two_of(clamped(x0 - 1 - base0, -8192, 8192), clamped(x0 - 1 - base1, -8192, 8192)));
    __m256i index[4];
    for (int c = 0; c < 4; ++c) index[c] = _mm256_add_epi16(ix, spread(c));
    if (base0 != begin0 || base1 != begin1) {
      const __m256i last = two_of(smaller(width - 1 - base0, 4096), smaller(width - 1 - base1, 4096));
      for (auto& c : index) c = _mm256_min_epi16(_mm256_max_epi16(c, _mm256_setzero_si256()), last);
    }
    for (auto& c : index) c = _mm256_or_si256(_mm256_slli_epi16(c, 8), spread(0x80));  // the low byte is zero
    __m256i across[4], down[4];
    byte_weights(_mm256_and_si256(at.x, spread(kSubpixels - 1)), across);
    byte_weights(_mm256_and_si256(at.y, spread(kSubpixels - 1)), down);
    for (int p = 0; p < job.planes; ++p) {
      const uint8_t* source = job.source[p];
      const ptrdiff_t stride = job.source_stride[p];
      prefetch(source + clamped(y0 + kRowsAhead, 0, height - 1) * stride + base0);
      const auto row = [&](int r) __attribute__((always_inline)) {
        const uint8_t* from = source + clamped(y0 + r, 0, height - 1) * stride;
        const __m256i v = _mm256_xor_si256(load256(from + base0, from + base1), sign);
        __m256i part[4];
        for (int c = 0; c < 4; ++c) part[c] = _mm256_mulhrs_epi16(_mm256_shuffle_epi8(v, index[c]), across[c]);
        return _mm256_add_epi16(_mm256_add_epi16(part[0], part[1]), _mm256_add_epi16(part[2], part[3]));
      };
      __m256i moving[4], taken[4];
      for (int r = 0; r < 4; ++r) taken[r] = moving[r] = row(top - 1 + r);
      for (int r = top + 1; r <= bottom; ++r) {
        moving[0] = moving[1], moving[1] = moving[2], moving[2] = moving[3], moving[3] = row(r + 2);
        const __m256i here = _mm256_cmpeq_epi16(iy, spread(r));
        for (int c = 0; c < 4; ++c) taken[c] = _mm256_blendv_epi8(taken[c], moving[c], here);
      }
      __m256i total = spread(32);
      for (int r = 0; r < 4; ++r) total = _mm256_add_epi16(total, _mm256_mulhrs_epi16(taken[r], down[r]));
      total = _mm256_srai_epi16(total, 6);
      const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(total), _mm256_extracti128_si256(total, 1));
      put(_mm_xor_si128(bytes, _mm256_castsi256_si128(sign)), smaller(16, count - i),
          job.target[p] + y * job.target_stride[p] + x + i);
    }
  }
}

/// Eight samples each of two rows as signed words. Those of 16 bits are less half their range.
inline __m256i two_rows(const uint8_t* a, const uint8_t* b) {
  return _mm256_cvtepu8_epi16(_mm_unpacklo_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(a)),
                                                 _mm_loadl_epi64(reinterpret_cast<const __m128i*>(b))));
}
inline __m256i two_rows(const uint16_t* a, const uint16_t* b) {
  return _mm256_xor_si256(load256(a, b), spread(-32768));
}

/// Eight rows of eight taps, weighed across and down but not yet added.
template <class Sample>
inline __m256 lanczos_rows(const Sample* p, ptrdiff_t stride, const int16_t* across, const float* down) {
  const __m256i weights = _mm256_broadcastsi128_si256(load128(across));
  __m256i product[4];
  for (int r = 0; r < 4; ++r) {
    product[r] = _mm256_madd_epi16(two_rows(p + r * stride, p + (r + 4) * stride), weights);
  }
  __m256i sums =
      _mm256_hadd_epi32(_mm256_hadd_epi32(product[0], product[1]), _mm256_hadd_epi32(product[2], product[3]));
  if constexpr (sizeof(Sample) == 2) sums = _mm256_add_epi32(sums, _mm256_set1_epi32(1 << 29));
  return _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_loadu_ps(down));
}

/// Lanczos under any map: each pixel reads eight samples at once of its own rows.
template <class Sample>
inline void lanczos_block(const WarpJob<Sample>& job, const RowMap& m, int k, int y, int x, int count) {
  alignas(64) int32_t sx[kBlock], sy[kBlock];
  block_positions(job, m, k, y, x, sx, sy);
  const int last_x = job.source_width - 8, last_y = job.source_height - 8;
  for (int p = 0; p < job.planes; ++p) {
    const Sample* source = job.source[p];
    const ptrdiff_t stride = job.source_stride[p];
    Sample* target = job.target[p] + y * job.target_stride[p] + x;
    for (int i = 0; i < count; i += 4) {
      __m256 rows[4];
      bool inside = true;
      for (int j = 0; j < 4; ++j) {
        const int ix = (sx[i + j] >> kSubpixelBits) - 3, iy = (sy[i + j] >> kSubpixelBits) - 3;
        inside = inside && ix >= 0 && iy >= 0 && ix <= last_x && iy <= last_y;
        if (!inside) break;
        rows[j] = lanczos_rows(source + iy * stride + ix, stride, job.taps->across[sx[i + j] & (kSubpixels - 1)],
                               job.taps->down[sy[i + j] & (kSubpixels - 1)]);
      }
      const int n = smaller(4, count - i);
      if (!inside) {
        for (int j = 0; j < n; ++j) target[i + j] = sampled(job, p, sx[i + j], sy[i + j]);
        continue;
      }
      const int ahead = clamped((sy[i] >> kSubpixelBits) + kRowsAhead, 0, job.source_height - 1);
      prefetch(source + ahead * stride + (sx[i] >> kSubpixelBits));
      const __m256 halves = _mm256_hadd_ps(_mm256_hadd_ps(rows[0], rows[1]), _mm256_hadd_ps(rows[2], rows[3]));
      const __m128 total = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
      const __m128i whole = _mm_cvtps_epi32(_mm_mul_ps(total, _mm_set1_ps(1.0f / 16384)));
      const __m128i words = _mm_min_epu16(_mm_packus_epi32(whole, whole), spread8(job.most));
      if constexpr (sizeof(Sample) == 1) {
        put(_mm_cvtsi128_si32(_mm_packus_epi16(words, words)), n, target + i);
      } else {
        put(_mm_cvtsi128_si64(words), n, target + i);
      }
    }
  }
}
#endif

template <class Sample>
inline void warp_block(const WarpJob<Sample>& job, const RowMap& m, int k, int y, int x, int count) {
#if LEGATO_REGION_WIDTH >= 4
  if (job.taps != nullptr && job.taps->count == 8) return lanczos_block(job, m, k, y, x, count);
  if (m.sound[k] && job.source_width >= kWindow<Sample>) {
    if (job.taps == nullptr) return bilinear_block(job, m, k, y, x, count);
    if (m.dx[k] <= kSteepestTaps<Sample>) return bicubic_block(job, m, k, y, x, count);
  }
#endif
  plain_block(job, m, k, y, x, count);
}

/// Rows [begin, end) of the output.
template <class Sample>
inline void warp_rows(const WarpJob<Sample>& job, int begin, int end) {
  RowMap m;
  const int blocks = (job.target_width + kBlock - 1) / kBlock;
  for (int y = begin; y < end; ++y) {
    for (int first = 0; first < blocks; first += kSegment) {
      const int count = smaller(kSegment, blocks - first);
      map_row(job.map, y, first, count, m);
      for (int k = 0; k < count; ++k) {
        const int x = (first + k) * kBlock;
        warp_block(job, m, k, y, x, smaller(kBlock, job.target_width - x));
      }
    }
  }
  note_isa(LEGATO_REGION_ISA);
}

inline void split_row(const uint8_t* __restrict packed, int count, uint8_t* __restrict a, uint8_t* __restrict b,
                      uint8_t* __restrict c) {
  for (int i = 0; i < count; ++i) {
    a[i] = packed[3 * i];
    b[i] = packed[3 * i + 1];
    c[i] = packed[3 * i + 2];
  }
}
inline void merge_row(const uint8_t* __restrict a, const uint8_t* __restrict b, const uint8_t* __restrict c, int count,
                      uint8_t* __restrict packed) {
  for (int i = 0; i < count; ++i) {
    packed[3 * i] = a[i];
    packed[3 * i + 1] = b[i];
    packed[3 * i + 2] = c[i];
  }
}

}  // namespace legato::LEGATO_REGION
