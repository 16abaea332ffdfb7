// Completes the picture of a frame from its neighbors (video.hpp). All that varies slowly, positions, colors and
// predicted errors, lives on a grid of tiles of the picture; pixels are read once, in the tiles that need them.
#include "video/fill.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "core/core.h"
#include "legato/video.hpp"
#include "video/pyramid.h"

namespace legato::video {
namespace {

// Lengths are in pixels of a picture 640 wide; `unit` is one of them.
constexpr int kTile = 8;
constexpr int kBandTiles = 3;       // beside the outside, where sources are compared with the frame
constexpr float kPointBand = 64;    // from the frame's edge, in which points are followed
constexpr float kPointReach = 40;   // over which a point's weight falls by e
constexpr float kFarPoint = 0.15f;  // weight of a point far from the seam
constexpr float kMostShift = 14;    // of a point from where the motion puts it
constexpr double kRoundTrip = 0.7;  // px of the work image
constexpr float kColorReach = 12;   // over which a difference's weight falls by e
constexpr float kMostColor = 40;    // of a difference of colors, gray levels
constexpr float kRamp = 12;         // from a source's edge to its full weight
constexpr float kInset = 2;         // edge rows are coded worse
constexpr float kFeather = 6;
constexpr float kMembraneReach = 6;
constexpr float kLeastVariance = 4;  // of a source's predicted error
constexpr float kUnknownError = 40;  // of a source that overlaps the frame nowhere near
constexpr float kFades = 2.5f;       // of a tile's sources, the nearest that covers it and those so much farther
constexpr float kTrust = 0.02f, kPointTrust = 0.1f;
constexpr std::size_t kPoints = kMostMatches;

struct Node {
  float x, y;      // position in the source
  float color[3];  // to be added
  float error;     // predicted
};

struct Point {
  float x, y;
};

Point mapped(const double* h, double x, double y) {
  const double w = h[6] * x + h[7] * y + h[8];
  if (!(w > 1e-9)) return {-1e6f, -1e6f};
  const double px = (h[0] * x + h[1] * y + h[2]) / w, py = (h[3] * x + h[4] * y + h[5]) / w;
  return {static_cast<float>(std::clamp(px, -1e6, 1e6)), static_cast<float>(std::clamp(py, -1e6, 1e6))};
}

/// The inverse up to scale, its last entry made positive.
bool invert(const double* h, double* out) {
  out[0] = h[4] * h[8] - h[5] * h[7], out[1] = h[2] * h[7] - h[1] * h[8], out[2] = h[1] * h[5] - h[2] * h[4];
  out[3] = h[5] * h[6] - h[3] * h[8], out[4] = h[0] * h[8] - h[2] * h[6], out[5] = h[2] * h[3] - h[0] * h[5];
  out[6] = h[3] * h[7] - h[4] * h[6], out[7] = h[1] * h[6] - h[0] * h[7], out[8] = h[0] * h[4] - h[1] * h[3];
  const double scale = out[8];
  if (!std::isfinite(scale) || scale == 0) return false;
  for (int i = 0; i < 9; ++i) out[i] /= scale;
  return true;
}

void cubic_weights(float t, float* w) {
  const float u = 1 - t, tu = (t * u) * -0.75f;
  w[0] = tu * u;
  w[3] = tu * t;
  w[1] = (1.25f * t - 2.25f) * (t * t) + 1;
  w[2] = ((1 - w[0]) - w[1]) - w[3];
}

/// Bicubic, edges replicated; the position is near the picture.
template <class Sample>
float sample(const Image<const Sample>& image, float x, float y) {
  x = std::clamp(x, -1.0f, static_cast<float>(image.width));
  y = std::clamp(y, -1.0f, static_cast<float>(image.height));
  const int left = static_cast<int>(x + 2) - 2, top = static_cast<int>(y + 2) - 2;
  float across[4], down[4], sum = 0;
  cubic_weights(x - static_cast<float>(left), across);
  cubic_weights(y - static_cast<float>(top), down);
  if (left >= 1 && top >= 1 && left + 2 < image.width && top + 2 < image.height) {
    const Sample* row = image.data + (top - 1) * image.stride + left - 1;
    for (int r = 0; r < 4; ++r, row += image.stride) {
      sum += down[r] * (across[0] * static_cast<float>(row[0]) + across[1] * static_cast<float>(row[1]) +
                        across[2] * static_cast<float>(row[2]) + across[3] * static_cast<float>(row[3]));
    }
    return sum;
  }
  for (int r = 0; r < 4; ++r) {
    const Sample* row = image.data + std::clamp(top - 1 + r, 0, image.height - 1) * image.stride;
    float line = 0;
    for (int c = 0; c < 4; ++c) {
      line += across[c] * static_cast<float>(row[std::clamp(left - 1 + c, 0, image.width - 1)]);
    }
    sum += down[r] * line;
  }
  return sum;
}

struct Tile {
  bool outside;      // some of it lies outside of the frame
  bool band;         // some of it lies inside, near the outside
  float first;       // distance of the nearest source that covers it
  float error;       // predicted, of what was filled
  float weak;        // 0 to 1: the membrane's share
  int filled, bare;  // pixels outside of the frame that some source shows, and that none does
};

struct Layout {
  int width, height, unit, side;  // of the picture; pixels of a unit and of a tile
  int across, down;               // tiles
  std::size_t tiles, nodes;
};

int unit_of(int width, int height) { return std::max(1, (std::max(width, height) + 320) / 640); }

Layout layout_of(int width, int height) {
  Layout l;
  l.width = width, l.height = height;
  l.unit = unit_of(width, height);
  l.side = kTile * l.unit;
  l.across = (width + l.side - 1) / l.side;
  l.down = (height + l.side - 1) / l.side;
  l.tiles = static_cast<std::size_t>(l.across) * static_cast<std::size_t>(l.down);
  l.nodes = static_cast<std::size_t>(l.across + 1) * static_cast<std::size_t>(l.down + 1);
  return l;
}

struct Memory {
  Memory(const Layout& l, std::size_t corners, std::size_t sources, Arena& arena)
      : grid(l.across, l.down, 3, arena), coarse((l.across + 1) / 2, (l.down + 1) / 2, 2, arena) {
    tile = arena.take<Tile>(l.tiles);
    place = arena.take<Point>(l.nodes);
    nodes = arena.take<Node>(Size{l.nodes} * sources);
    bare = arena.take<std::uint8_t>(Size{static_cast<std::size_t>(l.width)} * static_cast<std::size_t>(l.height));
    difference = arena.take<float>(Size{l.tiles} * (kTile * kTile));
    weight = arena.take<float>(Size{l.tiles} * (kTile * kTile));
    points = arena.take<float>(2 * kPoints);
    start = arena.take<float>(2 * kPoints);
    moved = arena.take<float>(2 * kPoints);
    found = arena.take<std::uint8_t>(kPoints);
    row = arena.take<float>(Size{static_cast<std::size_t>(l.side)} * 6);
    used = arena.take<int>(Size{sources});
    corners_workspace = arena.take_workspace(corners);
  }

