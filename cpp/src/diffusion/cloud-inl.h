// The ideal denoiser of a point cloud: a softmax over its points, then the mean of the points under it, query by query.
// Included by chains-inl.h after packs-inl.h; chains.cpp includes <immintrin.h> or <arm_neon.h> before.
//
// Products of float32 are fused on every instruction set: where there is none, multiply_add() rounds as one would.
namespace legato::LEGATO_REGION {

using diffusion::PointCloud;
constexpr std::size_t kGroup = 64;         // points whose logits are held at once
constexpr std::size_t kCloudQueries = 32;  // share a group while it is in the cache
constexpr std::size_t kNarrow = 16;        // below as many dimensions a lane is a point, not a coordinate

// --- Arithmetic -----------------------------------------------------------------------------------------------------

#if !defined(__aarch64__) && LEGATO_REGION_WIDTH == 2
using Wide = Pack<double>::Register;
using Single = Pack<float>::Register;

struct Widened {
  Wide half[2];
};
LEGATO_HD Widened widened(const Single& x) {
#if defined(__x86_64__)  // GCC would go by single numbers
  return {{_mm_cvtps_pd(x), _mm_cvtps_pd(_mm_movehl_ps(x, x))}};
#else
  return {{Wide{x[0], x[1]}, Wide{x[2], x[3]}}};
#endif
}
LEGATO_HD Single narrowed(const Widened& x) {
#if defined(__x86_64__)
  return _mm_movelh_ps(_mm_cvtpd_ps(x.half[0]), _mm_cvtpd_ps(x.half[1]));
#else
  return Single{static_cast<float>(x.half[0][0]), static_cast<float>(x.half[0][1]), static_cast<float>(x.half[1][0]),
                static_cast<float>(x.half[1][1])};
#endif
}

/// x y + z rounded once. The product is exact in double; the sum is rounded to odd there, which a second rounding to
/// float cannot tell from the exact one.
LEGATO_HD Single fused_in_doubles(const Widened& x, const Widened& y, const Widened& z) {
  using Bits = Pack<long long>::Register;
  Widened out;
  for (int i = 0; i < 2; ++i) {
    const Wide product = x.half[i] * y.half[i], sum = product + z.half[i], taken = sum - product;
    const Wide error = (product - (sum - taken)) + (z.half[i] - taken);
    // Towards zero, where the error and the sum differ in sign; then odd, where there is an error.
    const Bits signs = (Bits)error ^ (Bits)sum;
#if defined(__x86_64__)  // as GCC will not
    const Bits differ = (Bits)_mm_srai_epi32(_mm_shuffle_epi32((__m128i)signs, 0xf5), 31);
    const Bits inexact = (Bits)_mm_and_pd(_mm_cmpneq_pd(error, Wide{}), _mm_cmpord_pd(error, error));
#else
    const Bits differ = signs >> 63, inexact = (Bits)(error < Wide{}) | (Bits)(error > Wide{});
#endif
    out.half[i] = (Wide)(((Bits)sum + (differ & inexact)) | (inexact & 1));
  }
  return narrowed(out);
}
#endif

/// x y + z, rounded once.
LEGATO_HD Pack<float> multiply_add(const Pack<float>& x, const Pack<float>& y, const Pack<float>& z) {
  Pack<float> out;
  for (int i = 0; i < Pack<float>::kParts; ++i) {
#if defined(__aarch64__)
    out.part[i] = vfmaq_f32(z.part[i], x.part[i], y.part[i]);
#elif LEGATO_REGION_WIDTH == 8
    out.part[i] = _mm512_fmadd_ps(x.part[i], y.part[i], z.part[i]);
#elif LEGATO_REGION_WIDTH == 4
    out.part[i] = _mm256_fmadd_ps(x.part[i], y.part[i], z.part[i]);
#else
    out.part[i] = fused_in_doubles(widened(x.part[i]), widened(y.part[i]), widened(z.part[i]));
#endif
  }
  return out;
}
/// x y + z, rounded twice.
LEGATO_HD Pack<double> multiply_add(const Pack<double>& x, const Pack<double>& y, const Pack<double>& z) {
  return x * y + z;
}

/// exp(x) for -90 < x <= 0 (float) or -700 < x, relative error below 1e-7 or 1e-15; below that anything.
template <class Real>
LEGATO_HD Pack<Real> decay_of(const Pack<Real>& x) {
  using Constants = math::Exponential<Real>;
  using Bits = typename math::RegisterOf<Real>::bits;
  const Pack<Real> shifted = multiply_add(x, filled(Real(1.4426950408889634)), filled(Constants::round));
  const Pack<Real> n = shifted - Constants::round;
  Pack<Real> r;
  if constexpr (sizeof(Real) == sizeof(float)) {
    r = multiply_add(n, filled(-0.6931472f), x);  // fused: n is small, so log 2 needs no second part
  } else {
    r = multiply_add(n, filled(-Constants::log2_low), multiply_add(n, filled(-Constants::log2_high), x));
  }
  Pack<Real> p = filled(Constants::coefficient[Constants::degree]);
  for (int j = Constants::degree - 1; j >= 0; --j) p = multiply_add(p, r, filled(Constants::coefficient[j]));
  p = multiply_add(multiply_add(p, r, filled(Real(1))), r, filled(Real(1)));
  for (int i = 0; i < Pack<Real>::kParts; ++i) {
    p.part[i] = (typename Pack<Real>::Register)((Bits)p.part[i] + ((Bits)shifted.part[i] << Constants::mantissa));
  }
  return p;
}

/// One bit for each lane in which a < b.
template <class Real>
LEGATO_HD unsigned lanes_less(const Pack<Real>& a, const Pack<Real>& b) {
  constexpr int wide = Pack<Real>::kWide;
  unsigned bits = 0;
  for (int i = 0; i < Pack<Real>::kParts; ++i) {
    unsigned part = 0;
#if defined(__x86_64__) && LEGATO_REGION_WIDTH == 8
    if constexpr (wide == 16) {
      part = _mm512_cmp_ps_mask(a.part[i], b.part[i], _CMP_LT_OQ);
    } else {
      part = _mm512_cmp_pd_mask(a.part[i], b.part[i], _CMP_LT_OQ);
    }
#elif defined(__x86_64__) && LEGATO_REGION_WIDTH == 4
    if constexpr (wide == 8) {
      part = static_cast<unsigned>(_mm256_movemask_ps((__m256)(a.part[i] < b.part[i])));
    } else {
      part = static_cast<unsigned>(_mm256_movemask_pd((__m256d)(a.part[i] < b.part[i])));
    }
#elif defined(__x86_64__)
    if constexpr (wide == 4) {
      part = static_cast<unsigned>(_mm_movemask_ps((__m128)(a.part[i] < b.part[i])));
    } else {
      part = static_cast<unsigned>(_mm_movemask_pd((__m128d)(a.part[i] < b.part[i])));
    }
#else
    for (int lane = 0; lane < wide; ++lane) part |= static_cast<unsigned>(a.part[i][lane] < b.part[i][lane]) << lane;
#endif
    bits |= part << (i * wide);
  }
  return bits;
}

template <int kCount, class Real>
LEGATO_HD Real largest(const Real* x) {
  if constexpr (kCount == 1) {
    return *x;
  } else {
    const Real a = largest<kCount / 2>(x), b = largest<kCount / 2>(x + kCount / 2);
    return a > b ? a : b;
  }
}
template <class Real>
LEGATO_HD Real largest(const Pack<Real>& x) {
  Real lanes[kPack];
  store_pack(lanes, x);
  return largest<kPack>(lanes);
}

// Registers of a tile: half of all, the rest for what is multiplied.
#if defined(__aarch64__) || LEGATO_REGION_WIDTH == 8
constexpr int kTileRegisters = 16;
#else
constexpr int kTileRegisters = 8;
#endif
template <class Real>
constexpr int kTilePacks =
    kTileRegisters / (4 * Pack<Real>::kParts) > 1 ? kTileRegisters / (4 * Pack<Real>::kParts) : 1;
template <class Real>
constexpr int kTileQueries = kTileRegisters / Pack<Real>::kParts >= 4   ? 4
                             : kTileRegisters / Pack<Real>::kParts >= 2 ? 2
                                                                        : 1;

/// Rows of numbers, `row` apart.
template <class Real>
struct Rows {
  Real* at;
  std::size_t row;

