// The loops of fill.cpp over pixels, compiled once per ISA region: comparison of a source with the frame, and the
// blending of sources. Eight samples at a time, by the same arithmetic everywhere.
namespace legato::LEGATO_REGION {

using namespace legato::video;
using std::int32_t;
using std::int64_t;
using std::ptrdiff_t;
using std::uint16_t;
using std::uint32_t;
using std::uint8_t;

typedef float Floats __attribute__((vector_size(4 * kPack)));
typedef int32_t Integers __attribute__((vector_size(4 * kPack)));

inline Floats spread(float v) { return Floats{} + v; }
inline Floats load(const float* from) {
  Floats out;
  __builtin_memcpy(&out, from, sizeof out);
  return out;
}
inline Integers load(const int32_t* from) {
  Integers out;
  __builtin_memcpy(&out, from, sizeof out);
  return out;
}
inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }
inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Floats clamped(Floats v, float low, float high) { return smaller(larger(v, spread(low)), spread(high)); }
inline Floats where(Integers mask, Floats v) { return mask ? v : Floats{}; }
inline bool any(Integers mask) {
  typedef int64_t Halves __attribute__((vector_size(4 * kPack)));
  const Halves h = (Halves)mask;
  return ((h[0] | h[1]) | (h[2] | h[3])) != 0;
}
inline float sum(Floats v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }
inline int count(Integers mask) {
  return -(((mask[0] + mask[4]) + (mask[2] + mask[6])) + ((mask[1] + mask[5]) + (mask[3] + mask[7])));
}
inline Floats square_root(Floats v) {
  Floats root;
  for (int i = 0; i < kPack; ++i) root[i] = __builtin_sqrtf(v[i]);
  return root;
}
inline Floats as_floats(Integers v) { return __builtin_convertvector(v, Floats); }

/// Values at the corners of a tile, and between them.
inline Field field(float a, float b, float c, float d) { return {a, b - a, c - a, (d - c) - (b - a)}; }
inline Floats at(const Field& f, Floats x, Floats y) { return (f.a + y * f.down) + x * (f.across + y * f.both); }

inline Floats depth(Floats x, Floats y, float first, float right, float bottom) {
  return smaller(smaller(x - first, right - x), smaller(y - first, bottom - y));
}

/// The same word of the windows of eight samples: `at` points to them.
template <class Sample>
inline Integers words(const Sample* const* at, ptrdiff_t offset) {
  const auto word = [&](int i) __attribute__((always_inline)) {
    int32_t bits;
    __builtin_memcpy(&bits, at[i] + offset, sizeof bits);
    return bits;
  };
  return Integers{word(0), word(1), word(2), word(3), word(4), word(5), word(6), word(7)};
}

/// Four neighbors in a row, of each of eight samples.
inline void row_of_four(const uint8_t* const* at, ptrdiff_t offset, Floats* out) {
  const Integers w = words(at, offset);
  for (int c = 0; c < 4; ++c) out[c] = as_floats((w >> (8 * c)) & 255);
}
inline void row_of_four(const uint16_t* const* at, ptrdiff_t offset, Floats* out) {
  for (int half = 0; half < 2; ++half) {
    const Integers w = words(at, offset + 2 * half);
    out[2 * half] = as_floats(w & 65535);
    out[2 * half + 1] = as_floats((w >> 16) & 65535);
  }
}

inline void cubic_weights(Floats t, Floats* w) {
  const Floats u = 1.0f - t, tu = (t * u) * -0.75f;
  w[0] = tu * u;
  w[3] = tu * t;
  w[1] = (1.25f * t - 2.25f) * (t * t) + 1.0f;
  w[2] = ((1.0f - w[0]) - w[1]) - w[3];
}

template <class Sample>
inline void point(const Image<const Sample>& plane, Integers left, Integers top, const Sample** to) {
  alignas(4 * kPack) int32_t x[kPack], y[kPack];
  __builtin_memcpy(x, &left, sizeof x);
  __builtin_memcpy(y, &top, sizeof y);
  for (int i = 0; i < kPack; ++i) to[i] = plane.data + y[i] * plane.stride + x[i];
}

/// Bicubic, of positions at least two pixels from the plane's edges.
template <class Sample>
inline Floats bicubic(const Image<const Sample>& plane, Floats x, Floats y) {
  const Integers left = __builtin_convertvector(x, Integers) - 1, top = __builtin_convertvector(y, Integers) - 1;
  Floats across[4], down[4], sums[4] = {}, row[4];
  cubic_weights(x - as_floats(left + 1), across);
  cubic_weights(y - as_floats(top + 1), down);
  const Sample* window[kPack];
  point(plane, left, top, window);
  for (int r = 0; r < 4; ++r) {
    row_of_four(window, r * plane.stride, row);
    for (int c = 0; c < 4; ++c) sums[c] += down[r] * row[c];
  }
  return (across[0] * sums[0] + across[1] * sums[1]) + (across[2] * sums[2] + across[3] * sums[3]);
}