  Extension grid, coarse;
  Tile* tile;
  Point* place;  // of each node, in the frame
  Node* nodes;   // of each source
  std::uint8_t* bare;
  float *difference, *weight;  // of the samples of a band tile
  float *points, *start, *moved;
  std::uint8_t* found;
  float* row;
  int* used;
  std::span<std::byte> corners_workspace;
};

/// The value of a quantity of the nodes at (fx, fy) in a tile.
template <class Get>
float between(const Node* above, const Node* below, float fx, float fy, Get get) {
  const float top = get(above[0]) + fx * (get(above[1]) - get(above[0]));
  const float bottom = get(below[0]) + fx * (get(below[1]) - get(below[0]));
  return top + fy * (bottom - top);
}

template <class Sample>
class Filling {
 public:
  Filling(const Layout& layout, Memory& memory, const double* map, const Pyramid& pyramid,
          std::span<const FillSource<Sample>> sources, std::span<const Image<Sample>> targets, const Siting& siting,
          int bit_depth, const FillOptions& options)
      : l_(layout),
        m_(memory),
        map_(map),
        pyramid_(pyramid),
        sources_(sources),
        targets_(targets),
        siting_(siting),
        options_(options),
        levels_(static_cast<float>(1 << (bit_depth - 8))),
        most_(static_cast<float>((1 << bit_depth) - 1)),
        unit_(static_cast<float>(layout.unit)) {}

  Status run(std::span<float> errors, FillResult& result) {
    std::fill(errors.begin(), errors.end(), 0.0f);
    if (!look()) return Status::ok;
    find_points();
    count_ = 0;
    for (std::size_t s = 0; s < sources_.size(); ++s) {
      if (cancelled()) return Status::cancelled;
      if (wanted(sources_[s])) align(static_cast<int>(s));
    }
    result.sources = count_;
    for (int r = 0; r < l_.down; ++r) {
      if (cancelled()) return Status::cancelled;
      for (int c = 0; c < l_.across; ++c) {
        const Tile& tile = tile_at(r, c);
        if (tile.outside || tile.band) blend(r, c);
      }
    }
    judge(errors, result);
    if (result.membrane > 0) span_membrane();
    return outcome();
  }

 private:
  Tile& tile_at(int r, int c) { return m_.tile[r * l_.across + c]; }
  const Point* place_at(int r, int c) const { return m_.place + r * (l_.across + 1) + c; }
  const Node* node_at(int used, int r, int c) const {
    return m_.nodes + static_cast<std::size_t>(used) * l_.nodes + r * (l_.across + 1) + c;
  }

  /// How far inside of a frame a point lies, negative outside.
  float depth(Point p, float inset = 0) const {
    const auto right = static_cast<float>(pyramid_.width - 1), bottom = static_cast<float>(pyramid_.height - 1);
    return std::min(std::min(p.x, right - p.x), std::min(p.y, bottom - p.y)) - inset;
  }

  /// The place in the frame of a pixel of the picture.
  Point place(int r, int c, float fx, float fy) const {
    const Point *a = place_at(r, c), *b = place_at(r + 1, c);
    const float x0 = a[0].x + fx * (a[1].x - a[0].x), x1 = b[0].x + fx * (b[1].x - b[0].x);
    const float y0 = a[0].y + fx * (a[1].y - a[0].y), y1 = b[0].y + fx * (b[1].y - b[0].y);
    return {x0 + fy * (x1 - x0), y0 + fy * (y1 - y0)};
  }