  LEGATO_HD Real* operator()(std::size_t index, std::size_t offset) const { return at + index * row + offset; }
};

template <int kQueries, int kPacks, class Real>
inline void multiply_tile(Rows<const Real> x, Rows<const Real> y, std::size_t terms, Rows<const Real> start,
                          Rows<Real> out, std::size_t at) {
  Pack<Real> sum[kQueries][kPacks];
#pragma GCC unroll 4
  for (std::size_t q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
    for (std::size_t p = 0; p < kPacks; ++p) sum[q][p] = load_pack(start(q, at + p * kPack));
  }
  for (std::size_t j = 0; j < terms; ++j) {
    Pack<Real> with[kPacks];
#pragma GCC unroll 4
    for (std::size_t p = 0; p < kPacks; ++p) with[p] = load_pack(y(j, at + p * kPack));
#pragma GCC unroll 4
    for (std::size_t q = 0; q < kQueries; ++q) {
      const Pack<Real> factor = filled(*x(q, j));
#pragma GCC unroll 4
      for (std::size_t p = 0; p < kPacks; ++p) sum[q][p] = multiply_add(factor, with[p], sum[q][p]);
    }
  }
#pragma GCC unroll 4
  for (std::size_t q = 0; q < kQueries; ++q) {
#pragma GCC unroll 4
    for (std::size_t p = 0; p < kPacks; ++p) store_pack(out(q, at + p * kPack), sum[q][p]);
  }
}

/// out[q][..] = start[q][..] + sum_j x[q][j] y[j][..] for `packs` packs, the terms in their order.
template <int kQueries, class Real>
inline void multiply(Rows<const Real> x, Rows<const Real> y, std::size_t terms, std::size_t packs,
                     Rows<const Real> start, Rows<Real> out) {
  constexpr std::size_t tile = kTilePacks<Real>;
  std::size_t p = 0;
  for (; p + tile <= packs; p += tile) multiply_tile<kQueries, tile>(x, y, terms, start, out, p * kPack);
  for (; p < packs; ++p) multiply_tile<kQueries, 1>(x, y, terms, start, out, p * kPack);
}

/// c[..] += sum_j x[j] y[j][..] over the terms whose bit is set.
template <int kPacks, class Real>
inline void multiply_some(std::uint64_t bits, const Real* x, const Real* y, std::size_t y_row, Real* c) {
  Pack<Real> sum[kPacks];
#pragma GCC unroll 4
  for (int p = 0; p < kPacks; ++p) sum[p] = load_pack(c + p * kPack);
  for (; bits != 0; bits &= bits - 1) {
    const auto j = static_cast<std::size_t>(__builtin_ctzll(bits));
    const Pack<Real> factor = filled(x[j]);
#pragma GCC unroll 4
    for (int p = 0; p < kPacks; ++p) sum[p] = multiply_add(factor, load_pack(y + j * y_row + p * kPack), sum[p]);
  }
#pragma GCC unroll 4
  for (int p = 0; p < kPacks; ++p) store_pack(c + p * kPack, sum[p]);
}

// --- Storage --------------------------------------------------------------------------------------------------------

/// A packed cloud of dimension d, in groups of 64 points, the last one filled up with zeros.
/// Narrow: a group is its coordinates, [d][64]. Wide, with rows of d filled up to packs: first the center and the
/// largest square, then groups of [d][64] coordinates about the center, their squares [64], and the points [64][row].
struct CloudLayout {
  std::size_t dimension, row, head, group;
  bool narrow;

