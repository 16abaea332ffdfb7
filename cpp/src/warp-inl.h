// Planar warp, compiled once per ISA region by warp.cpp. The plain code is the definition; the others give its bits.
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

/// Positions of `count` blocks of output row y, beginning with block `first`. `bias` is added to every x.
inline void map_row(const double* map, int y, int first, int count, int bias, RowMap& out) {
  constexpr double round = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer, ties to even
  alignas(64) double fx[kSegment + 8], fy[kSegment + 8], depth[kSegment + 8];
  const double a = map[0], b = map[1] * y + map[2], d = map[3], e = map[4] * y + map[5];
  const double g = map[6], w = map[7] * y + map[8];
  for (int k = 0; k < kSegment + 8; ++k) {  // node k is the start of block first + k - 1
    const double x = static_cast<double>((first + k - 1) * kBlock);
    depth[k] = g * x + w;
    const double scale = kSubpixels / depth[k];
    fx[k] = (a * x + b) * scale;
    fy[k] = (d * x + e) * scale;
    if (k >= count + 3 && k % 8 == 7) break;
  }
  const double near = 4.0 * kBlock * (g < 0 ? -g : g);
  for (int k = 0; k < count; ++k) {
    const double x0 = fx[k + 1], x1 = fx[k + 2], y0 = fy[k + 1], y1 = fy[k + 2];
    const double sx = ((x1 - x0) * (1.0 / (kBlock * kSubpixels)) - 1.0) * 32768.0;
    const double sy = (y1 - y0) * (32768.0 / (kBlock * kSubpixels));
    const double qx = 0.5 * ((fx[k + 3] - x1) - (x0 - fx[k])), qy = 0.5 * ((fy[k + 3] - y1) - (y0 - fy[k]));
    const double cx = (fx[k + 3] - fx[k]) - 3.0 * (x1 - x0), cy = (fy[k + 3] - fy[k]) - 3.0 * (y1 - y0);
    const double front = depth[k + 1], back = depth[k + 2];
    const bool far = (front >= near && back >= near && front > 0.0) || (-front >= near && -back >= near && front < 0.0);
    const bool sound = far & (__builtin_fabs(sx) < kMostSlope) & (__builtin_fabs(sy) < kMostRise) &
                       (__builtin_fabs(qx) < kMostSecondDifference) & (__builtin_fabs(qy) < kMostSecondDifference) &
                       (__builtin_fabs(cx) < kMostThirdDifference) & (__builtin_fabs(cy) < kMostThirdDifference) &
                       (__builtin_fabs(x0) < 1e8) & (__builtin_fabs(y0) < 1e8);
    const auto whole = [sound](double v) { return static_cast<int32_t>((sound ? v : 0.0) + round - round); };
    out.sound[k] = sound;
    out.x0[k] = whole(x0) + bias;
    out.y0[k] = whole(y0);
    out.dx[k] = whole(sx);
    out.dy[k] = whole(sy);
    out.qx[k] = whole(qx);
    out.qy[k] = whole(qy);
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
  const int f = (x >> 2) & 127, fy = (y & (kSubpixels - 1)) << 6;  // x carries the bias of 2 that rounds it to 1/128
  const int ix = x >> kSubpixelBits, iy = y >> kSubpixelBits;
  const uint8_t* upper = source + clamped(iy, 0, height - 1) * stride;
  const uint8_t* lower = source + clamped(iy + 1, 0, height - 1) * stride;
  const int left = clamped(ix, 0, width - 1), right = clamped(ix + 1, 0, width - 1);
  const int t = upper[left] * (128 - f) + upper[right] * f - 16384;
  const int b = lower[left] * (128 - f) + lower[right] * f - 16384;
  return static_cast<uint8_t>(((t + high_product(b - t, fy) + 64) >> 7) + 128);
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

/// Four or eight taps each way: integers across, float down, in this order on every instruction set.
template <int count, class Sample>
inline Sample tapped(const Sample* source, ptrdiff_t stride, int width, int height, int x, int y, int most,
                     const Taps& taps) {
  const int16_t* across = taps.across[x & (kSubpixels - 1)];
  const float* down = taps.down[y & (kSubpixels - 1)];
  const int ix = (x >> kSubpixelBits) - (count / 2 - 1), iy = (y >> kSubpixelBits) - (count / 2 - 1);
  float total = 0;
  if (ix >= 0 && iy >= 0 && ix + count <= width && iy + count <= height) {
    const Sample* row = source + iy * stride + ix;
    for (int r = 0; r < count; ++r, row += stride) {
      int sum = 0;
      for (int c = 0; c < count; ++c) sum += row[c] * across[c];
      const float part = static_cast<float>(sum) * down[r];
      total = r == 0 ? part : total + part;
    }
  } else {
    int column[count];
    for (int c = 0; c < count; ++c) column[c] = clamped(ix + c, 0, width - 1);
    for (int r = 0; r < count; ++r) {
      const Sample* row = source + clamped(iy + r, 0, height - 1) * stride;
      int sum = 0;
      for (int c = 0; c < count; ++c) sum += row[column[c]] * across[c];
      const float part = static_cast<float>(sum) * down[r];
      total = r == 0 ? part : total + part;
    }
  }
  return static_cast<Sample>(clamped(static_cast<int>(__builtin_lrintf(total * (1.0f / 16384.0f))), 0, most));
}

template <class Sample>
constexpr int bias_of(const Taps* taps) {
  return sizeof(Sample) == 1 && taps == nullptr ? 2 : 0;
}

/// One pixel of plane p at position (x, y) in 1/512 px.
template <class Sample>
inline Sample sampled(const WarpJob<Sample>& job, int p, int x, int y) {
  const Sample* source = job.source[p];
  const ptrdiff_t stride = job.source_stride[p];
  const int width = job.source_width, height = job.source_height;
  if (job.taps == nullptr) return bilinear(source, stride, width, height, x, y, job.most);
  if (job.taps->count == 4) return tapped<4>(source, stride, width, height, x, y, job.most, *job.taps);
  return tapped<8>(source, stride, width, height, x, y, job.most, *job.taps);
}

/// A block by the definition; also what every special case falls back on.
template <class Sample>
inline void plain_block(const WarpJob<Sample>& job, const RowMap& m, int k, int y, int x, int count) {
  for (int i = 0; i < count; ++i) {
    int sx, sy;
    if (m.sound[k]) {
      position_in_block(m, k, i, sx, sy);
    } else {
      position_of(job.map, x + i, y, job.source_width, job.source_height, sx, sy);
      sx += bias_of<Sample>(job.taps);
    }
    for (int p = 0; p < job.planes; ++p) job.target[p][y * job.target_stride[p] + x + i] = sampled(job, p, sx, sy);
  }
}

#if LEGATO_REGION_WIDTH >= 4

inline __m256i load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline __m128i load128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline __m256i spread(int v) { return _mm256_set1_epi16(static_cast<short>(v)); }
inline __m256i two_of(int low, int high) {
  return _mm256_set_m128i(_mm_set1_epi16(static_cast<short>(high)), _mm_set1_epi16(static_cast<short>(low)));
}
inline int least16(__m128i v) {
  const __m128i sign = _mm_set1_epi16(static_cast<short>(0x8000));
  return static_cast<int16_t>(_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_xor_si128(v, sign))) ^ 0x8000);
}
inline int most16(__m128i v) { return ~least16(_mm_xor_si128(v, _mm_set1_epi16(-1))); }