  /// Finds the tiles that need something; false: none does.
  bool look() {
    for (int r = 0; r <= l_.down; ++r) {
      for (int c = 0; c <= l_.across; ++c) {
        m_.place[r * (l_.across + 1) + c] = mapped(map_, c * l_.side, r * l_.side);
      }
    }
    bool any = false;
    for (int r = 0; r < l_.down; ++r) {
      for (int c = 0; c < l_.across; ++c) {
        // Within the tile's own pixels: a last row of nodes lies beyond the picture.
        const auto side = static_cast<float>(l_.side);
        const float right = static_cast<float>(std::min(l_.side, l_.width - c * l_.side) - 1) / side;
        const float bottom = static_cast<float>(std::min(l_.side, l_.height - r * l_.side) - 1) / side;
        const float least = std::min(std::min(depth(place(r, c, 0, 0)), depth(place(r, c, right, 0))),
                                     std::min(depth(place(r, c, 0, bottom)), depth(place(r, c, right, bottom))));
        tile_at(r, c) = {least < 0, false, std::numeric_limits<float>::infinity(), 0, 0, 0, 0};
        any = any || least < 0;
      }
    }
    if (!any) return false;
    for (int r = 0; r < l_.down; ++r) {
      for (int c = 0; c < l_.across; ++c) {
        const int top = std::max(r - kBandTiles, 0), bottom = std::min(r + kBandTiles, l_.down - 1);
        const int left = std::max(c - kBandTiles, 0), right = std::min(c + kBandTiles, l_.across - 1);
        bool near = false;
        for (int i = top; i <= bottom && !near; ++i) {
          for (int j = left; j <= right && !near; ++j) near = tile_at(i, j).outside;
        }
        const Point *a = place_at(r, c), *b = place_at(r + 1, c);
        const float most = std::max(std::max(depth(a[0]), depth(a[1])), std::max(depth(b[0]), depth(b[1])));
        tile_at(r, c).band = near && most >= 0;
      }
    }
    return true;
  }

  /// Corners of the frame near those of its edges that the picture looks beyond.
  void find_points() {
    points_ = 0;
    double inverse[9];
    if (!invert(map_, inverse)) return;
    float all[2 * kPoints];
    const std::size_t count = corners_of(pyramid_, nullptr, m_.corners_workspace, all, kPoints);
    const auto factor = static_cast<float>(pyramid_.factor);
    for (std::size_t i = 0; i < count; ++i) {
      const Point p{(all[2 * i] + 0.5f) * factor - 0.5f, (all[2 * i + 1] + 0.5f) * factor - 0.5f};
      if (depth(p) > kPointBand * unit_) continue;
      const Point seen = mapped(inverse, p.x, p.y);
      const int c = static_cast<int>(std::floor(seen.x / static_cast<float>(l_.side)));
      const int r = static_cast<int>(std::floor(seen.y / static_cast<float>(l_.side)));
      if (r < 0 || c < 0 || r >= l_.down || c >= l_.across) continue;
      m_.points[2 * points_] = all[2 * i];
      m_.points[2 * points_ + 1] = all[2 * i + 1];
      ++points_;
    }
  }

  /// Whether some tile outside lacks this source.
  bool wanted(const FillSource<Sample>& source) const {
    const auto distance = static_cast<float>(source.distance);
    const float reach = kFades * static_cast<float>(options_.fade_frames);
    for (int r = 0; r < l_.down; ++r) {
      for (int c = 0; c < l_.across; ++c) {
        const Tile& tile = m_.tile[r * l_.across + c];
        if (!tile.outside || distance > tile.first + reach) continue;
        for (const Point* p : {place_at(r, c), place_at(r, c) + 1, place_at(r + 1, c), place_at(r + 1, c) + 1}) {
          if (depth(mapped(source.map, p->x, p->y), kInset) > 0) return true;
        }
      }
    }
    return false;
  }

  /// Positions, colors and predicted errors of a source, on its nodes.
  void align(int index) {
    const FillSource<Sample>& source = sources_[static_cast<std::size_t>(index)];
    m_.used[count_] = index;
    Node* nodes = m_.nodes + static_cast<std::size_t>(count_) * l_.nodes;
    const bool shifted = follow(source);
    for (int r = 0; r <= l_.down; ++r) {
      for (int c = 0; c <= l_.across; ++c) {
        Point p = m_.place[r * (l_.across + 1) + c];
        if (shifted) {
          const Point shift = shift_at(r, c);
          p.x += shift.x;
          p.y += shift.y;
        }
        const Point there = mapped(source.map, p.x, p.y);
        nodes[r * (l_.across + 1) + c] = {there.x, there.y, {0, 0, 0}, kUnknownError};
      }
    }
    ++count_;
    compare(source, nodes);
    for (int r = 0; r < l_.down; ++r) {
      for (int c = 0; c < l_.across; ++c) {
        Tile& tile = tile_at(r, c);
        if (!tile.outside || !(tile.first > static_cast<float>(source.distance))) continue;
        bool covered = true;
        for (const Node* n : {node_at(count_ - 1, r, c), node_at(count_ - 1, r + 1, c)}) {
          for (int i = 0; i < 2; ++i) covered = covered && depth({n[i].x, n[i].y}, kInset) > 0.3f * kRamp * unit_;
        }
        if (covered) tile.first = static_cast<float>(source.distance);
      }
    }
  }

