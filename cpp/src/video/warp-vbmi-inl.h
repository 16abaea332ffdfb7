// Bilinear and bicubic with AVX-512 VBMI: a permutation takes the neighbors of 32 pixels (16 of 16-bit samples, or by
// four taps) from one 64-byte load of a row.
// The bits are those of plain_block in warp-inl.h. Included once by warp.cpp, inside a target region of its own.
namespace legato::avx512vbmi {

using namespace legato::video;
using avx512::clamped;
using avx512::high_product;
using avx512::larger;
using avx512::smaller;
using std::int16_t;
using std::int32_t;
using std::ptrdiff_t;
using std::uint16_t;
using std::uint8_t;

inline __m512i spread(int v) { return _mm512_set1_epi16(static_cast<short>(v)); }

/// Rows that a block of `n` pixels from pixel `i` may touch, relative to its first: the chord's ends and a margin for
/// the second difference and for rounding.
inline void row_range(const RowMap& m, int k, int i, int n, int& top, int& bottom) {
  const int begin = (m.y0[k] & (kSubpixels - 1)) + high_product(kBlockTables.lane[i], m.dy[k]);
  const int end = (m.y0[k] & (kSubpixels - 1)) + high_product(kBlockTables.lane[i + n - 1], m.dy[k]);
  const int margin = ((m.qy[k] < 0 ? -m.qy[k] : m.qy[k]) >> 3) + 2;
  top = (smaller(begin, end) - margin) >> kSubpixelBits;
  bottom = (larger(begin, end) + margin) >> kSubpixelBits;
}

struct Positions {
  __m512i x, y;  // 1/512 px, from x0 and y0
};

inline Positions positions(const RowMap& m, int k) {
  const __m512i lane = _mm512_load_si512(kBlockTables.lane), quad = _mm512_load_si512(kBlockTables.quad);
  const int mask = kSubpixels - 1;
  return {_mm512_add_epi16(
              _mm512_add_epi16(lane, spread(m.x0[k] & mask)),
              _mm512_add_epi16(_mm512_mulhrs_epi16(lane, spread(m.dx[k])), _mm512_mulhrs_epi16(quad, spread(m.qx[k])))),
          _mm512_add_epi16(spread(m.y0[k] & mask), _mm512_add_epi16(_mm512_mulhrs_epi16(lane, spread(m.dy[k])),
                                                                    _mm512_mulhrs_epi16(quad, spread(m.qy[k]))))};
}

using avx512::prefetch;

/// A mask of the first pixels of 32, as many as there are left.
inline __mmask32 first_of(int left) { return left >= kBlock ? 0xffffffffu : left <= 0 ? 0u : (1u << left) - 1; }
/// Sixteen of the positions in 32 bits.
inline __m512i widened(__m512i v, int half) {
  return _mm512_cvtepi16_epi32(half == 0 ? _mm512_castsi512_si256(v) : _mm512_extracti64x4_epi64(v, 1));
}
/// Position across of pixel 16 of a block, from x0.
inline int first_of_second(const RowMap& m, int k) {
  return (m.x0[k] & (kSubpixels - 1)) + kBlockTables.lane[16] + high_product(kBlockTables.lane[16], m.dx[k]) +
         high_product(kBlockTables.quad[16], m.qx[k]);
}

/// A job in local variables: stores of bytes may change whatever stands in memory.
template <int planes, class Sample>
struct Sheets {
  const Sample* source[planes];
  Sample* target[planes];
  ptrdiff_t stride[planes];
  int width, height, target_width;

