// Image pyramid, corner response and Lucas-Kanade, compiled once per ISA region by track.cpp. Everything that is summed
// is an integer, so that the order of a sum does not matter.
namespace legato::LEGATO_REGION {

using namespace legato::video;
using std::int16_t;
using std::int32_t;
using std::ptrdiff_t;
using std::uint16_t;
using std::uint32_t;
using std::uint8_t;

inline void halve_row(const uint8_t* __restrict upper, const uint8_t* __restrict lower, int count,
                      uint8_t* __restrict out) {
  int x = 0;
#if LEGATO_REGION_WIDTH >= 4
  const __m256i one = _mm256_set1_epi8(1), two = _mm256_set1_epi16(2);
  const auto sums = [&](int at) __attribute__((always_inline)) {
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(upper + at));
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lower + at));
    const __m256i four = _mm256_add_epi16(_mm256_maddubs_epi16(a, one), _mm256_maddubs_epi16(b, one));
    return _mm256_srli_epi16(_mm256_add_epi16(four, two), 2);
  };
  for (; x + 32 <= count; x += 32) {
    const __m256i both = _mm256_packus_epi16(sums(2 * x), sums(2 * x + 32));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + x), _mm256_permute4x64_epi64(both, 0xD8));
  }
#endif
  for (; x < count; ++x) {
    out[x] = static_cast<uint8_t>((upper[2 * x] + upper[2 * x + 1] + lower[2 * x] + lower[2 * x + 1] + 2) >> 2);
  }
}

/// Mean of factor x factor pixels, rounded; `total` holds count * factor column sums.
inline void reduce_row(const uint8_t* source, ptrdiff_t stride, int factor, int count, uint16_t* __restrict total,
                       uint8_t* __restrict out) {
  const int columns = count * factor;
  for (int x = 0; x < columns; ++x) total[x] = source[x];
  for (int r = 1; r < factor; ++r) {
    const uint8_t* __restrict row = source + r * stride;
    for (int x = 0; x < columns; ++x) total[x] = static_cast<uint16_t>(total[x] + row[x]);
  }
  const int area = factor * factor;
  for (int x = 0; x < count; ++x) {
    int sum = 0;
    for (int c = 0; c < factor; ++c) sum += total[x * factor + c];
    out[x] = static_cast<uint8_t>((sum + area / 2) / area);
  }
}

/// The same of deeper samples, rounded to bytes: `drop` bits go.
inline void reduce_deep_row(const uint16_t* source, ptrdiff_t stride, int factor, int count, int drop,
                            uint32_t* __restrict total, uint8_t* __restrict out) {
  const int columns = count * factor;
  for (int x = 0; x < columns; ++x) total[x] = source[x];
  for (int r = 1; r < factor; ++r) {
    const uint16_t* __restrict row = source + r * stride;
    for (int x = 0; x < columns; ++x) total[x] += row[x];
  }
  if (factor <= 2) {  // a power of two: a shift in place of a division
    const int shift = drop + 2 * (factor - 1);
    for (int x = 0; x < count; ++x) {
      const uint32_t sum = factor == 1 ? total[x] : total[2 * x] + total[2 * x + 1];
      const uint32_t level = (sum + (1u << shift >> 1)) >> shift;
      out[x] = static_cast<uint8_t>(level < 255 ? level : 255);
    }
    return;
  }
  const uint32_t whole = static_cast<uint32_t>(factor * factor) << drop;
  for (int x = 0; x < count; ++x) {
    uint32_t sum = whole / 2;
    for (int c = 0; c < factor; ++c) sum += total[x * factor + c];
    const uint32_t level = sum / whole;
    out[x] = static_cast<uint8_t>(level < 255 ? level : 255);
  }
}

/// Sobel gradients of one row from the rows around it; reads one pixel to either side.
inline void gradient_row(const uint8_t* __restrict a, const uint8_t* __restrict m, const uint8_t* __restrict b,
                         int count, int16_t* __restrict gx, int16_t* __restrict gy) {
  for (int x = 0; x < count; ++x) {
    const int a0 = a[x - 1], a2 = a[x + 1], b0 = b[x - 1], b2 = b[x + 1];
    gx[x] = static_cast<int16_t>((a2 - a0) + 2 * (m[x + 1] - m[x - 1]) + (b2 - b0));
    gy[x] = static_cast<int16_t>((b0 - a0) + 2 * (b[x] - a[x]) + (b2 - a2));
  }
}