  /// What is left of the motion after the homography, from points near the seam; false: nothing is known of it.
  bool follow(const FillSource<Sample>& source) {
    double back[9];
    if (points_ == 0 || source.pyramid == nullptr || !invert(source.map, back)) return false;
    const auto factor = static_cast<float>(pyramid_.factor);
    const auto full = [factor](float v) { return (v + 0.5f) * factor - 0.5f; };
    const auto work = [factor](float v) { return (v + 0.5f) / factor - 0.5f; };
    std::size_t count = 0;
    for (std::size_t i = 0; i < points_; ++i) {
      const Point there = mapped(source.map, full(m_.points[2 * i]), full(m_.points[2 * i + 1]));
      if (!(depth(there) > 0)) continue;
      // Those that the source shows come to the front: they may be for others, too, so they change places.
      std::swap(m_.points[2 * i], m_.points[2 * count]);
      std::swap(m_.points[2 * i + 1], m_.points[2 * count + 1]);
      m_.start[2 * count] = work(there.x);
      m_.start[2 * count + 1] = work(there.y);
      ++count;
    }
    if (count == 0) return false;
    follow_points(pyramid_, *source.pyramid, m_.points, m_.start, count, static_cast<float>(kRoundTrip), m_.moved,
                  m_.found);
    double inverse[9];
    invert(map_, inverse);
    m_.coarse.clear(2);
    const int across = (l_.across + 1) / 2, down = (l_.down + 1) / 2;
    const auto side = static_cast<float>(2 * l_.side);
    bool any = false;
    for (std::size_t i = 0; i < count; ++i) {
      if (!m_.found[i]) continue;
      const Point here{full(m_.points[2 * i]), full(m_.points[2 * i + 1])};
      const Point there = mapped(back, full(m_.moved[2 * i]), full(m_.moved[2 * i + 1]));
      const float dx = there.x - here.x, dy = there.y - here.y;
      if (!(dx * dx + dy * dy < kMostShift * kMostShift * unit_ * unit_)) continue;
      const Point seen = mapped(inverse, here.x, here.y);
      const int c = std::clamp(static_cast<int>(std::floor(seen.x / side)), 0, across - 1);
      const int r = std::clamp(static_cast<int>(std::floor(seen.y / side)), 0, down - 1);
      const float weight = kFarPoint + std::exp(-std::max(depth(here), 0.0f) / (kPointReach * unit_));
      const int at = r * across + c;
      m_.coarse.weights()[at] += weight;
      m_.coarse.values()[2 * at] += weight * dx;
      m_.coarse.values()[2 * at + 1] += weight * dy;
      any = true;
    }
    if (any) m_.coarse.run(2, kPointTrust);
    return any;
  }

  /// The shift at a node of the tiles: cells of the coarse grid are two tiles wide.
  Point shift_at(int r, int c) {
    const int across = (l_.across + 1) / 2, down = (l_.down + 1) / 2;
    const float x = 0.5f * static_cast<float>(c) - 0.5f, y = 0.5f * static_cast<float>(r) - 0.5f;
    const int left = static_cast<int>(std::floor(x)), top = static_cast<int>(std::floor(y));
    const float fx = x - static_cast<float>(left), fy = y - static_cast<float>(top);
    const int x0 = std::clamp(left, 0, across - 1), x1 = std::clamp(left + 1, 0, across - 1);
    const int y0 = std::clamp(top, 0, down - 1) * across, y1 = std::clamp(top + 1, 0, down - 1) * across;
    const float* v = m_.coarse.values();
    const auto at = [&](int channel) {
      const auto value = [&](int cell) { return v[2 * cell + channel]; };
      const float a = value(y0 + x0) + fx * (value(y0 + x1) - value(y0 + x0));
      const float b = value(y1 + x0) + fx * (value(y1 + x1) - value(y1 + x0));
      return a + fy * (b - a);
    };
    return {at(0), at(1)};
  }

