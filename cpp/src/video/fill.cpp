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
#include <utility>

#include "core/core.h"
#include "legato/video.hpp"
#include "video/pyramid.h"
#include "video/sampling.h"

namespace legato::video {
namespace {

// Lengths are in pixels of a picture 640 wide; `unit` is one of them.
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
constexpr float kFades = 2.2f;       // of a tile's sources, the nearest that covers it and those so much farther
constexpr float kTrust = 0.02f, kPointTrust = 0.1f;
constexpr float kLeastWeight = 1e-9f;  // of all sources together, for a pixel to be shown

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
        unit_(static_cast<float>(layout.unit)),
        side_(static_cast<float>(layout.side)),
        reach_(kFades * static_cast<float>(options.fade_frames)) {
    float* row = memory.row + 5 * layout.side;
    for (float** one :
         {&seen_.x, &seen_.y, &seen_.error, &seen_.weight, seen_.color, seen_.color + 1, seen_.color + 2}) {
      *one = row;
      row += layout.side;
    }
  }

  Status run(std::span<float> errors, FillResult& result) {
    std::fill(errors.begin(), errors.end(), 0.0f);
    if (!look()) return Status::ok;
    find_points();
    weigh_band();
    for (std::size_t s = 0; s < sources_.size(); ++s) {
      if (cancelled()) return Status::cancelled;
      if (wanted(sources_[s])) align(static_cast<int>(s));
    }
    result.sources = count_;
    for (int i = 0; i < active_; ++i) {
      if (i % 64 == 0 && cancelled()) return Status::cancelled;
      blend(m_.active[i]);
    }
    judge(errors, result);
    if (result.membrane > 0) span_membrane();
    return outcome();
  }

 private:
  Tile& tile_at(int r, int c) { return m_.tile[r * l_.across + c]; }
  int node_index(int r, int c) const { return r * (l_.across + 1) + c; }
  const Node* node_at(int used, int r, int c) const {
    return m_.nodes + static_cast<std::size_t>(used) * l_.nodes + node_index(r, c);
  }
  Row<Point> places(Cell cell, float fy) const {
    return {m_.place + node_index(cell.r, cell.c), m_.place + node_index(cell.r + 1, cell.c), fy};
  }
  Row<Node> nodes(int used, Cell cell, float fy) const {
    return {node_at(used, cell.r, cell.c), node_at(used, cell.r + 1, cell.c), fy};
  }

  /// How far inside of a frame a point lies, negative outside.
  float depth(Point p) const {
    const auto right = static_cast<float>(pyramid_.width - 1), bottom = static_cast<float>(pyramid_.height - 1);
    return std::min(std::min(p.x, right - p.x), std::min(p.y, bottom - p.y));
  }
  /// The same of a source's place, whose edge rows are not used.
  float depth(const Node& n) const { return depth(Point{n.x, n.y}) - kInset; }

  /// The least and the greatest depth of a tile's corners.
  template <class Value>
  std::pair<float, float> depths(const Value* above, const Value* below) const {
    return std::minmax({depth(above[0]), depth(above[1]), depth(below[0]), depth(below[1])});
  }