  LEGATO_HD explicit CloudLayout(std::size_t d)
      : dimension(d),
        row((d + kPack - 1) / kPack * kPack),
        head(d < kNarrow ? 0 : row + kPack),
        group(d < kNarrow ? d * kGroup : kGroup * (d + 1 + row)),
        narrow(d < kNarrow) {}
};

inline Size packed_cloud_size(std::size_t points, std::size_t dimension) {
  if (!fits_memory<double>(dimension, 4 * kGroup)) return Size::kMost;  // one group, before its layout wraps
  const CloudLayout layout(dimension);
  return layout.head + (points / kGroup + (points % kGroup != 0)) * Size{layout.group};
}

template <class Real>
inline void pack_cloud(std::size_t points, std::size_t dimension, const Real* data, Real* packed) {
  const CloudLayout layout(dimension);
  const std::size_t d = dimension;
  for (std::size_t i = 0; i < layout.head; ++i) packed[i] = 0;
  if (!layout.narrow) {
    for (std::size_t j = 0; j < d && !cancelled(); ++j) {
      double sum = 0;
      for (std::size_t i = 0; i < points; ++i)
        sum += static_cast<double>(data[i * d + j]) / static_cast<double>(points);
      packed[j] = static_cast<Real>(sum);
    }
  }
  Real& longest = packed[layout.row];
  for (std::size_t i = 0; i < points; ++i) {
    Real* group = packed + layout.head + i / kGroup * layout.group;
    if (i % kGroup == 0) {
      if (cancelled()) return;
      for (std::size_t at = 0; at < layout.group; ++at) group[at] = 0;
    }
    const Real* point = data + i * d;
    double square = 0;
    for (std::size_t j = 0; j < d; ++j) {
      const Real off = layout.narrow ? point[j] : point[j] - packed[j];
      group[j * kGroup + i % kGroup] = off;
      square += static_cast<double>(off) * static_cast<double>(off);
    }
    if (layout.narrow) continue;
    const Real rounded = static_cast<Real>(square);
    group[d * kGroup + i % kGroup] = rounded;
    longest = rounded > longest ? rounded : longest;
    for (std::size_t j = 0; j < d; ++j) group[(d + 1) * kGroup + i % kGroup * layout.row + j] = point[j];
  }
}

// --- Evaluation -----------------------------------------------------------------------------------------------------

/// Scratch of one worker, for kCloudQueries queries.
template <class Real>
struct CloudWork {
  Real *x, *steered;     // rows of queries: as they are, and 2 alpha steep (x - alpha center)
  Real* out;             // rows of sums; narrow: a pack for each coordinate
  Real *most, *highest;  // the largest logit, and among logits made of products
  Real* doubt;           // twice by how much a logit made of products may be wrong; 0 where that is little
  Pack<Real>* totals;    // of the weights, lane by lane
  Real *bias, *logits;   // of a group; of a group for a tile of queries, then the weights
  std::uint64_t* bits;
  Real* scaled;  // narrow: alpha times the coordinates of a group
};

template <class Real>
inline CloudWork<Real> cloud_work(Arena& arena, std::size_t dimension) {
  const CloudLayout layout(dimension);
  CloudWork<Real> work;
  work.x = arena.take<Real>(kCloudQueries * Size{layout.row});
  work.steered = arena.take<Real>(kCloudQueries * Size{layout.row});
  work.out = arena.take<Real>(kCloudQueries * Size{layout.narrow ? dimension * kPack : layout.row});
  work.most = arena.take<Real>(kCloudQueries);
  work.highest = arena.take<Real>(kCloudQueries);
  work.doubt = arena.take<Real>(kCloudQueries);
  work.totals = arena.take<Pack<Real>>(kCloudQueries);
  work.bias = arena.take<Real>(kGroup);
  work.logits = arena.take<Real>(kCloudQueries * kGroup);
  work.bits = arena.take<std::uint64_t>(kCloudQueries);
  work.scaled = arena.take<Real>(layout.narrow ? kGroup * dimension : 0);
  return work;
}

/// One noise level: logits are -steep |x - a y|^2 + log weight, and weights below exp(least) of the largest are
/// dropped.
template <class Real>
struct CloudLevel {
  static constexpr bool single = sizeof(Real) == 4;
  static constexpr Real lowest = single ? Real(-3e38) : Real(-1e308);
  static constexpr Real roundoff = single ? Real(0x1p-24) : Real(0x1p-53), enough = single ? Real(1e-3) : Real(1e-10);