  /// Compares a source with the frame in the band: colors to be added and predicted errors go to the nodes.
  void compare(const FillSource<Sample>& source, Node* nodes) {
    const Image<const Sample>& luma = source.planes[0];
    const Image<Sample>& target = targets_[0];
    const int step = 2 * l_.unit, per_tile = (kTile / 2) * (kTile / 2);
    const auto side = static_cast<float>(l_.side);
    Extension& grid = m_.grid;
    grid.clear(1);
    float known = 0;
    for (int r = 0; r < l_.down; ++r) {
      for (int c = 0; c < l_.across; ++c) {
        if (!tile_at(r, c).band) continue;
        const int at = r * l_.across + c;
        const Node *above = nodes + r * (l_.across + 1) + c, *below = above + l_.across + 1;
        float *difference = m_.difference + at * per_tile, *weight = m_.weight + at * per_tile;
        float sum = 0, whole = 0;
        int i = 0;
        for (int y = l_.unit / 2; y < l_.side; y += step) {
          for (int x = l_.unit / 2; x < l_.side; x += step, ++i) {
            const int px = c * l_.side + x, py = r * l_.side + y;
            weight[i] = difference[i] = 0;
            if (px >= l_.width || py >= l_.height) continue;
            const float fx = static_cast<float>(x) / side, fy = static_cast<float>(y) / side;
            const float inside = depth(place(r, c, fx, fy), 1);
            if (!(inside >= 0)) continue;
            const Point there{between(above, below, fx, fy, [](const Node& n) { return n.x; }),
                              between(above, below, fx, fy, [](const Node& n) { return n.y; })};
            if (!(depth(there, kInset) >= 0)) continue;
            weight[i] = std::exp(-inside / (kColorReach * unit_)) + 1e-3f;
            difference[i] = static_cast<float>(target.data[py * target.stride + px]) - sample(luma, there.x, there.y);
            const float most = kMostColor * levels_;
            sum += weight[i] * std::clamp(difference[i], -most, most);
            whole += weight[i];
          }
        }
        grid.values()[at] = sum / static_cast<float>(per_tile);
        grid.weights()[at] = whole / static_cast<float>(per_tile);
        known += whole;
      }
    }
    if (!(known > 0)) return;
    grid.run(1, kTrust);
    to_nodes(1, nodes, [](Node& n, const float* v) { n.color[0] = v[0]; });

    grid.clear(1);
    for (int r = 0; r < l_.down; ++r) {
      for (int c = 0; c < l_.across; ++c) {
        if (!tile_at(r, c).band) continue;
        const int at = r * l_.across + c;
        const Node *above = nodes + r * (l_.across + 1) + c, *below = above + l_.across + 1;
        const float *difference = m_.difference + at * per_tile, *weight = m_.weight + at * per_tile;
        float sum = 0, whole = 0;
        for (int i = 0; i < per_tile; ++i) {
          const float fx = static_cast<float>(l_.unit / 2 + i % (kTile / 2) * step) / side;
          const float fy = static_cast<float>(l_.unit / 2 + i / (kTile / 2) * step) / side;
          const float color = between(above, below, fx, fy, [](const Node& n) { return n.color[0]; });
          sum += weight[i] * std::abs(difference[i] - color);
          whole += weight[i];
        }
        grid.values()[at] = sum / levels_ / static_cast<float>(per_tile);
        grid.weights()[at] = whole / static_cast<float>(per_tile);
      }
    }
    grid.run(1, kTrust);
    to_nodes(1, nodes, [](Node& n, const float* v) { n.error = v[0]; });
    if (targets_.size() == 3) compare_chroma(source, nodes);
  }

  void compare_chroma(const FillSource<Sample>& source, Node* nodes) {
    Extension& grid = m_.grid;
    grid.clear(2);
    const int step = std::max(1, 2 * l_.unit / std::max(siting_.sx, siting_.sy));
    for (int r = 0; r < l_.down; ++r) {
      for (int c = 0; c < l_.across; ++c) {
        if (!tile_at(r, c).band) continue;
        const int at = r * l_.across + c;
        const Node *above = nodes + r * (l_.across + 1) + c, *below = above + l_.across + 1;
        float sums[2] = {}, whole = 0;
        int count = 0;
        each_chroma(r, c, step, [&](int x, int y, float fx, float fy) {
          ++count;
          const float inside = depth(place(r, c, fx, fy), 2);
          const Point there{between(above, below, fx, fy, [](const Node& n) { return n.x; }),
                            between(above, below, fx, fy, [](const Node& n) { return n.y; })};
          if (!(inside >= 0) || !(depth(there, kInset) >= 0)) return;
          const float weight = std::exp(-inside / (kColorReach * unit_)) + 1e-3f, most = kMostColor * levels_;
          for (std::size_t p = 0; p < 2; ++p) {
            const Image<Sample>& target = targets_[p + 1];
            const float own = static_cast<float>(target.data[y * target.stride + x]);
            sums[p] += weight * std::clamp(own - chroma(source.planes[p + 1], there), -most, most);
          }
          whole += weight;
        });
        const float share = 1 / static_cast<float>(std::max(count, 1));
        grid.values()[2 * at] = sums[0] * share;
        grid.values()[2 * at + 1] = sums[1] * share;
        grid.weights()[at] = whole * share;
      }
    }
    grid.run(2, kTrust);
    to_nodes(2, nodes, [](Node& n, const float* v) { n.color[1] = v[0], n.color[2] = v[1]; });
  }

  /// The chroma sample at a luma position.
  float chroma(const Image<const Sample>& plane, Point p) const {
    return sample(plane, (p.x - static_cast<float>(siting_.ox)) / static_cast<float>(siting_.sx),
                  (p.y - static_cast<float>(siting_.oy)) / static_cast<float>(siting_.sy));
  }

  /// Calls f(x, y, fx, fy) for the chroma samples of a tile, every so many.
  template <class Call>
  void each_chroma(int r, int c, int step, Call f) const {
    const auto side = static_cast<float>(l_.side);
    const int right = std::min((c + 1) * l_.side / siting_.sx, targets_[1].width);
    const int bottom = std::min((r + 1) * l_.side / siting_.sy, targets_[1].height);
    for (int y = r * l_.side / siting_.sy; y < bottom; y += step) {
      const float fy = (static_cast<float>(y * siting_.sy - r * l_.side) + static_cast<float>(siting_.oy)) / side;
      for (int x = c * l_.side / siting_.sx; x < right; x += step) {
        const float fx = (static_cast<float>(x * siting_.sx - c * l_.side) + static_cast<float>(siting_.ox)) / side;
        f(x, y, fx, fy);
      }
    }
  }