/// Sixteen pixels of a bilinear block, still in 1/128 levels about 128: each group of eight takes its neighbors from 16
/// bytes of a row.
inline __m256i bilinear_sixteen(const RowMap& m, int k, int half, const uint8_t* source, ptrdiff_t stride, int width,
                                int height) {
  const int x0 = m.x0[k] >> kSubpixelBits, y0 = m.y0[k] >> kSubpixelBits, mask = kSubpixels - 1;
  const __m256i lane = load256(kBlockTables.lane + 16 * half), quad = load256(kBlockTables.quad + 16 * half);
  const __m256i x = _mm256_add_epi16(
      _mm256_add_epi16(lane, spread(m.x0[k] & mask)),
      _mm256_add_epi16(_mm256_mulhrs_epi16(lane, spread(m.dx[k])), _mm256_mulhrs_epi16(quad, spread(m.qx[k]))));
  const __m256i y = _mm256_add_epi16(
      spread(m.y0[k] & mask),
      _mm256_add_epi16(_mm256_mulhrs_epi16(lane, spread(m.dy[k])), _mm256_mulhrs_epi16(quad, spread(m.qy[k]))));
  __m256i ix = _mm256_srai_epi16(x, kSubpixelBits);
  const __m256i iy = _mm256_srai_epi16(y, kSubpixelBits);
  const int begin0 = x0 + static_cast<int16_t>(_mm256_extract_epi16(ix, 0));
  const int begin1 = x0 + static_cast<int16_t>(_mm256_extract_epi16(ix, 8));
  const int base0 = clamped(begin0, 0, width - 16), base1 = clamped(begin1, 0, width - 16);
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
  const __m256i f = _mm256_and_si256(_mm256_srli_epi16(x, 2), spread(127));
  const __m256i weight = _mm256_or_si256(_mm256_sub_epi16(spread(128), f), _mm256_slli_epi16(f, 8));
  const __m256i fy = _mm256_slli_epi16(_mm256_and_si256(y, spread(mask)), 6);
  const __m256i sign = _mm256_set1_epi8(static_cast<char>(0x80));
  _mm_prefetch(reinterpret_cast<const char*>(source + clamped(y0 + kRowsAhead, 0, height - 1) * stride + base0),
               _MM_HINT_T0);
  const auto row = [&](int r) __attribute__((always_inline)) {
    const uint8_t* at = source + clamped(y0 + r, 0, height - 1) * stride;
    const __m256i v = _mm256_inserti128_si256(_mm256_castsi128_si256(load128(at + base0)), load128(at + base1), 1);
    return _mm256_maddubs_epi16(weight, _mm256_xor_si256(_mm256_shuffle_epi8(v, index), sign));
  };
  __m256i before = row(top), now = row(top + 1), upper = before, lower = now;
  for (int r = top + 1; r <= bottom; ++r) {
    before = now;
    now = row(r + 1);
    const __m256i here = _mm256_cmpeq_epi16(iy, spread(r));
    upper = _mm256_blendv_epi8(upper, before, here);
    lower = _mm256_blendv_epi8(lower, now, here);
  }
  const __m256i v = _mm256_add_epi16(upper, _mm256_mulhrs_epi16(_mm256_sub_epi16(lower, upper), fy));
  return _mm256_srai_epi16(_mm256_add_epi16(v, spread(64)), 7);
}