  Real a, steep, least;

  CloudLevel(std::size_t points, double alpha, double sigma) : a(static_cast<Real>(alpha)) {
    const double steepest = single ? 1e28 : 1e280;  // stands for infinity: products with it stay finite
    const double wanted = 0.5 / (sigma * sigma);
    steep = static_cast<Real>(wanted < steepest ? wanted : steepest);
    // All that is dropped together stays below roundoff / 2 of what is kept.
    least = static_cast<Real>((single ? -17.4 : -37.5) - math::logarithm_of(static_cast<double>(points)));
  }
};

/// Turns a group's logits of a query into weights, 0 for those that are dropped; returns a bit for each that is not.
template <class Real>
inline std::uint64_t weigh(const CloudLevel<Real>& level, std::size_t packs, std::size_t sums, std::size_t q,
                           Real* logits, const CloudWork<Real>& work) {
  Pack<Real> top = load_pack(logits);
  for (std::size_t p = 1; p < packs; ++p) top = larger(top, load_pack(logits + p * kPack));
  Pack<Real> total = work.totals[q];
  if (lanes_less(filled(work.most[q]), top) != 0) {
    const Real most = largest(top), shrink = exponential_of(filled(work.most[q] - most))[0];
    work.most[q] = most;
    total = total * shrink;
    Real* out = work.out + q * sums;
    for (std::size_t at = 0; at < sums; at += kPack) store_pack(out + at, load_pack(out + at) * shrink);
  }
  const Pack<Real> most = filled(work.most[q]), floor = filled(work.most[q] + level.least);
  if (lanes_less(top, floor) == (1U << kPack) - 1) {
    for (std::size_t p = 0; p < packs; ++p) store_pack(logits + p * kPack, Pack<Real>{});
    return 0;
  }
  std::uint64_t bits = 0;
  for (std::size_t p = 0; p < packs; ++p) {
    const Pack<Real> logit = load_pack(logits + p * kPack);
    const Pack<Real> weight = select_less(logit, floor, Pack<Real>{}, decay_of(logit - most));
    bits |= std::uint64_t{lanes_less(logit, floor) ^ ((1U << kPack) - 1)} << (p * kPack);
    total = total + weight;
    store_pack(logits + p * kPack, weight);
  }
  work.totals[q] = total;
  return bits;
}

/// Takes a query's logits of a group again by distance, where products find points that may count.
template <class Real>
inline void take_by_distance(const CloudLevel<Real>& level, const CloudLayout& layout, const Real* rows,
                             const Real* log_weights, std::size_t count, std::size_t q, Real* logits,
                             const CloudWork<Real>& work) {
  const std::size_t packs = (count + kPack - 1) / kPack;
  std::uint64_t bits = count < kGroup ? (std::uint64_t{1} << count) - 1 : ~std::uint64_t{0};
  if (const Real doubt = work.doubt[q]; doubt < -level.lowest) {  // otherwise products say nothing
    Pack<Real> top = load_pack(logits);
    for (std::size_t p = 1; p < packs; ++p) top = larger(top, load_pack(logits + p * kPack));
    if (lanes_less(filled(work.highest[q]), top) != 0) work.highest[q] = largest(top);
    const Pack<Real> threshold = filled(work.highest[q] + level.least - doubt);
    for (std::size_t p = 0; p < packs; ++p) {
      bits &= ~(std::uint64_t{lanes_less(load_pack(logits + p * kPack), threshold)} << (p * kPack));
    }
  }
  for (std::size_t p = 0; p < packs; ++p) store_pack(logits + p * kPack, filled(level.lowest));
  for (; bits != 0; bits &= bits - 1) {
    const auto i = static_cast<std::size_t>(__builtin_ctzll(bits));
    Pack<Real> square{};
    for (std::size_t j = 0; j < layout.row; j += kPack) {
      const Pack<Real> y = load_pack(rows + i * layout.row + j);
      const Pack<Real> off = multiply_add(filled(-level.a), y, load_pack(work.x + q * layout.row + j));
      square = multiply_add(off, off, square);
    }
    logits[i] = sum(square) * -level.steep + (log_weights != nullptr ? log_weights[i] : Real(0));
  }
}

/// Calls with(first, number) for the queries, number of them at a time.
template <class Real, class With>
LEGATO_HD void for_tiles(std::size_t queries, const With& with) {
  constexpr std::size_t tile = kTileQueries<Real>;
  std::size_t q = 0;
  for (; q + tile <= queries; q += tile) with(q, std::integral_constant<int, tile>{});
  for (; q < queries; ++q) with(q, std::integral_constant<int, 1>{});
}

template <class Real>
inline void add_wide_group(const CloudLevel<Real>& level, const CloudLayout& layout, const Real* group,
                           const Real* log_weights, std::size_t count, std::size_t queries,
                           const CloudWork<Real>& work) {
  const std::size_t packs = (count + kPack - 1) / kPack, row = layout.row;
  const Real* rows = group + (layout.dimension + 1) * kGroup;
  for_tiles<Real>(queries, [&](std::size_t q, auto tile) {
    multiply<tile.value, Real>({work.steered + q * row, row}, {group, kGroup}, layout.dimension, packs, {work.bias, 0},
                               {work.logits + q * kGroup, kGroup});
  });
  for (std::size_t q = 0; q < queries; ++q) {
    Real* logits = work.logits + q * kGroup;
    if (work.doubt[q] != 0) take_by_distance(level, layout, rows, log_weights, count, q, logits, work);
    work.bits[q] = weigh(level, packs, row, q, logits, work);
  }
  for_tiles<Real>(queries, [&](std::size_t q, auto tile) {
    const Real* weights = work.logits + q * kGroup;
    std::size_t kept = 0;
    for (std::size_t i = q; i < q + tile.value; ++i) {
      kept += static_cast<std::size_t>(__builtin_popcountll(work.bits[i]));
    }
    // Adding nothing changes no bit: the weights' density decides what is faster, not what comes out.
    if (2 * kept >= tile.value * count) {
      const Rows<Real> out{work.out + q * row, row};
      return multiply<tile.value, Real>({weights, kGroup}, {rows, row}, count, row / kPack, {out.at, row}, out);
    }
    constexpr std::size_t wide = kTilePacks<Real>;
    for (std::size_t i = 0; i < tile.value; ++i) {
      Real* out = work.out + (q + i) * row;
      std::size_t at = 0;
      for (; at + wide * kPack <= row; at += wide * kPack) {
        multiply_some<wide>(work.bits[q + i], weights + i * kGroup, rows + at, row, out + at);
      }
      for (; at < row; at += kPack) {
        multiply_some<1>(work.bits[q + i], weights + i * kGroup, rows + at, row, out + at);
      }
    }
  });
}

template <class Real>
inline void add_narrow_group(const CloudLevel<Real>& level, const CloudLayout& layout, const Real* group,
                             std::size_t count, std::size_t queries, const CloudWork<Real>& work) {
  const std::size_t d = layout.dimension, packs = (count + kPack - 1) / kPack;
  for (std::size_t at = 0; at < d * kGroup; at += kPack) {
    store_pack(work.scaled + at, load_pack(group + at) * level.a);
  }
  for (std::size_t q = 0; q < queries; ++q) {
    for (std::size_t p = 0; p < packs; ++p) {
      Pack<Real> square{};
      for (std::size_t j = 0; j < d; ++j) {
        const Pack<Real> off = filled(work.x[q * layout.row + j]) - load_pack(work.scaled + j * kGroup + p * kPack);
        square = multiply_add(off, off, square);
      }
      store_pack(work.logits + p * kPack, multiply_add(square, filled(-level.steep), load_pack(work.bias + p * kPack)));
    }
    if (weigh(level, packs, d * kPack, q, work.logits, work) == 0) continue;
    for (std::size_t j = 0; j < d; ++j) {
      Pack<Real> sum = load_pack(work.out + (q * d + j) * kPack);
      for (std::size_t p = 0; p < packs; ++p) {
        sum = multiply_add(load_pack(work.logits + p * kPack), load_pack(group + j * kGroup + p * kPack), sum);
      }
      store_pack(work.out + (q * d + j) * kPack, sum);
    }
  }
}

/// E[x0 | x_t = x] of a cloud for up to kCloudQueries rows, those of work.x, into rows of out. Products with the points
/// about their center are the logits where they are exact enough; at small sigma they find the points that may count,
/// and those are taken again by distance, which is exact down to the nearest-neighbor limit. A query decides by its own
/// numbers.
template <class Real>
inline void evaluate_cloud(const PointCloud<Real>& cloud, double alpha, double sigma, std::size_t queries, Real* out,
                           const CloudWork<Real>& work) {
  using Level = CloudLevel<Real>;
  const CloudLayout layout(cloud.dimension);
  const std::size_t d = cloud.dimension, sums = layout.narrow ? d * kPack : layout.row;
  const Level level(cloud.points, alpha, sigma);
  const Real steep = level.steep, drop = level.a * level.a * steep;
  for (std::size_t q = 0; q < queries; ++q) {
    work.most[q] = work.highest[q] = level.lowest;
    work.totals[q] = Pack<Real>{};
    for (std::size_t j = 0; j < sums; ++j) work.out[q * sums + j] = 0;
    if (layout.narrow) continue;
    const Real *x = work.x + q * layout.row, *center = cloud.packed.data();
    Real* steered = work.steered + q * layout.row;
    Pack<Real> squares{};
    for (std::size_t j = 0; j < layout.row; j += kPack) {
      const Pack<Real> off = multiply_add(filled(-level.a), load_pack(center + j), load_pack(x + j));
      squares = multiply_add(off, off, squares);
      store_pack(steered + j, off * (2 * level.a * steep));
    }
    const Real doubt = (sum(squares) + 2 * level.a * level.a * cloud.packed[layout.row]) *
                       (static_cast<Real>(d + 8) * Level::roundoff * steep);
    work.doubt[q] = doubt <= Level::enough ? 0 : 2 * doubt;
  }
  const std::size_t asked = layout.narrow ? 64 * kGroup : kGroup;  // points from one question to the next
  for (std::size_t first = 0; first < cloud.points; first += kGroup) {
    if (first % asked == 0 && cancelled()) return;
    const std::size_t count = cloud.points - first < kGroup ? cloud.points - first : kGroup;
    const Real* group = cloud.packed.data() + layout.head + first / kGroup * layout.group;
    const Real* log_weights = cloud.log_weights.empty() ? nullptr : cloud.log_weights.data() + first;
    for (std::size_t i = 0; i < kGroup; ++i) {
      const Real extra = i >= count ? Level::lowest : log_weights != nullptr ? log_weights[i] : Real(0);
      work.bias[i] = layout.narrow ? extra : extra - group[d * kGroup + i] * drop;
    }
    if (layout.narrow) {
      add_narrow_group(level, layout, group, count, queries, work);
      continue;
    }
    add_wide_group(level, layout, group, log_weights, count, queries, work);
  }
  for (std::size_t q = 0; q < queries; ++q) {
    const Real scale = 1 / sum(work.totals[q]);
    const Real* from = work.out + q * sums;
    if (layout.narrow) {
      for (std::size_t j = 0; j < d; ++j) out[q * d + j] = sum(load_pack(from + j * kPack)) * scale;
    } else {
      for (std::size_t j = 0; j < d; ++j) out[q * d + j] = from[j] * scale;
    }
  }
}

/// Rows of queries into work.x, filled up with zeros.
template <class Real>
inline void take_queries(const Real* x, std::size_t dimension, std::size_t queries, const CloudWork<Real>& work) {
  const CloudLayout layout(dimension);
  for (std::size_t q = 0; q < queries; ++q) {
    Real* to = work.x + q * layout.row;
    __builtin_memcpy(to, x + q * dimension, dimension * sizeof(Real));
    for (std::size_t j = dimension; j < layout.row; ++j) to[j] = 0;
  }
}

}  // namespace legato::LEGATO_REGION