  /// Hands the values of the grid's cells to the nodes between them.
  template <class Put>
  void to_nodes(int channels, Node* nodes, Put put) {
    const float* values = m_.grid.values();
    for (int r = 0; r <= l_.down; ++r) {
      const int y0 = std::max(r - 1, 0) * l_.across, y1 = std::min(r, l_.down - 1) * l_.across;
      for (int c = 0; c <= l_.across; ++c) {
        const int x0 = std::max(c - 1, 0), x1 = std::min(c, l_.across - 1);
        float mean[3];
        for (int k = 0; k < channels; ++k) {
          const auto value = [&](int cell) { return values[cell * channels + k]; };
          mean[k] = 0.25f * ((value(y0 + x0) + value(y0 + x1)) + (value(y1 + x0) + value(y1 + x1)));
        }
        put(nodes[r * (l_.across + 1) + c], mean);
      }
    }
  }

  Sample rounded(float v) const { return static_cast<Sample>(std::clamp(v, 0.0f, most_) + 0.5f); }

  /// The weight of a source at a pixel.
  float weight(int distance, Point there, float error) const {
    const float edge = std::min(depth(there, kInset) / (kRamp * unit_), 1.0f);
    if (!(edge > 0)) return 0;
    return edge * std::exp(static_cast<float>(-distance / options_.fade_frames)) / (error * error + kLeastVariance);
  }

  /// Draws what a tile lacks.
  void blend(int r, int c) {
    Tile& tile = tile_at(r, c);
    const auto side = static_cast<float>(l_.side);
    float near = depth(*place_at(r, c));
    for (const Point* p : {place_at(r, c) + 1, place_at(r + 1, c), place_at(r + 1, c) + 1}) {
      near = std::min(near, depth(*p));
    }
    const float feather = kFeather * unit_;
    if (!(near < feather)) return;
    const float reach = kFades * static_cast<float>(options_.fade_frames);
    double error = 0;
    const int right = std::min(l_.side, l_.width - c * l_.side), bottom = std::min(l_.side, l_.height - r * l_.side);
    float *value = m_.row, *square = value + l_.side, *whole = square + l_.side, *risk = whole + l_.side;
    float* inside = risk + l_.side;
    for (int y = 0; y < bottom; ++y) {
      const float fy = static_cast<float>(y) / side;
      bool any = false;
      for (int x = 0; x < right; ++x) {
        inside[x] = depth(place(r, c, static_cast<float>(x) / side, fy));
        value[x] = square[x] = whole[x] = risk[x] = 0;
        any = any || inside[x] < feather;
      }
      if (!any) continue;
      Sample* out = targets_[0].data + (r * l_.side + y) * targets_[0].stride + c * l_.side;
      for (int u = 0; u < count_; ++u) {
        const FillSource<Sample>& source = sources_[static_cast<std::size_t>(m_.used[u])];
        if (static_cast<float>(source.distance) > tile.first + reach) break;
        const Node *above = node_at(u, r, c), *below = node_at(u, r + 1, c);
        for (int x = 0; x < right; ++x) {
          if (!(inside[x] < feather)) continue;
          const float fx = static_cast<float>(x) / side;
          const Point there{between(above, below, fx, fy, [](const Node& n) { return n.x; }),
                            between(above, below, fx, fy, [](const Node& n) { return n.y; })};
          if (!(depth(there, kInset) > 0)) continue;
          const float e = between(above, below, fx, fy, [](const Node& n) { return n.error; });
          const float w = weight(source.distance, there, e);
          const float v = sample(source.planes[0], there.x, there.y) +
                          between(above, below, fx, fy, [](const Node& n) { return n.color[0]; });
          whole[x] += w;
          value[x] += w * v;
          square[x] += w * v * v;
          risk[x] += w * e;
        }
      }
      std::uint8_t* bare = m_.bare + static_cast<std::ptrdiff_t>(r * l_.side + y) * l_.width + c * l_.side;
      for (int x = 0; x < right; ++x) {
        bare[x] = 0;
        if (!(inside[x] < feather)) continue;
        const bool shown = whole[x] > 1e-9f;
        bare[x] = !shown && inside[x] < 0;
        tile.bare += bare[x];
        if (!shown) continue;
        const float mean = value[x] / whole[x];
        const float own = std::clamp(inside[x] / feather, 0.0f, 1.0f);
        out[x] = rounded(own * static_cast<float>(out[x]) + (1 - own) * mean);
        if (inside[x] < 0) {
          const float variance = std::max(square[x] / whole[x] - mean * mean, 0.0f);
          error += risk[x] / whole[x] + 2 * std::sqrt(variance) / levels_;
          ++tile.filled;
        }
      }
    }
    tile.error = tile.filled > 0 ? static_cast<float>(error / tile.filled) : 0;
    if (targets_.size() == 3) blend_chroma(r, c, tile, feather, reach);
  }