  /// Finds the tiles that need something; false: none does.
  bool look() {
    for (int r = 0; r <= l_.down; ++r) {
      for (int c = 0; c <= l_.across; ++c) m_.place[node_index(r, c)] = mapped(map_, c * l_.side, r * l_.side);
    }
    outside_ = active_ = needed_ = count_ = 0;
    for (int r = 0; r < l_.down; ++r) {
      for (int c = 0; c < l_.across; ++c) {
        // Within the tile's own pixels: the last nodes lie beyond the picture.
        const float right = static_cast<float>(std::min(l_.side, l_.width - c * l_.side) - 1) / side_;
        const float bottom = static_cast<float>(std::min(l_.side, l_.height - r * l_.side) - 1) / side_;
        const Row<Point> first = places({r, c}, 0), last = places({r, c}, bottom);
        const float least = std::min(std::min(depth(first.left), depth(first.at(right))),
                                     std::min(depth(last.left), depth(last.at(right))));
        tile_at(r, c) = {least < 0, false, std::numeric_limits<float>::infinity(), 0, 0, 0, 0};
        if (least < 0) m_.outside[outside_++] = {r, c};
      }
    }
    for (int i = 0; i < outside_; ++i) {  // tiles near one outside, marked by way of `band`
      const auto [r, c] = m_.outside[i];
      for (int y = std::max(r - kBandTiles, 0); y <= std::min(r + kBandTiles, l_.down - 1); ++y) {
        for (int x = std::max(c - kBandTiles, 0); x <= std::min(c + kBandTiles, l_.across - 1); ++x) {
          tile_at(y, x).band = true;
        }
      }
    }
    for (int r = 0; r < l_.down; ++r) {
      for (int c = 0; c < l_.across; ++c) {
        Tile& tile = tile_at(r, c);
        if (!tile.band) continue;
        tile.band = depths(m_.place + node_index(r, c), m_.place + node_index(r + 1, c)).second >= 0;
        m_.active[active_++] = {r, c};
      }
    }
    for (int r = 0; r <= l_.down; ++r) {
      for (int c = 0; c <= l_.across; ++c) {
        bool needed = false;
        for (int y = std::max(r - 1, 0); y <= std::min(r, l_.down - 1); ++y) {
          for (int x = std::max(c - 1, 0); x <= std::min(c, l_.across - 1); ++x) {
            needed = needed || tile_at(y, x).outside || tile_at(y, x).band;
          }
        }
        if (needed) m_.needed[needed_++] = {r, c};
      }
    }
    return outside_ > 0;
  }

  /// Corners of the frame near those of its edges that the picture looks beyond.
  void find_points() {
    points_ = 0;
    if (!invert(map_, inverse_)) return;
    float all[2 * kMostMatches];
    const std::size_t count = corners_of(pyramid_, nullptr, m_.corners_workspace, all, kMostMatches);
    for (std::size_t i = 0; i < count && points_ < kPoints; ++i) {
      const Point p{full(all[2 * i]), full(all[2 * i + 1])};
      if (depth(p) > kPointBand * unit_) continue;
      const Point seen = mapped(inverse_, p.x, p.y);
      if (!(seen.x >= 0 && seen.y >= 0 && seen.x < side_ * static_cast<float>(l_.across) &&
            seen.y < side_ * static_cast<float>(l_.down))) {
        continue;
      }
      m_.points[2 * points_] = all[2 * i];
      m_.points[2 * points_ + 1] = all[2 * i + 1];
      ++points_;
    }
  }

  // Between pixels of the frame and of the picture in which points are followed.
  float full(float v) const { return (v + 0.5f) * static_cast<float>(pyramid_.factor) - 0.5f; }
  float work(float v) const { return (v + 0.5f) / static_cast<float>(pyramid_.factor) - 0.5f; }

  /// Calls f(i, x, y, fx, fy) for the luma samples at which a tile is compared.
  template <class Call>
  void each_sample(Cell cell, Call f) const {
    const int step = l_.side / kSamplesAcross;
    for (int i = 0; i < kSamples; ++i) {
      const int x = i % kSamplesAcross * step + l_.unit / 2, y = i / kSamplesAcross * step + l_.unit / 2;
      const int px = cell.c * l_.side + x, py = cell.r * l_.side + y;
      if (px < l_.width && py < l_.height) {
        f(i, px, py, static_cast<float>(x) / side_, static_cast<float>(y) / side_);
      }
    }
  }

  /// The same for its chroma.
  template <class Call>
  void each_chroma_sample(Cell cell, Call f) const {
    constexpr int across = kSamplesAcross / 2;
    const int wide = l_.side / siting_.sx, high = l_.side / siting_.sy;
    for (int i = 0; i < kChromaSamples; ++i) {
      const int x = (2 * (i % across) + 1) * wide / kSamplesAcross, y = (2 * (i / across) + 1) * high / kSamplesAcross;
      const int px = cell.c * wide + x, py = cell.r * high + y;
      if (px < targets_[1].width && py < targets_[1].height) {
        f(i, px, py, (static_cast<float>(x * siting_.sx) + static_cast<float>(siting_.ox)) / side_,
          (static_cast<float>(y * siting_.sy) + static_cast<float>(siting_.oy)) / side_);
      }
    }
  }