/// Products of three rows of gradients, summed down.
inline void product_row(const int16_t* const* gx, const int16_t* const* gy, int count, int32_t* __restrict xx,
                        int32_t* __restrict xy, int32_t* __restrict yy) {
  const int16_t* __restrict p = gx[0], * __restrict q = gx[1], * __restrict r = gx[2];
  const int16_t* __restrict u = gy[0], * __restrict v = gy[1], * __restrict t = gy[2];
  for (int x = 0; x < count; ++x) {
    const int g0 = p[x], g1 = q[x], g2 = r[x], h0 = u[x], h1 = v[x], h2 = t[x];
    xx[x] = g0 * g0 + g1 * g1 + g2 * g2;
    xy[x] = g0 * h0 + g1 * h1 + g2 * h2;
    yy[x] = h0 * h0 + h1 * h1 + h2 * h2;
  }
}

/// Smaller eigenvalue of the 3 x 3 structure tensor, and per column the best of the cell so far with its row. In packs
/// of eight up to 7 columns beyond `count`, for which there is room; as a plain loop GCC stores by a mask and branches
/// on it.
inline void response_row(const int32_t* xx, const int32_t* xy, const int32_t* yy, const uint8_t* usable, int count,
                         float row, float* best, float* best_row) {
  typedef int32_t Integers __attribute__((vector_size(32)));
  typedef uint32_t Words __attribute__((vector_size(32)));
  typedef float Floats __attribute__((vector_size(32)));
  // Sums without sign: in the columns beyond stands anything, and it may wrap.
  const auto three = [](const int32_t* p) __attribute__((always_inline)) {
    Words before, here, after;
    __builtin_memcpy(&before, p - 1, 32);
    __builtin_memcpy(&here, p, 32);
    __builtin_memcpy(&after, p + 1, 32);
    return before + here + after;
  };
  for (int x = 0; x < count; x += 8) {
    const auto real = [](const Words& w) __attribute__((always_inline)) {
      return __builtin_convertvector(reinterpret_cast<const Integers&>(w), Floats);
    };
    const Words a = three(xx + x), b = three(xy + x), c = three(yy + x);
    const Floats half = 0.5f * real(a + c), side = 0.5f * real(a - c), cross = real(b);
    Floats root = side * side + cross * cross;
    for (int i = 0; i < 8; ++i) root[i] = __builtin_sqrtf(root[i]);
    Floats value = half - root, most, where;
    if (usable != nullptr) {
      const int left = count - x < 8 ? count - x : 8;
      for (int i = 0; i < left; ++i) value[i] = usable[x + i] != 0 ? value[i] : 0.0f;
    }
    __builtin_memcpy(&most, best + x, 32);
    __builtin_memcpy(&where, best_row + x, 32);
    const auto more = value > most;
    most = more ? value : most;
    where = more ? Floats{} + row : where;
    __builtin_memcpy(best + x, &most, 32);
    __builtin_memcpy(best_row + x, &where, 32);
  }
}

inline int32_t difference_sum(const uint8_t* __restrict a, const uint8_t* __restrict b, int count) {
  int32_t total = 0;
  for (int x = 0; x < count; ++x) total += a[x] > b[x] ? a[x] - b[x] : b[x] - a[x];
  return total;
}

/// Sums of a, b, a a, b b and a b.
inline void comoments(const uint8_t* __restrict a, const uint8_t* __restrict b, int count, int32_t* out) {
  int32_t sa = 0, sb = 0, saa = 0, sbb = 0, sab = 0;
  for (int x = 0; x < count; ++x) {
    const int p = a[x], q = b[x];
    sa += p, sb += q, saa += p * p, sbb += q * q, sab += p * q;
  }
  out[0] += sa, out[1] += sb, out[2] += saa, out[3] += sbb, out[4] += sab;
}

