// Byte planes with AVX-512 VBMI: 32 pixels take both neighbors of a row from one 64-byte load by one byte permutation.
// The bits are those of plain_block in warp-inl.h. Included once by warp.cpp, inside a target region of its own.
namespace legato::avx512vbmi {

using namespace legato::video;
using avx512::clamped;
using avx512::high_product;
using avx512::larger;
using avx512::smaller;
using std::int16_t;
using std::ptrdiff_t;
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

inline void prefetch(const uint8_t* p) { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }

template <int planes>
inline void bilinear_block(const WarpJob<uint8_t>& job, const RowMap& m, int k, int y, int x, int count) {
  const int x0 = m.x0[k] >> kSubpixelBits, y0 = m.y0[k] >> kSubpixelBits;
  const int width = job.source_width, height = job.source_height;
  const Positions at = positions(m, k);
  int top, bottom;
  row_range(m, k, 0, kBlock, top, bottom);
  const int base = clamped(x0, 0, width - 64);
  __m512i ix = _mm512_srai_epi16(at.x, kSubpixelBits), next;
  const __m512i one = spread(1);
  if (base != x0) {
    const __m512i zero = _mm512_setzero_si512(), last = spread(width - 1 - base);
    ix = _mm512_add_epi16(ix, spread(clamped(x0 - base, -4096, 4096)));
    next = _mm512_min_epi16(_mm512_max_epi16(_mm512_add_epi16(ix, one), zero), last);
    ix = _mm512_min_epi16(_mm512_max_epi16(ix, zero), last);
  } else {
    next = _mm512_add_epi16(ix, one);
  }
  const __m512i index = _mm512_or_si512(ix, _mm512_slli_epi16(next, 8));
  const __m512i f = _mm512_and_si512(_mm512_srli_epi16(at.x, 2), spread(127));
  const __m512i weight = _mm512_or_si512(_mm512_sub_epi16(spread(128), f), _mm512_slli_epi16(f, 8));
  __m512i row = _mm512_srai_epi16(at.y, kSubpixelBits);
  row = _mm512_mask_mov_epi8(_mm512_slli_epi16(row, 8), 0x5555555555555555ull, row);  // in both bytes of a pixel
  const __m512i fy = _mm512_slli_epi16(_mm512_and_si512(at.y, spread(kSubpixels - 1)), 6);
  const auto source_row = [&](int p, int r) __attribute__((always_inline)) {
    return job.source[p] + clamped(y0 + r, 0, height - 1) * job.source_stride[p] + base;
  };
  __m512i upper[planes], lower[planes];
  const __m512i one8 = _mm512_set1_epi8(1);
  __m512i r8 = _mm512_set1_epi8(static_cast<char>(top));
  {  // three rows always: most blocks touch no more, and a loop over two or three is mispredicted
    const __mmask64 second = _mm512_cmpeq_epi8_mask(row, _mm512_add_epi8(r8, one8));
    for (int p = 0; p < planes; ++p) {
      prefetch(source_row(p, kRowsAhead));
      const __m512i a = _mm512_permutexvar_epi8(index, _mm512_loadu_si512(source_row(p, top)));
      const __m512i b = _mm512_permutexvar_epi8(index, _mm512_loadu_si512(source_row(p, top + 1)));
      const __m512i c = _mm512_permutexvar_epi8(index, _mm512_loadu_si512(source_row(p, top + 2)));
      upper[p] = _mm512_mask_mov_epi8(a, second, b);
      lower[p] = _mm512_mask_mov_epi8(b, second, c);
    }
  }
  if (__builtin_expect(bottom > top + 1, 0)) {
    r8 = _mm512_add_epi8(r8, _mm512_set1_epi8(2));
    for (int r = top + 2; r <= bottom; ++r) {
      const __mmask64 here = _mm512_cmpeq_epi8_mask(row, r8);
      r8 = _mm512_add_epi8(r8, one8);
      for (int p = 0; p < planes; ++p) {
        upper[p] = _mm512_mask_permutexvar_epi8(upper[p], here, index, _mm512_loadu_si512(source_row(p, r)));
        lower[p] = _mm512_mask_permutexvar_epi8(lower[p], here, index, _mm512_loadu_si512(source_row(p, r + 1)));
      }
    }
  }
  const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));
  for (int p = 0; p < planes; ++p) {
    const __m512i t = _mm512_maddubs_epi16(weight, _mm512_xor_si512(upper[p], sign));
    const __m512i b = _mm512_maddubs_epi16(weight, _mm512_xor_si512(lower[p], sign));
    __m512i v = _mm512_add_epi16(t, _mm512_mulhrs_epi16(_mm512_sub_epi16(b, t), fy));
    v = _mm512_srai_epi16(_mm512_add_epi16(v, spread(64)), 7);
    const __m256i out = _mm256_xor_si256(_mm512_cvtepi16_epi8(v), _mm256_set1_epi8(static_cast<char>(0x80)));
    uint8_t* target = job.target[p] + y * job.target_stride[p] + x;
    _mm256_mask_storeu_epi8(target, count == kBlock ? 0xffffffffu : (1u << count) - 1, out);
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

template <int planes>
inline void bicubic_block(const WarpJob<uint8_t>& job, const RowMap& m, int k, int y, int x, int count) {
  const int x0 = m.x0[k] >> kSubpixelBits, y0 = m.y0[k] >> kSubpixelBits;
  const int width = job.source_width, height = job.source_height;
  const Positions at = positions(m, k);
  const int base = clamped(x0 - 1, 0, width - 64), shift = clamped(x0 - 1 - base, -4096, 4096);
  for (int p = 0; p < planes; ++p) {
    prefetch(job.source[p] + clamped(y0 + kRowsAhead, 0, height - 1) * job.source_stride[p] + base);
  }
  for (int half = 0; 16 * half < count; ++half) {
    const auto widened = [half](__m512i v) __attribute__((always_inline)) {
      return _mm512_cvtepi16_epi32(half == 0 ? _mm512_castsi512_si256(v) : _mm512_extracti64x4_epi64(v, 1));
    };
    const __m512i xs = widened(at.x), ys = widened(at.y), mask = _mm512_set1_epi32(kSubpixels - 1);
    int top, bottom;
    row_range(m, k, 16 * half, 16, top, bottom);
    const __m512i iy = _mm512_srai_epi32(ys, kSubpixelBits), one = _mm512_set1_epi32(1);
    __m512i ix = _mm512_add_epi32(_mm512_srai_epi32(xs, kSubpixelBits), _mm512_set1_epi32(shift));
    __m512i left, right;
    if (shift != 0) {
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
    constexpr __mmask64 low = 0x5555555555555555ull;
    for (int p = 0; p < planes; ++p) {
      const auto row = [&](int r) __attribute__((always_inline)) {
        const uint8_t* from = job.source[p] + clamped(y0 + r, 0, height - 1) * job.source_stride[p] + base;
        const __m512i v = _mm512_loadu_si512(from);
        return _mm512_add_epi32(_mm512_madd_epi16(_mm512_maskz_permutexvar_epi8(low, left, v), weight_left),
                                _mm512_madd_epi16(_mm512_maskz_permutexvar_epi8(low, right, v), weight_right));
      };
      __m512i window[4], taken[4];
      for (int r = 0; r < 4; ++r) taken[r] = window[r] = row(top - 1 + r);
      for (int r = top + 1; r <= bottom; ++r) {
        window[0] = window[1], window[1] = window[2], window[2] = window[3], window[3] = row(r + 2);
        const __mmask16 here = _mm512_cmpeq_epi32_mask(iy, _mm512_set1_epi32(r));
        for (int c = 0; c < 4; ++c) taken[c] = _mm512_mask_mov_epi32(taken[c], here, window[c]);
      }
      __m512 total = _mm512_mul_ps(_mm512_cvtepi32_ps(taken[0]), down[0]);
      for (int c = 1; c < 4; ++c) total = _mm512_add_ps(total, _mm512_mul_ps(_mm512_cvtepi32_ps(taken[c]), down[c]));
      __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(total, _mm512_set1_ps(1.0f / 16384)));
      whole = _mm512_max_epi32(whole, _mm512_setzero_si512());
      const int n = smaller(16, count - 16 * half);
      uint8_t* target = job.target[p] + y * job.target_stride[p] + x + 16 * half;
      _mm_mask_storeu_epi8(target, static_cast<__mmask16>((1u << n) - 1), _mm512_cvtusepi32_epi8(whole));
    }
  }
}

template <int planes>
inline void warp_planes(const WarpJob<uint8_t>& job, int begin, int end) {
  RowMap m;
  const int blocks = (job.target_width + kBlock - 1) / kBlock;
  for (int y = begin; y < end; ++y) {
    for (int first = 0; first < blocks; first += kSegment) {
      const int count = smaller(kSegment, blocks - first);
      avx512::map_row(job.map, y, first, count, avx512::bias_of<uint8_t>(job.taps), m);
      for (int k = 0; k < count; ++k) {
        const int x = (first + k) * kBlock, n = smaller(kBlock, job.target_width - x);
        if (!m.sound[k]) {
          avx512::plain_block(job, m, k, y, x, n);
        } else if (job.taps == nullptr) {
          bilinear_block<planes>(job, m, k, y, x, n);
        } else {
          bicubic_block<planes>(job, m, k, y, x, n);
        }
      }
    }
  }
  note_isa(Isa::avx512);
}

/// Rows [begin, end) of byte planes at least 64 wide, bilinear or bicubic.
inline void warp_rows_u8(const WarpJob<uint8_t>& job, int begin, int end) {
  if (job.planes == 1) return warp_planes<1>(job, begin, end);
  if (job.planes == 2) return warp_planes<2>(job, begin, end);
  warp_planes<3>(job, begin, end);
}

}  // namespace legato::avx512vbmi