/// Bilinear, edges replicated; planes are of two rows and columns at least.
template <class Sample>
inline Floats bilinear(const Image<const Sample>& plane, Floats x, Floats y) {
  x = clamped(x, 0, static_cast<float>(plane.width - 1));
  y = clamped(y, 0, static_cast<float>(plane.height - 1));
  const auto corner = [](Floats v, int last) __attribute__((always_inline)) {
    const Integers whole = __builtin_convertvector(v, Integers), most = Integers{} + last;
    return whole < most ? whole : most;
  };
  const Integers left = corner(x, plane.width - 2), top = corner(y, plane.height - 2);
  const Sample* window[kPack];
  point(plane, left, top, window);
  const auto sample = [&](ptrdiff_t offset) __attribute__((always_inline)) {
    return as_floats(Integers{window[0][offset], window[1][offset], window[2][offset], window[3][offset],
                              window[4][offset], window[5][offset], window[6][offset], window[7][offset]});
  };
  const Floats fx = x - as_floats(left), fy = y - as_floats(top);
  const Floats upper = sample(0), lower = sample(plane.stride);
  const Floats a = upper + fx * (sample(1) - upper), b = lower + fx * (sample(plane.stride + 1) - lower);
  return a + fy * (b - a);
}

/// Mean differences between a source and the frame in the tiles of the band, and the mean deviation from that of luma,
/// times their weights, into the job's grid. Returns the weight of all.
template <class Sample>
inline float compare_band(const CompareJob<Sample>& job) {
  const Frame& frame = job.frame;
  float known = 0;
  for (int k = 0; k < job.tiles; ++k) {
    const BandTile& tile = job.tile[k];
    const Node *above = job.source.nodes + tile.node, *below = above + frame.across + 1;
    const Field fx = field(above[0].x, above[1].x, below[0].x, below[1].x);
    const Field fy = field(above[0].y, above[1].y, below[0].y, below[1].y);
    const auto shares = [&](const Pack& pack, const float* weight, Floats& x,
                            Floats& y) __attribute__((always_inline)) {
      x = at(fx, load(pack.across), load(pack.down));
      y = at(fy, load(pack.across), load(pack.down));
      return where(depth(x, y, kInset, frame.right - kInset, frame.bottom - kInset) >= 0.0f, load(weight));
    };
    Floats share[kSamples / kPack], difference[kSamples / kPack], total{}, weights{}, deviations{};
    for (int p = 0; p < kSamples / kPack; ++p) {
      Floats x, y;
      share[p] = shares(job.luma[p], tile.weight + kPack * p, x, y);
      difference[p] = Floats{};
      if (!any(share[p] > 0.0f)) continue;
      difference[p] = load(tile.own + kPack * p) - bilinear(job.source.plane[0], x, y);
      total += share[p] * clamped(difference[p], -job.most, job.most);
      weights += share[p];
    }
    const float whole = sum(weights);
    if (!(whole > 0)) continue;
    const float mean = sum(total) / whole;
    for (int p = 0; p < kSamples / kPack; ++p) {
      const Floats off = difference[p] - mean;
      deviations += share[p] * larger(off, -off);
    }
    job.weights[tile.cell] = whole / kSamples;
    job.values[0][tile.cell] = mean * (whole / kSamples);
    job.values[1][tile.cell] = sum(deviations) / (job.levels * kSamples);
    known += whole;
    if (!job.colored) continue;
    Floats x, y;
    const Floats chroma = shares(*job.chroma, tile.chroma_weight, x, y);
    const float chroma_whole = sum(chroma);
    if (!(chroma_whole > 0)) continue;
    x = (x - frame.ox) / frame.sx;
    y = (y - frame.oy) / frame.sy;
    for (int p = 0; p < 2; ++p) {
      const Floats off = load(tile.chroma_own[p]) - bilinear(job.source.plane[1 + p], x, y);
      job.values[2 + p][tile.cell] =
          sum(chroma * clamped(off, -job.most, job.most)) / chroma_whole * (whole / kSamples);
    }
  }
  note_isa(LEGATO_REGION_ISA);
  return known;
}