  Sheets(const WarpJob<Sample>& job, int y)
      : width(job.source_width), height(job.source_height), target_width(job.target_width) {
    for (int p = 0; p < planes; ++p) {
      source[p] = job.source[p];
      stride[p] = job.source_stride[p];
      target[p] = job.target[p] + y * job.target_stride[p];
    }
  }
  __attribute__((always_inline)) const Sample* row(int p, int y) const {
    return source[p] + clamped(y, 0, height - 1) * stride[p];
  }
};

/// Blocks [begin, end) of the output row y, the first of them at pixel x; all sound. Nothing is called from the loop,
/// so that its constants stay in registers.
template <int planes>
inline void bilinear_run(const WarpJob<uint8_t>& job, const RowMap& m, int begin, int end, int y, int x) {
  const Sheets<planes, uint8_t> sheets(job, y);
  const int width = sheets.width;
  const __m512i one = spread(1), one8 = _mm512_set1_epi8(1);
  const __m512i first = spread(64), slope = spread(64 << 8 | (-64 & 255));  // 64 left, 64 (right - left)
  for (int k = begin; k < end; ++k, x += kBlock) {
    const int x0 = m.x0[k] >> kSubpixelBits, y0 = m.y0[k] >> kSubpixelBits;
    const Positions at = positions(m, k);
    int top, bottom;
    row_range(m, k, 0, kBlock, top, bottom);
    const int base = clamped(x0, 0, width - 64);
    __m512i ix = _mm512_srai_epi16(at.x, kSubpixelBits), next = _mm512_add_epi16(ix, one);
    if (__builtin_expect(base != x0, 0)) {
      const __m512i zero = _mm512_setzero_si512(), last = spread(width - 1 - base);
      const __m512i moved = spread(clamped(x0 - base, -4096, 4096));
      ix = _mm512_min_epi16(_mm512_max_epi16(_mm512_add_epi16(ix, moved), zero), last);
      next = _mm512_min_epi16(_mm512_max_epi16(_mm512_add_epi16(next, moved), zero), last);
    }
    const __m512i index = _mm512_or_si512(ix, _mm512_slli_epi16(next, 8));
    const __m512i fx = _mm512_slli_epi16(_mm512_and_si512(at.x, spread(kSubpixels - 1)), 6);
    const __m512i fy = _mm512_slli_epi16(_mm512_and_si512(at.y, spread(kSubpixels - 1)), 6);
    __m512i row = _mm512_srai_epi16(at.y, kSubpixelBits);
    row = _mm512_mask_mov_epi8(_mm512_slli_epi16(row, 8), 0x5555555555555555ull, row);  // in both bytes of a pixel
    const auto taken = [&](int p, int r) __attribute__((always_inline)) {
      return _mm512_permutexvar_epi8(index, _mm512_loadu_si512(sheets.row(p, y0 + r) + base));
    };
    __m512i upper[planes], lower[planes];
    __m512i r8 = _mm512_set1_epi8(static_cast<char>(top + 1));
    {  // three rows always: most blocks touch no more, and a loop over two or three is mispredicted
      const __mmask64 second = _mm512_cmpeq_epi8_mask(row, r8);
      for (int p = 0; p < planes; ++p) {
        prefetch(sheets.row(p, y0 + kRowsAhead) + base);
        const __m512i a = taken(p, top), b = taken(p, top + 1), c = taken(p, top + 2);
        upper[p] = _mm512_mask_mov_epi8(a, second, b);
        lower[p] = _mm512_mask_mov_epi8(b, second, c);
      }
    }
    if (__builtin_expect(bottom > top + 1, 0)) {
      for (int r = top + 2; r <= bottom; ++r) {
        r8 = _mm512_add_epi8(r8, one8);
        const __mmask64 here = _mm512_cmpeq_epi8_mask(row, r8);
        for (int p = 0; p < planes; ++p) {
          upper[p] = _mm512_mask_mov_epi8(upper[p], here, taken(p, r));
          lower[p] = _mm512_mask_mov_epi8(lower[p], here, taken(p, r + 1));
        }
      }
    }
    for (int p = 0; p < planes; ++p) {
      const auto across = [&](__m512i pair) __attribute__((always_inline)) {
        return _mm512_add_epi16(_mm512_maddubs_epi16(pair, first),
                                _mm512_mulhrs_epi16(_mm512_maddubs_epi16(pair, slope), fx));
      };
      const __m512i t = across(upper[p]), b = across(lower[p]);
      const __m512i v = _mm512_add_epi16(t, _mm512_mulhrs_epi16(_mm512_sub_epi16(b, t), fy));
      const __m512i out = _mm512_srai_epi16(_mm512_add_epi16(v, spread(32)), 6);
      _mm256_mask_storeu_epi8(sheets.target[p] + x, first_of(sheets.target_width - x), _mm512_cvtepi16_epi8(out));
    }
  }
}

/// The same for 16-bit planes: sixteen pixels from 32 samples of a row. They are weighed less half their range.
template <int planes>
inline void bilinear_run(const WarpJob<uint16_t>& job, const RowMap& m, int begin, int end, int y, int x) {
  typedef int32_t Integers __attribute__((vector_size(64)));
  const Sheets<planes, uint16_t> sheets(job, y);
  const int width = sheets.width;
  const __m512i sign = spread(-32768);
  const __m256i most = _mm256_set1_epi16(static_cast<short>(job.most));
  for (int k = begin; k < end; ++k, x += kBlock) {
    const int x0 = m.x0[k] >> kSubpixelBits, y0 = m.y0[k] >> kSubpixelBits;
    const Positions at = positions(m, k);
    for (int half = 0; half < 2; ++half) {
      const Integers xs = (Integers)widened(at.x, half), ys = (Integers)widened(at.y, half);
      int top, bottom;
      row_range(m, k, 16 * half, 16, top, bottom);
      const int start = x0 + ((half == 0 ? m.x0[k] & (kSubpixels - 1) : first_of_second(m, k)) >> kSubpixelBits);
      const int base = clamped(start, 0, width - 32);
      Integers left = (xs >> kSubpixelBits) + clamped(x0 - base, -8192, 8192), right = left + 1;
      if (__builtin_expect(base != start, 0)) {
        const __m512i zero = _mm512_setzero_si512(), last = _mm512_set1_epi32(width - 1 - base);
        left = (Integers)_mm512_min_epi32(_mm512_max_epi32((__m512i)left, zero), last);
        right = (Integers)_mm512_min_epi32(_mm512_max_epi32((__m512i)right, zero), last);
      }
      const __m512i index = (__m512i)(left | right << 16), rows = (__m512i)(ys >> kSubpixelBits);
      const Integers fx = xs & (kSubpixels - 1), fy = ys & (kSubpixels - 1);
      const __m512i weight = (__m512i)((kSubpixels - fx) | fx << 16);
      for (int p = 0; p < planes; ++p) {
        prefetch(sheets.row(p, y0 + kRowsAhead) + base);
        const auto taken = [&](int r) __attribute__((always_inline)) {
          return _mm512_permutexvar_epi16(index, _mm512_loadu_si512(sheets.row(p, y0 + r) + base));
        };
        __m512i now = taken(top + 1), upper = taken(top), lower = now;
        for (int r = top + 1; r <= bottom; ++r) {
          const __m512i after = taken(r + 1);
          const __mmask16 here = _mm512_cmpeq_epi32_mask(rows, _mm512_set1_epi32(r));
          upper = _mm512_mask_mov_epi32(upper, here, now);
          lower = _mm512_mask_mov_epi32(lower, here, after);
          now = after;
        }
        const Integers t = (Integers)_mm512_madd_epi16(_mm512_xor_si512(upper, sign), weight);
        const Integers b = (Integers)_mm512_madd_epi16(_mm512_xor_si512(lower, sign), weight);
        const __m256i words = _mm512_cvtepi32_epi16((__m512i)avx512::between_rows(t, b, fy));
        const __m256i out = _mm256_min_epu16(_mm256_xor_si256(words, _mm512_castsi512_si256(sign)), most);
        const int at_pixel = x + 16 * half;
        _mm256_mask_storeu_epi16(sheets.target[p] + at_pixel,
                                 static_cast<__mmask16>(first_of(sheets.target_width - at_pixel)), out);
      }
    }
  }
}

/// Weights of the four taps of bicubic, by the operations that make the table.
inline void bicubic_weights(__m512i f, __m512* weight) {
  const __m512 one = _mm512_set1_ps(1), t = _mm512_mul_ps(_mm512_cvtepi32_ps(f), _mm512_set1_ps(1.0f / kSubpixels));
  const __m512 u = _mm512_sub_ps(one, t), tu = _mm512_mul_ps(_mm512_mul_ps(t, u), _mm512_set1_ps(-0.75f));
  weight[0] = _mm512_mul_ps(tu, u);
  weight[3] = _mm512_mul_ps(tu, t);
  const __m512 slope = _mm512_sub_ps(_mm512_mul_ps(_mm512_set1_ps(1.25f), t), _mm512_set1_ps(2.25f));
  weight[1] = _mm512_add_ps(_mm512_mul_ps(slope, _mm512_mul_ps(t, t)), one);
  weight[2] = _mm512_sub_ps(_mm512_sub_ps(_mm512_sub_ps(one, weight[0]), weight[1]), weight[3]);
}

/// 16-bit planes: sixteen pixels from 32 samples of a row, weighed less half their range.
template <int planes>
inline void bicubic_run(const WarpJob<uint16_t>& job, const RowMap& m, int begin, int end, int y, int x) {
  constexpr int window = 32;
  const Sheets<planes, uint16_t> sheets(job, y);
  const int width = sheets.width;
  const __m512i most = _mm512_set1_epi32(job.most), center = _mm512_set1_epi32(1 << 29);
  for (int k = begin; k < end; ++k, x += kBlock) {
    const int x0 = m.x0[k] >> kSubpixelBits, y0 = m.y0[k] >> kSubpixelBits;
    const Positions at = positions(m, k);
    for (int half = 0; half < 2; ++half) {
      const int from = x0 - 1 + (half == 0 ? 0 : first_of_second(m, k) >> kSubpixelBits);
      const int base = clamped(from, 0, width - window), shift = clamped(x0 - 1 - base, -4096, 4096);
      const __m512i xs = widened(at.x, half), ys = widened(at.y, half), mask = _mm512_set1_epi32(kSubpixels - 1);
      int top, bottom;
      row_range(m, k, 16 * half, 16, top, bottom);
      const __m512i rows = _mm512_srai_epi32(ys, kSubpixelBits), one = _mm512_set1_epi32(1);
      __m512i ix = _mm512_add_epi32(_mm512_srai_epi32(xs, kSubpixelBits), _mm512_set1_epi32(shift));
      __m512i left, right;
      if (__builtin_expect(base != from, 0)) {
        const __m512i zero = _mm512_setzero_si512(), last = _mm512_set1_epi32(width - 1 - base);
        __m512i column[4];
        for (auto& c : column) {
          c = _mm512_min_epi32(_mm512_max_epi32(ix, zero), last);
          ix = _mm512_add_epi32(ix, one);
        }
        left = _mm512_or_si512(column[0], _mm512_slli_epi32(column[1], 16));
        right = _mm512_or_si512(column[2], _mm512_slli_epi32(column[3], 16));
      } else {
        left = _mm512_add_epi32(_mm512_or_si512(ix, _mm512_slli_epi32(ix, 16)), _mm512_set1_epi32(0x10000));
        right = _mm512_add_epi32(left, _mm512_set1_epi32(0x20002));
      }
      __m512 across[4], down[4];
      bicubic_weights(_mm512_and_si512(xs, mask), across);
      bicubic_weights(_mm512_and_si512(ys, mask), down);
      __m512i q[4];
      for (int c = 0; c < 4; ++c) q[c] = _mm512_cvtps_epi32(_mm512_mul_ps(across[c], _mm512_set1_ps(16384)));
      q[1] = _mm512_sub_epi32(_mm512_sub_epi32(_mm512_sub_epi32(_mm512_set1_epi32(16384), q[0]), q[2]), q[3]);
      constexpr __mmask32 even = 0x55555555;
      const __m512i weight_left = _mm512_mask_mov_epi16(_mm512_slli_epi32(q[1], 16), even, q[0]);
      const __m512i weight_right = _mm512_mask_mov_epi16(_mm512_slli_epi32(q[3], 16), even, q[2]);
      for (int p = 0; p < planes; ++p) {
        prefetch(sheets.row(p, y0 + kRowsAhead) + base);
        const auto row = [&](int r) __attribute__((always_inline)) {
          const __m512i v = _mm512_xor_si512(_mm512_loadu_si512(sheets.row(p, y0 + r) + base), spread(-32768));
          return _mm512_add_epi32(_mm512_madd_epi16(_mm512_permutexvar_epi16(left, v), weight_left),
                                  _mm512_madd_epi16(_mm512_permutexvar_epi16(right, v), weight_right));
        };
        __m512i moving[4], taken[4];
        for (int r = 0; r < 4; ++r) taken[r] = moving[r] = row(top - 1 + r);
        for (int r = top + 1; r <= bottom; ++r) {
          moving[0] = moving[1], moving[1] = moving[2], moving[2] = moving[3], moving[3] = row(r + 2);
          const __mmask16 here = _mm512_cmpeq_epi32_mask(rows, _mm512_set1_epi32(r));
          for (int c = 0; c < 4; ++c) taken[c] = _mm512_mask_mov_epi32(taken[c], here, moving[c]);
        }
        __m512 part[4];
        for (int c = 0; c < 4; ++c) {
          part[c] = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(taken[c], center)), down[c]);
        }
        const __m512 total = _mm512_add_ps(_mm512_add_ps(part[0], part[1]), _mm512_add_ps(part[2], part[3]));
        __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(total, _mm512_set1_ps(1.0f / 16384)));
        whole = _mm512_min_epi32(_mm512_max_epi32(whole, _mm512_setzero_si512()), most);
        const int at_pixel = x + 16 * half;
        const auto store = static_cast<__mmask16>(first_of(sheets.target_width - at_pixel));
        _mm256_mask_storeu_epi16(sheets.target[p] + at_pixel, store, _mm512_cvtepi32_epi16(whole));
      }
    }
  }
}