  /// How much each sample of the band tells of what lies outside.
  void weigh_band() {
    const auto weight = [this](Cell cell, float fx, float fy, float inset) {
      const float inside = depth(places(cell, fy).at(fx)) - inset;
      return inside >= 0 ? std::exp(-inside / (kColorReach * unit_)) + 1e-3f : 0.0f;
    };
    for (int k = 0; k < active_; ++k) {
      const Cell cell = m_.active[k];
      if (!tile_at(cell.r, cell.c).band) continue;
      float *luma = m_.weight + k * kSamples, *chroma = m_.chroma_weight + k * kChromaSamples;
      std::fill_n(luma, kSamples, 0.0f);
      std::fill_n(chroma, kChromaSamples, 0.0f);
      each_sample(cell, [&](int i, int, int, float fx, float fy) { luma[i] = weight(cell, fx, fy, 1); });
      if (targets_.size() < 3) continue;
      each_chroma_sample(cell, [&](int i, int, int, float fx, float fy) { chroma[i] = weight(cell, fx, fy, 2); });
    }
  }

  /// Whether some tile outside lacks this source.
  bool wanted(const FillSource<Sample>& source) {
    const auto distance = static_cast<float>(source.distance);
    for (int i = 0; i < outside_; ++i) {
      const auto [r, c] = m_.outside[i];
      if (distance > tile_at(r, c).first + reach_) continue;
      // The middle tells of most tiles, and costs one division for four.
      const Point middle = places({r, c}, 0.5f).at(0.5f);
      if (depth(mapped(source.map, middle.x, middle.y)) > kInset) return true;
    }
    return false;
  }

  /// Positions, colors and predicted errors of a source, on its nodes.
  void align(int index) {
    const FillSource<Sample>& source = sources_[static_cast<std::size_t>(index)];
    const auto distance = static_cast<float>(source.distance);
    m_.used[count_] = index;
    m_.fade[count_] = std::exp(-distance / static_cast<float>(options_.fade_frames));
    Node* nodes = m_.nodes + static_cast<std::size_t>(count_) * l_.nodes;
    const bool shifted = follow(source);
    for (int i = 0; i < needed_; ++i) {
      const auto [r, c] = m_.needed[i];
      Point p = m_.place[node_index(r, c)];
      if (shifted) {
        const Point shift = shift_at(r, c);
        p.x += shift.x;
        p.y += shift.y;
      }
      const Point there = mapped(source.map, p.x, p.y);
      nodes[node_index(r, c)] = {there.x, there.y, {0, 0, 0}, kUnknownError};
    }
    compare(source);
    for (int i = 0; i < outside_; ++i) {
      const auto [r, c] = m_.outside[i];
      Tile& tile = tile_at(r, c);
      if (tile.first > distance &&
          depths(node_at(count_, r, c), node_at(count_, r + 1, c)).first > 0.3f * kRamp * unit_) {
        tile.first = distance;
      }
    }
    ++count_;
  }