/// Draws what a tile lacks of luma, or of both planes of chroma.
template <bool luma, class Sample>
inline TileSums blend_tile(const BlendJob<Sample>& job) {
  constexpr int planes = luma ? 1 : 2, first = luma ? 0 : 1;
  const Frame& frame = job.frame;
  const int node = job.node, next = node + frame.across + 1;
  for (int s = 0; s < job.count; ++s) {
    const Node *above = job.source[s]->nodes + node, *below = job.source[s]->nodes + next;
    const auto of = [&](auto member) __attribute__((always_inline)) {
      return field(member(above[0]), member(above[1]), member(below[0]), member(below[1]));
    };
    NodeFields& fields = job.fields[s];
    fields.x = of([](const Node& n) { return n.x; });
    fields.y = of([](const Node& n) { return n.y; });
    fields.error = of([](const Node& n) { return n.error; });
    for (int p = 0; p < planes; ++p) fields.color[p] = of([p](const Node& n) { return n.color[first + p]; });
  }
  const Point *above = job.place + node, *below = job.place + next;
  const Field place_x = field(above[0].x, above[1].x, below[0].x, below[1].x);
  const Field place_y = field(above[0].y, above[1].y, below[0].y, below[1].y);
  const float right = frame.right - kInset, bottom = frame.bottom - kInset, ramp = 1 / job.ramp;
  TileSums sums{};
  Floats errors{};
  for (int k = 0; k < job.packs; ++k) {
    const Pack& pack = job.pack[k];
    const Floats across = load(pack.across), down = load(pack.down);
    const Floats inside = depth(at(place_x, across, down), at(place_y, across, down), 0, frame.right, frame.bottom);
    const Integers here = (inside < job.feather) & (load(pack.x) < job.columns) & (load(pack.y) < job.rows);
    if (!any(here)) continue;
    Floats whole{}, value[planes] = {}, square{}, risk{};
    for (int s = 0; s < job.count; ++s) {
      const NodeFields& fields = job.fields[s];
      const Lending<Sample>& source = *job.source[s];
      Floats x = at(fields.x, across, down), y = at(fields.y, across, down);
      const Floats e = at(fields.error, across, down);
      const Floats w =
          clamped(depth(x, y, kInset, right, bottom) * ramp, 0, 1) * (source.fade / (e * e + kLeastVariance));
      if (!any(w > 0.0f)) continue;
      whole += w;
      x = clamped(x, kInset, right);
      y = clamped(y, kInset, bottom);
      if constexpr (luma) {
        const Floats v = bicubic(source.plane[0], x, y) + at(fields.color[0], across, down);
        value[0] += w * v;
        square += w * v * v;
        risk += w * e;
      } else {
        x = (x - frame.ox) / frame.sx;
        y = (y - frame.oy) / frame.sy;
        for (int p = 0; p < planes; ++p) {
          value[p] += w * (bilinear(source.plane[1 + p], x, y) + at(fields.color[p], across, down));
        }
      }
    }
    const Integers known = here & (whole > kLeastWeight), outer = inside < 0.0f;
    const Floats own = clamped(inside / job.feather, 0, 1);
    for (int p = 0; p < planes; ++p) {
      float old[kPack] = {};
      for (int i = 0; i < kPack; ++i) {
        if (known[i]) old[i] = static_cast<float>(job.target[p][pack.y[i] * job.stride[p] + pack.x[i]]);
      }
      const Floats mean = value[p] / whole;
      const Integers drawn = __builtin_convertvector(
          clamped(where(known, own * load(old) + (1.0f - own) * mean), 0, job.most) + 0.5f, Integers);
      for (int i = 0; i < kPack; ++i) {
        if (known[i]) job.target[p][pack.y[i] * job.stride[p] + pack.x[i]] = static_cast<Sample>(drawn[i]);
      }
      if constexpr (luma) {
        const Floats variance = larger(square / whole - mean * mean, Floats{});
        errors += where(known & outer, risk / whole + 2.0f * square_root(variance) / job.levels);
      }
    }
    if constexpr (luma) {
      const Integers bare = here & ~known & outer;
      sums.filled += count(known & outer);
      if (!any(bare)) continue;
      sums.bare += count(bare);
      for (int i = 0; i < kPack; ++i) {
        if (bare[i]) job.bare[static_cast<ptrdiff_t>(pack.y[i]) * job.bare_stride + pack.x[i]] = 1;
      }
    }
  }
  if constexpr (luma) sums.error = sum(errors);
  note_isa(LEGATO_REGION_ISA);
  return sums;
}

}  // namespace legato::LEGATO_REGION