/// Weights of the four taps of bicubic for bytes: see the plain function in warp-inl.h.
inline void byte_weights(__m512i f, __m512i* weight) {
  const auto twice = [](__m512i v) __attribute__((always_inline)) { return _mm512_add_epi16(v, v); };
  const __m512i t = _mm512_slli_epi16(f, 5), u = _mm512_sub_epi16(spread(16384), t);
  const __m512i tu = twice(_mm512_mulhrs_epi16(_mm512_mulhrs_epi16(twice(t), u), spread(-24576)));
  const __m512i slope =
      _mm512_sub_epi16(_mm512_add_epi16(_mm512_srli_epi16(t, 1), _mm512_srli_epi16(t, 3)), spread(18432));
  const __m512i bend = twice(_mm512_mulhrs_epi16(slope, twice(_mm512_mulhrs_epi16(twice(t), t))));
  weight[0] = _mm512_mulhrs_epi16(tu, u);
  weight[3] = _mm512_mulhrs_epi16(tu, t);
  weight[1] = _mm512_add_epi16(bend, spread(16384));
  weight[2] = _mm512_sub_epi16(_mm512_sub_epi16(_mm512_setzero_si512(), weight[0]), _mm512_add_epi16(bend, weight[3]));
}

/// Byte planes: the taps of 32 pixels from 64 bytes of a row.
template <int planes>
inline void bicubic_run(const WarpJob<uint8_t>& job, const RowMap& m, int begin, int end, int y, int x) {
  const Sheets<planes, uint8_t> sheets(job, y);
  const int width = sheets.width;
  const __m512i sign = _mm512_set1_epi8(-128), one = spread(1);
  for (int k = begin; k < end; ++k, x += kBlock) {
    const int x0 = m.x0[k] >> kSubpixelBits, y0 = m.y0[k] >> kSubpixelBits;
    const Positions at = positions(m, k);
    int top, bottom;
    row_range(m, k, 0, kBlock, top, bottom);
    const int base = clamped(x0 - 1, 0, width - 64);
    __m512i ix = _mm512_add_epi16(_mm512_srai_epi16(at.x, kSubpixelBits), spread(clamped(x0 - 1 - base, -4096, 4096)));
    __m512i index[4];  // in the high byte; the low one becomes zero
    if (__builtin_expect(base != x0 - 1, 0)) {
      const __m512i zero = _mm512_setzero_si512(), last = spread(width - 1 - base);
      for (auto& c : index) {
        c = _mm512_slli_epi16(_mm512_min_epi16(_mm512_max_epi16(ix, zero), last), 8);
        ix = _mm512_add_epi16(ix, one);
      }
    } else {
      index[0] = _mm512_slli_epi16(ix, 8);
      for (int c = 1; c < 4; ++c) index[c] = _mm512_add_epi16(index[c - 1], spread(256));
    }
    const __m512i mask = spread(kSubpixels - 1), rows = _mm512_srai_epi16(at.y, kSubpixelBits);
    __m512i across[4], down[4];
    byte_weights(_mm512_and_si512(at.x, mask), across);
    byte_weights(_mm512_and_si512(at.y, mask), down);
    for (int p = 0; p < planes; ++p) {
      prefetch(sheets.row(p, y0 + kRowsAhead) + base);
      const auto row = [&](int r) __attribute__((always_inline)) {
        const __m512i v = _mm512_xor_si512(_mm512_loadu_si512(sheets.row(p, y0 + r) + base), sign);
        __m512i part[4];
        for (int c = 0; c < 4; ++c) {
          part[c] = _mm512_mulhrs_epi16(_mm512_maskz_permutexvar_epi8(0xaaaaaaaaaaaaaaaaull, index[c], v), across[c]);
        }
        return _mm512_add_epi16(_mm512_add_epi16(part[0], part[1]), _mm512_add_epi16(part[2], part[3]));
      };
      __m512i moving[4], taken[4];
      for (int r = 0; r < 4; ++r) taken[r] = moving[r] = row(top - 1 + r);
      for (int r = top + 1; r <= bottom; ++r) {
        moving[0] = moving[1], moving[1] = moving[2], moving[2] = moving[3], moving[3] = row(r + 2);
        const __mmask32 here = _mm512_cmpeq_epi16_mask(rows, spread(r));
        for (int c = 0; c < 4; ++c) taken[c] = _mm512_mask_mov_epi16(taken[c], here, moving[c]);
      }
      __m512i total = spread(32);
      for (int r = 0; r < 4; ++r) total = _mm512_add_epi16(total, _mm512_mulhrs_epi16(taken[r], down[r]));
      const __m256i bytes = _mm512_cvtsepi16_epi8(_mm512_srai_epi16(total, 6));
      _mm256_mask_storeu_epi8(sheets.target[p] + x, first_of(sheets.target_width - x),
                              _mm256_xor_si256(bytes, _mm512_castsi512_si256(sign)));
    }
  }
}