  /// What is left of the motion after the homography, from points near the seam; false: nothing is known of it.
  bool follow(const FillSource<Sample>& source) {
    double back[9];
    if (points_ == 0 || source.pyramid == nullptr || !invert(source.map, back)) return false;
    std::size_t count = 0;
    for (std::size_t i = 0; i < points_; ++i) {
      const Point there = mapped(source.map, full(m_.points[2 * i]), full(m_.points[2 * i + 1]));
      if (!(depth(there) > 0)) continue;
      // Those that the source shows come to the front; the others stay, for other sources.
      std::swap(m_.points[2 * i], m_.points[2 * count]);
      std::swap(m_.points[2 * i + 1], m_.points[2 * count + 1]);
      m_.start[2 * count] = work(there.x);
      m_.start[2 * count + 1] = work(there.y);
      ++count;
    }
    if (count == 0) return false;
    follow_points(pyramid_, *source.pyramid, m_.points, m_.start, count, static_cast<float>(kRoundTrip), m_.moved,
                  m_.found, nullptr);
    m_.coarse.clear(2);
    const int across = (l_.across + 1) / 2, down = (l_.down + 1) / 2;
    bool any = false;
    for (std::size_t i = 0; i < count; ++i) {
      if (!m_.found[i]) continue;
      const Point here{full(m_.points[2 * i]), full(m_.points[2 * i + 1])};
      const Point there = mapped(back, full(m_.moved[2 * i]), full(m_.moved[2 * i + 1]));
      const float dx = there.x - here.x, dy = there.y - here.y;
      if (!(dx * dx + dy * dy < kMostShift * kMostShift * unit_ * unit_)) continue;
      const Point seen = mapped(inverse_, here.x, here.y);
      const int c = std::clamp(static_cast<int>(seen.x / (2 * side_)), 0, across - 1);
      const int r = std::clamp(static_cast<int>(seen.y / (2 * side_)), 0, down - 1);
      const float weight = kFarPoint + std::exp(-std::max(depth(here), 0.0f) / (kPointReach * unit_));
      m_.coarse.weights()[r * across + c] += weight;
      m_.coarse.values(0)[r * across + c] += weight * dx;
      m_.coarse.values(1)[r * across + c] += weight * dy;
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
    const auto at = [&](const float* v) {
      const float a = v[y0 + x0] + fx * (v[y0 + x1] - v[y0 + x0]);
      const float b = v[y1 + x0] + fx * (v[y1 + x1] - v[y1 + x0]);
      return a + fy * (b - a);
    };
    return {at(m_.coarse.values(0)), at(m_.coarse.values(1))};
  }

  /// Compares a source with the frame in the band: colors to be added and predicted errors go to the nodes.
  void compare(const FillSource<Sample>& source) {
    const bool colored = targets_.size() == 3;
    const int channels = colored ? 4 : 2;
    Extension& grid = m_.grid;
    grid.clear(channels);
    float known = 0;
    for (int k = 0; k < active_; ++k) {
      const Cell cell = m_.active[k];
      if (!tile_at(cell.r, cell.c).band) continue;
      known += compare_luma(source, cell, m_.weight + k * kSamples);
      if (colored) compare_chroma(source, cell, m_.chroma_weight + k * kChromaSamples);
    }
    if (!(known > 0)) return;
    grid.run(channels, kTrust);
    Node* nodes = m_.nodes + static_cast<std::size_t>(count_) * l_.nodes;
    for (int i = 0; i < needed_; ++i) {
      const auto [r, c] = m_.needed[i];
      const int y0 = std::max(r - 1, 0) * l_.across, y1 = std::min(r, l_.down - 1) * l_.across;
      const int x0 = std::max(c - 1, 0), x1 = std::min(c, l_.across - 1);
      const auto mean = [&](int channel) {
        const float* v = grid.values(channel);
        return 0.25f * ((v[y0 + x0] + v[y0 + x1]) + (v[y1 + x0] + v[y1 + x1]));
      };
      Node& node = nodes[node_index(r, c)];
      node.color[0] = mean(0);
      node.error = mean(1);
      if (colored) node.color[1] = mean(2), node.color[2] = mean(3);
    }
  }

  /// Mean difference of a tile's luma, and the mean deviation from it; the weight of both.
  float compare_luma(const FillSource<Sample>& source, Cell cell, const float* weight) {
    const Image<Sample>& target = targets_[0];
    const Node *above = node_at(count_, cell.r, cell.c), *below = node_at(count_, cell.r + 1, cell.c);
    if (!(depths(above, below).second >= 0)) return 0;
    const float most = kMostColor * levels_;
    float difference[kSamples], share[kSamples] = {}, sum = 0, whole = 0, deviation = 0;
    each_sample(cell, [&](int i, int x, int y, float fx, float fy) {
      if (!(weight[i] > 0)) return;
      const Node there = between(between(above[0], above[1], fx), between(below[0], below[1], fx), fy);
      if (!(depth(there) >= 0)) return;
      difference[i] =
          static_cast<float>(target.data[y * target.stride + x]) - sample_linear(source.planes[0], there.x, there.y);
      share[i] = weight[i];
      sum += weight[i] * std::clamp(difference[i], -most, most);
      whole += weight[i];
    });
    if (!(whole > 0)) return 0;
    for (int i = 0; i < kSamples; ++i) {
      if (share[i] > 0) deviation += share[i] * std::abs(difference[i] - sum / whole);
    }
    const int at = cell.r * l_.across + cell.c;
    m_.grid.weights()[at] = whole / kSamples;
    m_.grid.values(0)[at] = sum / kSamples;
    m_.grid.values(1)[at] = deviation / levels_ / kSamples;
    return whole;
  }

  /// Mean differences of its chroma, by the weight of its luma.
  void compare_chroma(const FillSource<Sample>& source, Cell cell, const float* weight) {
    const int at = cell.r * l_.across + cell.c;
    if (!(m_.grid.weights()[at] > 0)) return;
    const Node *above = node_at(count_, cell.r, cell.c), *below = node_at(count_, cell.r + 1, cell.c);
    const float most = kMostColor * levels_;
    float sums[2] = {}, whole = 0;
    each_chroma_sample(cell, [&](int i, int x, int y, float fx, float fy) {
      if (!(weight[i] > 0)) return;
      const Node there = between(between(above[0], above[1], fx), between(below[0], below[1], fx), fy);
      if (!(depth(there) >= 0)) return;
      for (std::size_t p = 0; p < 2; ++p) {
        const Image<Sample>& target = targets_[p + 1];
        const auto own = static_cast<float>(target.data[y * target.stride + x]);
        sums[p] += weight[i] * std::clamp(own - chroma(source.planes[p + 1], {there.x, there.y}), -most, most);
      }
      whole += weight[i];
    });
    if (!(whole > 0)) return;
    for (int p = 0; p < 2; ++p) m_.grid.values(2 + p)[at] = sums[p] / whole * m_.grid.weights()[at];
  }

  /// The chroma sample at a luma position.
  float chroma(const Image<const Sample>& plane, Point there) const {
    return sample_linear(plane, (there.x - static_cast<float>(siting_.ox)) / static_cast<float>(siting_.sx),
                         (there.y - static_cast<float>(siting_.oy)) / static_cast<float>(siting_.sy));
  }

  Sample rounded(float v) const { return static_cast<Sample>(std::clamp(v, 0.0f, most_) + 0.5f); }

  /// What a source says of the pixels of a row of a tile, those at `step` x + `offset`: places, colors, predicted
  /// errors and weights, which are 0 where it does not show them.
  void weigh(int used, const Row<Node>& row, int begin, int end, int step, float offset) {
    const Node &a = row.left, &b = row.right;
    const float pace = static_cast<float>(step) / side_, first = offset / side_, fade = m_.fade[used];
    const float right = static_cast<float>(pyramid_.width - 1) - kInset, ramp = 1 / (kRamp * unit_);
    const float bottom = static_cast<float>(pyramid_.height - 1) - kInset;
    for (int x = begin; x < end; ++x) {
      const float f = static_cast<float>(x) * pace + first;
      const float px = a.x + f * (b.x - a.x), py = a.y + f * (b.y - a.y), e = a.error + f * (b.error - a.error);
      const float deep = std::min(std::min(px - kInset, right - px), std::min(py - kInset, bottom - py));
      seen_.x[x] = px;
      seen_.y[x] = py;
      seen_.error[x] = e;
      seen_.weight[x] = std::max(std::min(deep * ramp, 1.0f), 0.0f) * (fade / (e * e + kLeastVariance));
      for (int p = 0; p < 3; ++p) seen_.color[p][x] = a.color[p] + f * (b.color[p] - a.color[p]);
    }
  }

  /// Calls f(used, source) for the sources that show some of a tile, as far as they count.
  template <class Call>
  void each_source(Cell cell, Call f) {
    const float first = tile_at(cell.r, cell.c).first;
    for (int u = 0; u < count_; ++u) {
      const FillSource<Sample>& source = sources_[static_cast<std::size_t>(m_.used[u])];
      if (static_cast<float>(source.distance) > first + reach_) return;
      if (depths(node_at(u, cell.r, cell.c), node_at(u, cell.r + 1, cell.c)).second > 0) f(u, source);
    }
  }

  /// Draws what a tile lacks.
  void blend(Cell cell) {
    const auto [r, c] = cell;
    Tile& tile = tile_at(r, c);
    const float feather = kFeather * unit_;
    if (!(tile.outside || tile.band) ||
        !(depths(m_.place + node_index(r, c), m_.place + node_index(r + 1, c)).first < feather)) {
      return;
    }
    double error = 0;
    const int right = std::min(l_.side, l_.width - c * l_.side), bottom = std::min(l_.side, l_.height - r * l_.side);
    float *value = m_.row, *square = value + l_.side, *whole = square + l_.side, *risk = whole + l_.side;
    float* inside = risk + l_.side;
    for (int y = 0; y < bottom; ++y) {
      const float fy = static_cast<float>(y) / side_;
      const Row<Point> place = places(cell, fy);
      int begin = right, end = 0;
      for (int x = 0; x < right; ++x) {
        inside[x] = depth(place.at(static_cast<float>(x) / side_));
        value[x] = square[x] = whole[x] = risk[x] = 0;
        if (inside[x] < feather) begin = std::min(begin, x), end = x + 1;
      }
      std::uint8_t* bare = m_.bare + static_cast<std::ptrdiff_t>(r * l_.side + y) * l_.width + c * l_.side;
      std::fill_n(bare, right, std::uint8_t{0});
      if (begin >= end) continue;
      each_source(cell, [&](int u, const FillSource<Sample>& source) {
        weigh(u, nodes(u, cell, fy), begin, end, 1, 0);
        for (int x = begin; x < end; ++x) {
          const float w = seen_.weight[x];
          if (!(w > 0)) continue;
          const float v = sample(source.planes[0], seen_.x[x], seen_.y[x]) + seen_.color[0][x];
          whole[x] += w;
          value[x] += w * v;
          square[x] += w * v * v;
          risk[x] += w * seen_.error[x];
        }
      });
      Sample* out = targets_[0].data + (r * l_.side + y) * targets_[0].stride + c * l_.side;
      for (int x = begin; x < end; ++x) {
        if (!(inside[x] < feather)) continue;
        if (!(whole[x] > kLeastWeight)) {
          bare[x] = inside[x] < 0;
          tile.bare += bare[x];
          continue;
        }
        const float mean = value[x] / whole[x], own = std::clamp(inside[x] / feather, 0.0f, 1.0f);
        out[x] = rounded(own * static_cast<float>(out[x]) + (1 - own) * mean);
        if (inside[x] < 0) {
          const float variance = std::max(square[x] / whole[x] - mean * mean, 0.0f);
          error += risk[x] / whole[x] + 2 * std::sqrt(variance) / levels_;
          ++tile.filled;
        }
      }
    }
    tile.error = tile.filled > 0 ? static_cast<float>(error / tile.filled) : 0;
    if (targets_.size() == 3) blend_chroma(cell);
  }

  void blend_chroma(Cell cell) {
    const float feather = kFeather * unit_;
    const int wide = l_.side / siting_.sx, high = l_.side / siting_.sy;
    const int right = std::min(wide, targets_[1].width - cell.c * wide);
    const int bottom = std::min(high, targets_[1].height - cell.r * high);
    float *whole = m_.row, *inside = whole + l_.side, *values[2] = {inside + l_.side, inside + 2 * l_.side};
    const auto along = [this](int x) {
      return (static_cast<float>(x * siting_.sx) + static_cast<float>(siting_.ox)) / side_;
    };
    for (int y = 0; y < bottom; ++y) {
      const float fy = (static_cast<float>(y * siting_.sy) + static_cast<float>(siting_.oy)) / side_;
      const Row<Point> place = places(cell, fy);
      int begin = right, end = 0;
      for (int x = 0; x < right; ++x) {
        inside[x] = depth(place.at(along(x)));
        whole[x] = values[0][x] = values[1][x] = 0;
        if (inside[x] < feather) begin = std::min(begin, x), end = x + 1;
      }
      if (begin >= end) continue;
      each_source(cell, [&](int u, const FillSource<Sample>& source) {
        weigh(u, nodes(u, cell, fy), begin, end, siting_.sx, static_cast<float>(siting_.ox));
        for (int x = begin; x < end; ++x) {
          const float w = seen_.weight[x];
          if (!(w > 0)) continue;
          whole[x] += w;
          for (std::size_t p = 0; p < 2; ++p) {
            values[p][x] += w * (chroma(source.planes[p + 1], {seen_.x[x], seen_.y[x]}) + seen_.color[p + 1][x]);
          }
        }
      });
      for (std::size_t p = 0; p < 2; ++p) {
        Sample* out = targets_[p + 1].data + (cell.r * high + y) * targets_[p + 1].stride + cell.c * wide;
        for (int x = begin; x < end; ++x) {
          if (!(inside[x] < feather) || !(whole[x] > kLeastWeight)) continue;
          const float own = std::clamp(inside[x] / feather, 0.0f, 1.0f);
          out[x] = rounded(own * static_cast<float>(out[x]) + (1 - own) * values[p][x] / whole[x]);
        }
      }
    }
  }

  /// Which tiles are too uncertain, and the figures of the whole.
  void judge(std::span<float> errors, FillResult& result) {
    double outside = 0, membrane = 0, error = 0, filled = 0;
    const auto most = static_cast<float>(options_.most_error);
    for (int i = 0; i < outside_; ++i) {
      const auto [r, c] = m_.outside[i];
      Tile& tile = tile_at(r, c);
      tile.weak = std::clamp((tile.error - 0.75f * most) / (0.5f * most), 0.0f, 1.0f);
      const bool unknown = tile.bare > tile.filled;
      errors[static_cast<std::size_t>(r * l_.across + c)] =
          unknown ? std::numeric_limits<float>::infinity() : tile.error;
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
      for (int i = 0; i < active_; ++i) {
        const auto [r, c] = m_.active[i];
        const Tile& tile = tile_at(r, c);
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
        m_.grid.values(0)[r * l_.across + c] = sum / static_cast<float>(std::max(count, 1));
        m_.grid.weights()[r * l_.across + c] = whole / static_cast<float>(std::max(count, 1));
      }
      m_.grid.run(1, kTrust);
      for (int i = 0; i < outside_; ++i) {
        const Tile& tile = tile_at(m_.outside[i].r, m_.outside[i].c);
        if (tile.bare > 0 || tile.weak > 0) draw_membrane(m_.outside[i], target, sx, sy);
      }
    }
  }

  bool bare_at(const Tile& tile, int x, int y) const {
    return tile.bare > 0 && m_.bare[static_cast<std::ptrdiff_t>(y) * l_.width + x] != 0;
  }

  void draw_membrane(Cell cell, const Image<Sample>& target, int sx, int sy) {
    const auto [r, c] = cell;
    const Tile& tile = tile_at(r, c);
    const float* values = m_.grid.values(0);
    const int right = std::min((c + 1) * l_.side / sx, target.width);
    const int bottom = std::min((r + 1) * l_.side / sy, target.height);
    for (int y = r * l_.side / sy; y < bottom; ++y) {
      const float fy = static_cast<float>(y * sy - r * l_.side) / side_, vy = std::abs(fy - 0.5f);
      const int below = std::clamp(fy < 0.5f ? r - 1 : r + 1, 0, l_.down - 1);
      const Row<Point> place = places(cell, fy);
      for (int x = c * l_.side / sx; x < right; ++x) {
        const bool bare = bare_at(tile, x * sx, y * sy);
        const float fx = static_cast<float>(x * sx - c * l_.side) / side_, vx = std::abs(fx - 0.5f);
        const float inside = depth(place.at(fx));
        if (!(inside < 0) || !(bare || tile.weak > 0)) continue;
        const int beside = std::clamp(fx < 0.5f ? c - 1 : c + 1, 0, l_.across - 1);
        const float a = values[r * l_.across + c] * (1 - vx) + values[r * l_.across + beside] * vx;
        const float b = values[below * l_.across + c] * (1 - vx) + values[below * l_.across + beside] * vx;
        Sample& out = target.data[y * target.stride + x];
        // What stands there is the edge, continued, or what the sources say.
        const float kept = bare ? std::exp(inside / (kMembraneReach * unit_)) : 1 - tile.weak;
        out = rounded(kept * static_cast<float>(out) + (1 - kept) * (a * (1 - vy) + b * vy));
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
  float levels_, most_, unit_, side_, reach_;
  double inverse_[9];  // of the map
  struct {
    float *x, *y, *error, *weight, *color[3];
  } seen_;  // of a row of a tile, in a source
  std::size_t points_ = 0;
  int outside_ = 0, active_ = 0, needed_ = 0, count_ = 0;
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