// Sixteen 16-bit integers, of which a window row uses fifteen.
#if LEGATO_REGION_WIDTH >= 4
struct Row16 {
  __m256i v;
};
struct Sum8 {
  __m256i v;
};
LEGATO_HD Row16 row_of(int x) { return {_mm256_set1_epi16(static_cast<short>(x))}; }
LEGATO_HD Row16 widen(const uint8_t* p) {
  return {_mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
LEGATO_HD Row16 load16(const int16_t* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
LEGATO_HD void store16(int16_t* p, Row16 a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.v); }
LEGATO_HD Row16 operator+(Row16 a, Row16 b) { return {_mm256_add_epi16(a.v, b.v)}; }
LEGATO_HD Row16 operator-(Row16 a, Row16 b) { return {_mm256_sub_epi16(a.v, b.v)}; }
LEGATO_HD Row16 high_half(Row16 a, Row16 b) { return {_mm256_mulhrs_epi16(a.v, b.v)}; }
LEGATO_HD Row16 times_128(Row16 a) { return {_mm256_slli_epi16(a.v, 7)}; }
LEGATO_HD Row16 over_4(Row16 a) { return {_mm256_srai_epi16(a.v, 2)}; }
LEGATO_HD Row16 without_last(Row16 a) {
  return {_mm256_and_si256(a.v, _mm256_setr_epi32(-1, -1, -1, -1, -1, -1, -1, 0xFFFF))};
}
LEGATO_HD Row16 without_first(Row16 a) {  // and the rest moves up
  return {_mm256_alignr_epi8(_mm256_permute2x128_si256(a.v, a.v, 0x81), a.v, 2)};
}
LEGATO_HD Sum8 nothing() { return {_mm256_setzero_si256()}; }
LEGATO_HD void add_products(Sum8& sum, Row16 a, Row16 b) {
  sum.v = _mm256_add_epi32(sum.v, _mm256_madd_epi16(a.v, b.v));
}
LEGATO_HD long long whole(Sum8 sum) {
  const __m256i four = _mm256_add_epi64(_mm256_cvtepi32_epi64(_mm256_castsi256_si128(sum.v)),
                                        _mm256_cvtepi32_epi64(_mm256_extracti128_si256(sum.v, 1)));
  const __m128i two = _mm_add_epi64(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
  return _mm_cvtsi128_si64(_mm_add_epi64(two, _mm_unpackhi_epi64(two, two)));
}
#else
struct Row16 {
  int16_t v[16];
};
struct Sum8 {
  int32_t v[8];
};
#define LEGATO_ROW16(expression)                                            \
  Row16 out;                                                                \
  for (int i = 0; i < 16; ++i) out.v[i] = static_cast<int16_t>(expression); \
  return out
LEGATO_HD Row16 row_of(int x) { LEGATO_ROW16(x); }
LEGATO_HD Row16 widen(const uint8_t* p) { LEGATO_ROW16(p[i]); }
LEGATO_HD Row16 load16(const int16_t* p) { LEGATO_ROW16(p[i]); }
LEGATO_HD void store16(int16_t* p, const Row16& a) {
  for (int i = 0; i < 16; ++i) p[i] = a.v[i];
}
LEGATO_HD Row16 operator+(const Row16& a, const Row16& b) { LEGATO_ROW16(a.v[i] + b.v[i]); }
LEGATO_HD Row16 operator-(const Row16& a, const Row16& b) { LEGATO_ROW16(a.v[i] - b.v[i]); }
LEGATO_HD Row16 high_half(const Row16& a, const Row16& b) { LEGATO_ROW16((a.v[i] * b.v[i] + 16384) >> 15); }
LEGATO_HD Row16 times_128(const Row16& a) { LEGATO_ROW16(a.v[i] * 128); }
LEGATO_HD Row16 over_4(const Row16& a) { LEGATO_ROW16(a.v[i] >> 2); }
LEGATO_HD Row16 without_last(Row16 a) {
  a.v[15] = 0;
  return a;
}
LEGATO_HD Row16 without_first(const Row16& a) { LEGATO_ROW16(i < 15 ? a.v[i + 1] : 0); }
LEGATO_HD Sum8 nothing() { return {}; }
LEGATO_HD void add_products(Sum8& sum, const Row16& a, const Row16& b) {
  for (int i = 0; i < 8; ++i) sum.v[i] += a.v[2 * i] * b.v[2 * i] + a.v[2 * i + 1] * b.v[2 * i + 1];
}
LEGATO_HD long long whole(const Sum8& sum) {
  long long all = 0;
  for (const int32_t p : sum.v) all += p;
  return all;
}
#undef LEGATO_ROW16
#endif
LEGATO_HD float total(const Sum8& sum) { return static_cast<float>(whole(sum)); }

/// One row interpolated across, 7 bits of fraction; then two rows down, 5 bits.
LEGATO_HD Row16 across(const uint8_t* p, const Row16& fx) {
  const Row16 a = widen(p);
  return times_128(a) + high_half(times_128(widen(p + 1) - a), fx);
}
LEGATO_HD Row16 between(const Row16& upper, const Row16& lower, const Row16& fy) {
  return over_4(upper + high_half(lower - upper, fy) + row_of(1));
}

struct Place {
  const uint8_t* at;
  int fx, fy;  // 15 bits
};

/// Where a window that begins at (x, y) is read; false too far outside of the padded image.
inline bool place(const Level& image, float x, float y, Place& out) {
  const float limit = kPadding - 1;
  if (!(x >= -limit && y >= -limit && x <= static_cast<float>(image.width + kPadding - 36) &&
        y <= static_cast<float>(image.height + kPadding - 20))) {
    return false;
  }
  const int ix = static_cast<int>(__builtin_floorf(x)), iy = static_cast<int>(__builtin_floorf(y));
  const auto fraction = [](float part) {
    const int f = static_cast<int>(part * 32768.0f);
    return f < 32767 ? f : 32767;
  };
  out = {image.data + iy * image.stride + ix, fraction(x - static_cast<float>(ix)),
         fraction(y - static_cast<float>(iy))};
  return true;
}

/// How well the texture of `shown` fixes a point in what is left between it and the window at p: a standard deviation
/// in pixels, negative where the two do not show the same. `slope` is the sum of squared slopes in the weakest
/// direction. A point that stands on noise finds other noise. Gain and offset are free, which leaves a change of
/// exposure alone.
inline float point_sd(const int16_t (*shown)[16], double slope, Place p, ptrdiff_t stride) {
  const Row16 fx = row_of(p.fx), fy = row_of(p.fy), one = row_of(1), middle = row_of(4096);
  Sum8 sa = nothing(), sb = nothing(), saa = nothing(), sab = nothing(), sbb = nothing();
  Row16 upper = across(p.at, fx);
  for (int r = 0; r < kWindow; ++r) {
    p.at += stride;
    const Row16 lower = across(p.at, fx);
    const Row16 a = without_last(load16(shown[r]) - middle), b = without_last(between(upper, lower, fy) - middle);
    upper = lower;
    add_products(sa, a, one);
    add_products(sb, b, one);
    add_products(saa, a, a);
    add_products(sab, a, b);
    add_products(sbb, b, b);
  }
  constexpr double n = kWindow * kWindow;
  const auto a = static_cast<double>(whole(sa)), b = static_cast<double>(whole(sb));
  const double ab = static_cast<double>(whole(sab)) - a * b / n, aa = static_cast<double>(whole(saa)) - a * a / n;
  const double bb = static_cast<double>(whole(sbb)) - b * b / n, rest = bb - ab * ab / aa;  // 1024 squared levels
  if (!(ab > 0 && ab * ab >= kLeastLikeness * kLeastLikeness * aa * bb)) return -1;
  return static_cast<float>(__builtin_sqrt(4 * (rest > 0 ? rest : 0) / (n * slope)));
}

/// A point on its way from one picture to another, Bouguet's way: from level to level, beginning where it is thought to
/// be. Gradients are those of the interpolated template.
struct Traveller {
  alignas(64) int16_t slope_x[kWindow][16], slope_y[kWindow][16], shown[kWindow][16];
  float px, py;  // home, at full size
  float x, y;    // on the level
  float vx, vy;  // how far it went, on the level
  float a, b, c, inverse, least;
  float sd;  // of where it is, once it is there
  bool moving, lost;
};

inline void set_out(Traveller& t, float px, float py, float mx, float my, int levels) {
  const float coarsest = 1.0f / static_cast<float>(1 << (levels - 1));
  t.px = px, t.py = py;
  t.vx = (mx - px) * coarsest, t.vy = (my - py) * coarsest;
  t.sd = -1;
  t.lost = false;
}

/// Takes the template of a level; a point that has none there stays where it is.
inline void take_template(Traveller& t, const Level& from, int level) {
  const Row16 side = row_of(6144), middle = row_of(20480);    // Scharr's 3 and 10 over 16
  const float scale = 1.0f / static_cast<float>(1 << level);  // pixels are areas: centers at (x + 1/2) 2^-level - 1/2
  t.x = (t.px + 0.5f) * scale - 0.5f, t.y = (t.py + 0.5f) * scale - 0.5f;
  t.moving = false;
  Place p;
  if (!place(from, t.x - (kReach + 1), t.y - (kReach + 1), p)) return;
  const Row16 fx = row_of(p.fx), fy = row_of(p.fy);
  Row16 left = across(p.at, fx), here = across(p.at + 1, fx);
  // Of the two rows before: the pixels themselves, and the difference and the sum of those on either side.
  Row16 shown_0 = row_of(0), shown_1 = shown_0, across_0 = shown_0, across_1 = shown_0, both_0 = shown_0,
        both_1 = shown_0;
  Sum8 sxx = nothing(), sxy = nothing(), syy = nothing();
  for (int r = -2; r < kWindow; ++r) {
    p.at += from.stride;
    const Row16 next_left = across(p.at, fx), next_here = across(p.at + 1, fx);
    const Row16 before = between(left, next_left, fy), shown_2 = between(here, next_here, fy);
    const Row16 after = without_first(shown_2), across_2 = after - before, both_2 = after + before;
    if (r >= 0) {
      const Row16 gx = without_last(high_half(across_0 + across_2, side) + high_half(across_1, middle));
      const Row16 gy = without_last(high_half(both_2 - both_0, side) + high_half(shown_2 - shown_0, middle));
      store16(t.slope_x[r], gx);
      store16(t.slope_y[r], gy);
      store16(t.shown[r], shown_1);
      add_products(sxx, gx, gx);
      add_products(sxy, gx, gy);
      add_products(syy, gy, gy);
    }
    left = next_left, here = next_here;
    shown_0 = shown_1, shown_1 = shown_2;
    across_0 = across_1, across_1 = across_2;
    both_0 = both_1, both_1 = both_2;
  }
  t.a = total(sxx), t.b = total(sxy), t.c = total(syy);
  const float det = t.a * t.c - t.b * t.b;
  t.least = 0.5f * (t.a + t.c - __builtin_sqrtf((t.a - t.c) * (t.a - t.c) + 4 * t.b * t.b));
  t.moving = t.least >= kLeastSlope * kWindow * kWindow * 4096 && det >= 1;  // a slope of 1 per pixel is 64 here
  t.inverse = 2.0f / det;
}

/// One step on a level; the point stops where it would leave the picture, and is lost then on the finest level.
inline void step(Traveller& t, const Level& to, bool finest) {
  Place p;
  if (!place(to, t.x + t.vx - kReach, t.y + t.vy - kReach, p)) {
    t.moving = false;
    t.lost = finest;
    return;
  }
  const Row16 fx = row_of(p.fx), fy = row_of(p.fy);
  Row16 upper = across(p.at, fx);
  Sum8 bx = nothing(), by = nothing();
  for (int r = 0; r < kWindow; ++r) {
    p.at += to.stride;
    const Row16 lower = across(p.at, fx), difference = load16(t.shown[r]) - between(upper, lower, fy);
    upper = lower;
    add_products(bx, difference, load16(t.slope_x[r]));
    add_products(by, difference, load16(t.slope_y[r]));
  }
  const float e = total(bx), f = total(by);
  const float dx = (t.c * e - t.b * f) * t.inverse, dy = (t.a * f - t.b * e) * t.inverse;
  t.vx += dx;
  t.vy += dy;
  t.moving = !(dx * dx + dy * dy < kLeastStep * kLeastStep);
}

/// Takes a company of points from level to level. A step waits for the sums of the one before it, and meanwhile the
/// processor works on those of the others.
inline void travel(Traveller* points, int count, const Level* from, const Level* to, int levels, bool compared) {
  for (int level = levels - 1; level >= 0; --level) {
    for (int i = 0; i < count; ++i) {
      take_template(points[i], from[level], level);
      points[i].lost = level == 0 && !points[i].moving;
    }
    int moving = count;
    for (int n = 0; n < kMostSteps && moving > 0; ++n) {
      moving = 0;
      for (int i = 0; i < count; ++i) {
        if (!points[i].moving) continue;
        step(points[i], to[level], level == 0);
        moving += points[i].moving;
      }
    }
    for (int i = 0; i < count && level > 0; ++i) points[i].vx *= 2, points[i].vy *= 2;
  }
  for (int i = 0; i < count; ++i) {
    Traveller& t = points[i];
    Place p;
    if (!t.lost && compared) {
      const bool inside = place(to[0], t.x + t.vx - kReach, t.y + t.vy - kReach, p);
      t.sd = inside ? point_sd(t.shown, t.least, p, to[0].stride) : -1;
      t.lost = !(t.sd >= 0);
    }
    const float x = t.px + t.vx, y = t.py + t.vy;
    t.lost = t.lost || !(x >= 0 && y >= 0 && x <= static_cast<float>(to[0].width - 1) &&
                         y <= static_cast<float>(to[0].height - 1));
  }
}

/// Follows points there and back. `round_trip` of zero: forward alone. `start`: where to begin, near the goal; null: at
/// home, on the coarsest level. `sd` takes the deviation of each point; null: those beyond kMostPointSd are not found.
inline void follow_points(const Level* from, const Level* to, int levels, const float* points, const float* start,
                          std::size_t count, float round_trip, float* moved, uint8_t* found, float* sd) {
  const auto at_most = [levels](int n) { return levels < n ? levels : n; };
  const int there = start == nullptr ? levels : at_most(kNearLevels);
  const int back = at_most(start == nullptr ? kReturnLevels : kNearReturnLevels);
  const float* const begin = start == nullptr ? points : start;
  Traveller company[kCompany];
  for (std::size_t first = 0; first < count; first += kCompany) {
    const int n = static_cast<int>(count - first < kCompany ? count - first : kCompany);
    const float *home = points + 2 * first, *near = begin + 2 * first;
    for (int i = 0; i < n; ++i) set_out(company[i], home[2 * i], home[2 * i + 1], near[2 * i], near[2 * i + 1], there);
    travel(company, n, from, to, there, true);
    std::size_t who[kCompany];
    int returning = 0;
    for (int i = 0; i < n; ++i) {
      const Traveller& t = company[i];
      const std::size_t at = first + static_cast<std::size_t>(i);
      const float mx = t.px + t.vx, my = t.py + t.vy;
      moved[2 * at] = mx;
      moved[2 * at + 1] = my;
      found[at] = !t.lost && (sd != nullptr || t.sd <= static_cast<float>(kMostPointSd));
      if (sd != nullptr) sd[at] = t.sd;
      if (found[at] != 0 && round_trip > 0) who[returning++] = at;
    }
    for (int i = 0; i < returning; ++i) {
      const std::size_t at = who[i];
      set_out(company[i], moved[2 * at], moved[2 * at + 1], points[2 * at], points[2 * at + 1], back);
    }
    travel(company, returning, to, from, back, false);
    for (int i = 0; i < returning; ++i) {
      const Traveller& t = company[i];
      const float dx = t.px + t.vx - points[2 * who[i]], dy = t.py + t.vy - points[2 * who[i] + 1];
      found[who[i]] = !t.lost && dx * dx + dy * dy < round_trip * round_trip;
    }
  }
  note_isa(LEGATO_REGION_ISA);
}

}  // namespace legato::LEGATO_REGION