  void blend_chroma(int r, int c, const Tile& tile, float feather, float reach) {
    each_chroma(r, c, 1, [&](int x, int y, float fx, float fy) {
      const float inside = depth(place(r, c, fx, fy));
      if (!(inside < feather)) return;
      float whole = 0, values[2] = {};
      for (int u = 0; u < count_; ++u) {
        const FillSource<Sample>& source = sources_[static_cast<std::size_t>(m_.used[u])];
        if (static_cast<float>(source.distance) > tile.first + reach) break;
        const Node *above = node_at(u, r, c), *below = node_at(u, r + 1, c);
        const Point there{between(above, below, fx, fy, [](const Node& n) { return n.x; }),
                          between(above, below, fx, fy, [](const Node& n) { return n.y; })};
        if (!(depth(there, kInset) > 0)) continue;
        const float e = between(above, below, fx, fy, [](const Node& n) { return n.error; });
        const float w = weight(source.distance, there, e);
        whole += w;
        for (std::size_t p = 0; p < 2; ++p) {
          values[p] += w * (chroma(source.planes[p + 1], there) +
                            between(above, below, fx, fy, [p](const Node& n) { return n.color[p + 1]; }));
        }
      }
      if (!(whole > 1e-9f)) return;
      const float own = std::clamp(inside / feather, 0.0f, 1.0f);
      for (std::size_t p = 0; p < 2; ++p) {
        Sample& out = targets_[p + 1].data[y * targets_[p + 1].stride + x];
        out = rounded(own * static_cast<float>(out) + (1 - own) * values[p] / whole);
      }
    });
  }

  /// Which tiles are too uncertain, and the figures of the whole.
  void judge(std::span<float> errors, FillResult& result) {
    double outside = 0, membrane = 0, error = 0, filled = 0;
    const auto most = static_cast<float>(options_.most_error);
    for (std::size_t i = 0; i < l_.tiles; ++i) {
      Tile& tile = m_.tile[i];
      if (!tile.outside) continue;
      tile.weak = std::clamp((tile.error - 0.75f * most) / (0.5f * most), 0.0f, 1.0f);
      errors[i] = tile.error;
      if (2 * tile.bare > tile.filled + tile.bare) errors[i] = std::numeric_limits<float>::infinity();
      outside += tile.filled + tile.bare;
      membrane += tile.bare + static_cast<double>(tile.weak) * tile.filled;
      error += static_cast<double>(tile.error) * tile.filled;
      filled += tile.filled;
    }
    const double pixels = static_cast<double>(l_.width) * l_.height;
    result.outside = outside / pixels;
    result.membrane = membrane / pixels;
    result.error = filled > 0 ? error / filled : 0;
  }

  /// A smooth continuation of what is known, where no source shows what is there.
  void span_membrane() {
    for (std::size_t p = 0; p < targets_.size(); ++p) {
      const Image<Sample>& target = targets_[p];
      const int sx = p == 0 ? 1 : siting_.sx, sy = p == 0 ? 1 : siting_.sy;
      m_.grid.clear(1);
      for (int r = 0; r < l_.down; ++r) {
        for (int c = 0; c < l_.across; ++c) {
          const Tile& tile = tile_at(r, c);
          if (!tile.outside && !tile.band) continue;
          float sum = 0, whole = 0;
          int count = 0;
          const int right = std::min((c + 1) * l_.side / sx, target.width);
          const int bottom = std::min((r + 1) * l_.side / sy, target.height);
          for (int y = r * l_.side / sy; y < bottom; ++y) {
            for (int x = c * l_.side / sx; x < right; ++x, ++count) {
              const float known = bare_at(tile, x * sx, y * sy) ? 0 : 1 - tile.weak;
              sum += known * static_cast<float>(target.data[y * target.stride + x]);
              whole += known;
            }
          }
          m_.grid.values()[r * l_.across + c] = sum / static_cast<float>(std::max(count, 1));
          m_.grid.weights()[r * l_.across + c] = whole / static_cast<float>(std::max(count, 1));
        }
      }
      m_.grid.run(1, kTrust);
      for (int r = 0; r < l_.down; ++r) {
        for (int c = 0; c < l_.across; ++c) {
          const Tile& tile = tile_at(r, c);
          if (tile.outside && (tile.bare > 0 || tile.weak > 0)) draw_membrane(r, c, target, sx, sy);
        }
      }
    }
  }

  bool bare_at(const Tile& tile, int x, int y) const {
    return tile.bare > 0 && m_.bare[static_cast<std::ptrdiff_t>(y) * l_.width + x] != 0;
  }

  void draw_membrane(int r, int c, const Image<Sample>& target, int sx, int sy) {
    const Tile& tile = tile_at(r, c);
    const float* values = m_.grid.values();
    const auto side = static_cast<float>(l_.side);
    const int right = std::min((c + 1) * l_.side / sx, target.width);
    const int bottom = std::min((r + 1) * l_.side / sy, target.height);
    for (int y = r * l_.side / sy; y < bottom; ++y) {
      const float fy = static_cast<float>(y * sy - r * l_.side) / side;
      const int below = std::clamp(fy < 0.5f ? r - 1 : r + 1, 0, l_.down - 1);
      const float vy = std::abs(fy - 0.5f);
      for (int x = c * l_.side / sx; x < right; ++x) {
        const bool bare = bare_at(tile, x * sx, y * sy);
        if (!bare && !(tile.weak > 0)) continue;
        const float fx = static_cast<float>(x * sx - c * l_.side) / side;
        const float inside = depth(place(r, c, fx, fy));
        if (!(inside < 0)) continue;
        const int beside = std::clamp(fx < 0.5f ? c - 1 : c + 1, 0, l_.across - 1);
        const float vx = std::abs(fx - 0.5f);
        const float a = values[r * l_.across + c] * (1 - vx) + values[r * l_.across + beside] * vx;
        const float b = values[below * l_.across + c] * (1 - vx) + values[below * l_.across + beside] * vx;
        const float smooth = a * (1 - vy) + b * vy;
        Sample& out = target.data[y * target.stride + x];
        // What stands there is the edge, continued, or what the sources say.
        const float kept = bare ? std::exp(inside / (kMembraneReach * unit_)) : 1 - tile.weak;
        out = rounded(kept * static_cast<float>(out) + (1 - kept) * smooth);
      }
    }
  }