inline void bilinear_block(const WarpJob<uint8_t>& job, const RowMap& m, int k, int y, int x, int count) {
  for (int p = 0; p < job.planes; ++p) {
    const uint8_t* source = job.source[p];
    const ptrdiff_t stride = job.source_stride[p];
    const __m256i a = bilinear_sixteen(m, k, 0, source, stride, job.source_width, job.source_height);
    const __m256i b = bilinear_sixteen(m, k, 1, source, stride, job.source_width, job.source_height);
    const __m256i packed = _mm256_xor_si256(_mm256_permute4x64_epi64(_mm256_packs_epi16(a, b), 0xD8),
                                            _mm256_set1_epi8(static_cast<char>(0x80)));
    uint8_t* target = job.target[p] + y * job.target_stride[p] + x;
    if (count == kBlock) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), packed);
    } else {
      alignas(32) uint8_t all[kBlock];
      _mm256_store_si256(reinterpret_cast<__m256i*>(all), packed);
      std::memcpy(target, all, static_cast<std::size_t>(count));
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

inline void bicubic_block(const WarpJob<uint8_t>& job, const RowMap& m, int k, int y, int x, int count) {
  const int x0 = m.x0[k] >> kSubpixelBits, y0 = m.y0[k] >> kSubpixelBits, mask = kSubpixels - 1;
  const int width = job.source_width, height = job.source_height;
  for (int group = 0; 8 * group < count; ++group) {
    const __m128i lane = load128(kBlockTables.lane + 8 * group), quad = load128(kBlockTables.quad + 8 * group);
    const auto spread8 = [](int v) { return _mm_set1_epi16(static_cast<short>(v)); };
    const __m128i xs = _mm_add_epi16(
        _mm_add_epi16(lane, spread8(m.x0[k] & mask)),
        _mm_add_epi16(_mm_mulhrs_epi16(lane, spread8(m.dx[k])), _mm_mulhrs_epi16(quad, spread8(m.qx[k]))));
    const __m128i ys = _mm_add_epi16(spread8(m.y0[k] & mask), _mm_add_epi16(_mm_mulhrs_epi16(lane, spread8(m.dy[k])),
                                                                            _mm_mulhrs_epi16(quad, spread8(m.qy[k]))));
    const __m128i rows = _mm_srai_epi16(ys, kSubpixelBits);
    const int top = least16(rows), bottom = most16(rows);
    const int begin = x0 - 1 + (static_cast<int16_t>(_mm_extract_epi16(xs, 0)) >> kSubpixelBits);
    const int base = clamped(begin, 0, width - 16);
    const __m256i xw = _mm256_cvtepi16_epi32(xs), yw = _mm256_cvtepi16_epi32(ys), low = _mm256_set1_epi32(mask);
    const __m256i iy = _mm256_srai_epi32(yw, kSubpixelBits);
    __m256i ix =
        _mm256_add_epi32(_mm256_srai_epi32(xw, kSubpixelBits), _mm256_set1_epi32(clamped(x0 - 1 - base, -8192, 8192)));
    __m256i column[4];
    for (int c = 0; c < 4; ++c) {
      column[c] = ix;
      ix = _mm256_add_epi32(ix, _mm256_set1_epi32(1));
    }
    if (base != begin) {
      const __m256i zero = _mm256_setzero_si256(), last = _mm256_set1_epi32(width - 1 - base);
      for (auto& c : column) c = _mm256_min_epi32(_mm256_max_epi32(c, zero), last);
    }
    const __m256i none = _mm256_set1_epi32(static_cast<int>(0x80008000u));  // pshufb: a zero byte
    const __m256i left = _mm256_or_si256(_mm256_or_si256(column[0], _mm256_slli_epi32(column[1], 16)), none);
    const __m256i right = _mm256_or_si256(_mm256_or_si256(column[2], _mm256_slli_epi32(column[3], 16)), none);
    __m256 across[4], down[4];
    bicubic_weights(_mm256_and_si256(xw, low), across);
    bicubic_weights(_mm256_and_si256(yw, low), down);
    __m256i q[4];
    for (int c = 0; c < 4; ++c) q[c] = _mm256_cvtps_epi32(_mm256_mul_ps(across[c], _mm256_set1_ps(16384)));
    q[1] = _mm256_sub_epi32(_mm256_sub_epi32(_mm256_sub_epi32(_mm256_set1_epi32(16384), q[0]), q[2]), q[3]);
    const __m256i weight_left = _mm256_blend_epi16(q[0], _mm256_slli_epi32(q[1], 16), 0xAA);
    const __m256i weight_right = _mm256_blend_epi16(q[2], _mm256_slli_epi32(q[3], 16), 0xAA);
    for (int p = 0; p < job.planes; ++p) {
      const uint8_t* source = job.source[p] + base;
      const ptrdiff_t stride = job.source_stride[p];
      _mm_prefetch(reinterpret_cast<const char*>(source + clamped(y0 + kRowsAhead, 0, height - 1) * stride),
                   _MM_HINT_T0);
      const auto row = [&](int r) __attribute__((always_inline)) {
        const __m256i v = _mm256_broadcastsi128_si256(load128(source + clamped(y0 + r, 0, height - 1) * stride));
        return _mm256_add_epi32(_mm256_madd_epi16(_mm256_shuffle_epi8(v, left), weight_left),
                                _mm256_madd_epi16(_mm256_shuffle_epi8(v, right), weight_right));
      };
      __m256i window[4], taken[4];
      for (int r = 0; r < 4; ++r) taken[r] = window[r] = row(top - 1 + r);
      for (int r = top + 1; r <= bottom; ++r) {
        window[0] = window[1], window[1] = window[2], window[2] = window[3], window[3] = row(r + 2);
        const __m256i here = _mm256_cmpeq_epi32(iy, _mm256_set1_epi32(r));
        for (int c = 0; c < 4; ++c) taken[c] = _mm256_blendv_epi8(taken[c], window[c], here);
      }
      __m256 total = _mm256_mul_ps(_mm256_cvtepi32_ps(taken[0]), down[0]);
      for (int c = 1; c < 4; ++c) total = _mm256_add_ps(total, _mm256_mul_ps(_mm256_cvtepi32_ps(taken[c]), down[c]));
      const __m256i whole = _mm256_cvtps_epi32(_mm256_mul_ps(total, _mm256_set1_ps(1.0f / 16384)));
      const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
      alignas(16) uint8_t all[16];
      _mm_store_si128(reinterpret_cast<__m128i*>(all), _mm_packus_epi16(words, words));
      uint8_t* target = job.target[p] + y * job.target_stride[p] + x + 8 * group;
      std::memcpy(target, all, static_cast<std::size_t>(smaller(8, count - 8 * group)));
    }
  }
}
#endif

template <class Sample>
inline void warp_block(const WarpJob<Sample>& job, const RowMap& m, int k, int y, int x, int count) {
#if LEGATO_REGION_WIDTH >= 4
  if constexpr (sizeof(Sample) == 1) {
    if (m.sound[k] && job.source_width >= 16) {
      if (job.taps == nullptr) return bilinear_block(job, m, k, y, x, count);
      if (job.taps->count == 4 && m.dx[k] <= kSteepestTaps) return bicubic_block(job, m, k, y, x, count);
    }
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
      map_row(job.map, y, first, count, bias_of<Sample>(job.taps), m);
      for (int k = 0; k < count; ++k) {
        const int x = (first + k) * kBlock;
        warp_block(job, m, k, y, x, smaller(kBlock, job.target_width - x));
      }
    }
  }
  note_isa(LEGATO_REGION_ISA);
}
inline void warp_rows_u8(const WarpJob<uint8_t>& job, int begin, int end) { warp_rows(job, begin, end); }
inline void warp_rows_u16(const WarpJob<uint16_t>& job, int begin, int end) { warp_rows(job, begin, end); }

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