template <int planes, class Sample>
inline void warp_planes(const WarpJob<Sample>& job, int begin, int end) {
  RowMap m;
  const bool tapped = job.taps != nullptr;
  const int blocks = (job.target_width + kBlock - 1) / kBlock;
  for (int y = begin; y < end; ++y) {
    for (int first = 0; first < blocks; first += kSegment) {
      const int count = smaller(kSegment, blocks - first);
      avx512::map_row(job.map, y, first, count, m);
      const auto fits = [&m, tapped](int k) {
        return m.sound[k] != 0 && (sizeof(Sample) == 1 || !tapped || m.dx[k] <= kSteepestDeepTaps);
      };
      for (int k = 0; k < count;) {
        const int x = (first + k) * kBlock;
        if (!fits(k)) {
          avx512::plain_block(job, m, k++, y, x, smaller(kBlock, job.target_width - x));
          continue;
        }
        int end_of_run = k + 1;
        while (end_of_run < count && fits(end_of_run)) ++end_of_run;
        if (tapped) {
          bicubic_run<planes>(job, m, k, end_of_run, y, x);
        } else {
          bilinear_run<planes>(job, m, k, end_of_run, y, x);
        }
        k = end_of_run;
      }
    }
  }
  note_isa(Isa::avx512);
}

/// Rows [begin, end) of planes at least 64 bytes wide, bilinear or bicubic.
template <class Sample>
inline void warp_rows(const WarpJob<Sample>& job, int begin, int end) {
  if (job.planes == 1) return warp_planes<1>(job, begin, end);
  if (job.planes == 2) return warp_planes<2>(job, begin, end);
  warp_planes<3>(job, begin, end);
}

}  // namespace legato::avx512vbmi