  const Layout& l_;
  Memory& m_;
  const double* map_;
  const Pyramid& pyramid_;
  std::span<const FillSource<Sample>> sources_;
  std::span<const Image<Sample>> targets_;
  const Siting& siting_;
  const FillOptions& options_;
  float levels_, most_, unit_;
  std::size_t points_ = 0;
  int count_ = 0;
};

bool is_siting(const Siting& s) {
  const auto known = [](int step) { return step == 1 || step == 2 || step == 4; };
  return known(s.sx) && known(s.sy) && std::isfinite(s.ox) && std::isfinite(s.oy);
}

template <class Sample>
bool is_plane(const Image<Sample>& image, int width, int height) {
  return image.data != nullptr && image.width == width && image.height == height && std::abs(image.stride) >= width;
}

int divided(int length, int step) { return (length + step - 1) / step; }

template <class Sample>
Status checked_fill(std::span<const double> map, const Pyramid& pyramid, std::span<const FillSource<Sample>> sources,
                    std::span<const Image<Sample>> targets, const Siting& siting, int bit_depth,
                    const FillOptions& options, std::span<std::byte> workspace, std::span<float> errors,
                    FillResult& result) {
  result = FillResult{};
  if (map.size() != 9 || (targets.size() != 1 && targets.size() != 3) || !is_siting(siting) ||
      !(options.fade_frames > 0) || !(options.most_error > 0) || std::isinf(options.most_error)) {
    return Status::invalid_argument;
  }
  const int width = targets[0].width, height = targets[0].height;
  if (!is_frame_size(width, height) || std::min(pyramid.width, pyramid.height) < pyramid.factor) {
    return Status::invalid_argument;
  }
  const Layout layout = layout_of(width, height);
  bool sound = errors.size() == layout.tiles;
  for (std::size_t p = 0; p < targets.size(); ++p) {
    const int sx = p == 0 ? 1 : siting.sx, sy = p == 0 ? 1 : siting.sy;
    sound = sound && is_plane(targets[p], divided(width, sx), divided(height, sy));
    for (const FillSource<Sample>& source : sources) {
      sound = sound && is_plane(source.planes[p], divided(pyramid.width, sx), divided(pyramid.height, sy));
    }
  }
  for (std::size_t s = 0; s < sources.size(); ++s) {
    const FillSource<Sample>& source = sources[s];
    sound = sound && source.distance >= 1 && (s == 0 || source.distance >= sources[s - 1].distance);
    const Pyramid* other = source.pyramid;
    sound = sound && (other == nullptr || (other->width == pyramid.width && other->height == pyramid.height &&
                                           other->factor == pyramid.factor));
  }
  if (!sound) return Status::invalid_argument;
  const auto finite = [](std::span<const double> matrix) {
    return std::all_of(matrix.begin(), matrix.end(), [](double v) { return std::isfinite(v); });
  };
  bool known = finite(map);
  for (const FillSource<Sample>& source : sources) known = known && finite(source.map);
  if (!known) return Status::not_finite;
  const std::size_t size = fill_workspace_size(pyramid, width, height, sources.size());
  if (!is_enough(workspace, size)) return Status::workspace_too_small;
  Arena arena(workspace);
  Memory memory(layout, corners_workspace_size(pyramid), sources.size(), arena);
  // Of one sign, so that a positive third coordinate means "in front".
  double forward[9];
  const double sign = map[8] < 0 ? -1 : 1;
  for (std::size_t i = 0; i < 9; ++i) forward[i] = sign * map[i];
  return Filling<Sample>(layout, memory, forward, pyramid, sources, targets, siting, bit_depth, options)
      .run(errors, result);
}

}  // namespace

FrameSize fill_cells(int width, int height) noexcept {
  if (!is_frame_size(width, height)) return {0, 0};
  const Layout layout = layout_of(width, height);
  return {layout.across, layout.down};
}

std::size_t fill_workspace_size(const Pyramid& pyramid, int width, int height, std::size_t sources) noexcept {
  if (!is_frame_size(width, height)) return 0;
  Arena counter;
  Memory(layout_of(width, height), corners_workspace_size(pyramid), sources, counter);
  return counter.size();
}

Status fill(std::span<const double> map, const Pyramid& pyramid, std::span<const FillSource<std::uint8_t>> sources,
            std::span<const Image<std::uint8_t>> targets, const Siting& siting, const FillOptions& options,
            std::span<std::byte> workspace, std::span<float> errors, FillResult& result) noexcept {
  return checked_fill(map, pyramid, sources, targets, siting, 8, options, workspace, errors, result);
}

Status fill(std::span<const double> map, const Pyramid& pyramid, std::span<const FillSource<std::uint16_t>> sources,
            std::span<const Image<std::uint16_t>> targets, const Siting& siting, int bit_depth,
            const FillOptions& options, std::span<std::byte> workspace, std::span<float> errors,
            FillResult& result) noexcept {
  if (bit_depth < 9 || bit_depth > 16) return Status::invalid_argument;
  return checked_fill(map, pyramid, sources, targets, siting, bit_depth, options, workspace, errors, result);
}

}  // namespace legato::video
