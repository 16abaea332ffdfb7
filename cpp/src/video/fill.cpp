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
#include "video/mapping.h"
#include "video/pyramid.h"

#define LEGATO_REGION_FILE "video/fill-inl.h"
#include "core/isa_region.h"

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
constexpr float kFeather = 6;
constexpr float kMembraneReach = 6;
constexpr float kUnknownError = 40;  // of a source that overlaps the frame nowhere near
constexpr float kFades = 2.2f;       // of a tile's sources, the nearest that covers it and those so much farther
constexpr float kTrust = 0.02f, kPointTrust = 0.1f;

template <class Sample>
class Filling {
 public:
  Filling(const Layout& layout, Memory<Sample>& memory, const double* map, const Pyramid& pyramid,
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
        reach_(kFades * static_cast<float>(options.fade_frames)),
        frame_{layout.across,
               static_cast<float>(pyramid.width - 1),
               static_cast<float>(pyramid.height - 1),
               static_cast<float>(siting.sx),
               static_cast<float>(siting.sy),
               static_cast<float>(siting.ox),
               static_cast<float>(siting.oy)} {}

  Status run(std::span<float> errors, FillResult& result) {
    std::fill(errors.begin(), errors.end(), 0.0f);
    if (!look()) return Status::ok;
    find_points();
    lay_out_packs();
    weigh_band();
    for (const FillSource<Sample>& source : sources_) {
      if (cancelled()) return Status::cancelled;
      if (wanted(source)) align(source);
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
  Node* nodes_of(int used) const { return m_.nodes + static_cast<std::size_t>(used) * l_.nodes; }
  Row<Point> places(Cell cell, float fy) const {
    return {m_.place + node_index(cell.r, cell.c), m_.place + node_index(cell.r + 1, cell.c), fy};
  }
  /// How far inside of a frame a point lies, negative outside.
  float depth(Point p) const { return std::min(std::min(p.x, frame_.right - p.x), std::min(p.y, frame_.bottom - p.y)); }
  /// The same of a source's place, whose edge rows are not used.
  float depth(const Node& n) const { return depth(Point{n.x, n.y}) - kInset; }

  /// The least and the greatest depth of a tile's corners.
  template <class Value>
  std::pair<float, float> depths(const Value* nodes, Cell cell) const {
    const Value *above = nodes + node_index(cell.r, cell.c), *below = above + l_.across + 1;
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
        tile.band = depths(m_.place, {r, c}).second >= 0;
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

  /// Samples of a plane's tile at x(i), y(i), in packs; `sx`, `sy`, `ox`, `oy`: where they lie on the luma's grid.
  template <class Place>
  void lay_out(Pack* packs, int count, int sx, int sy, float ox, float oy, Place place) const {
    constexpr std::int32_t beyond = 1 << 30;
    for (int i = 0; i < (count + kPack - 1) / kPack * kPack; ++i) {
      Pack& pack = packs[i / kPack];
      const auto [x, y] = i < count ? place(i) : std::pair{beyond, beyond};
      pack.x[i % kPack] = x;
      pack.y[i % kPack] = y;
      pack.across[i % kPack] = i < count ? (static_cast<float>(x * sx) + ox) / side_ : 0;
      pack.down[i % kPack] = i < count ? (static_cast<float>(y * sy) + oy) / side_ : 0;
    }
  }

  void lay_out_packs() {
    const int side = l_.side, wide = side / siting_.sx, high = side / siting_.sy;
    const auto rows_of = [](int across) { return [across](int i) { return std::pair{i % across, i / across}; }; };
    lay_out(m_.luma, side * side, 1, 1, 0, 0, rows_of(side));
    lay_out(m_.chroma, wide * high, siting_.sx, siting_.sy, frame_.ox, frame_.oy, rows_of(wide));
    lay_out(samples_, kSamples, 1, 1, 0, 0, [this, step = side / kSamplesAcross](int i) {
      return std::pair{i % kSamplesAcross * step + l_.unit / 2, i / kSamplesAcross * step + l_.unit / 2};
    });
    constexpr int across = kSamplesAcross / 2;
    lay_out(&chroma_samples_, kChromaSamples, siting_.sx, siting_.sy, frame_.ox, frame_.oy, [wide, high](int i) {
      return std::pair{(2 * (i % across) + 1) * wide / kSamplesAcross, (2 * (i / across) + 1) * high / kSamplesAcross};
    });
  }

  /// Samples of a tile of some plane.
  struct Extent {
    int x, y, columns, rows;  // the first, and how many
  };
  Extent extent(Cell cell, std::size_t plane) const {
    const int wide = l_.side / (plane == 0 ? 1 : siting_.sx), high = l_.side / (plane == 0 ? 1 : siting_.sy);
    const int x = cell.c * wide, y = cell.r * high;
    return {x, y, std::min(wide, targets_[plane].width - x), std::min(high, targets_[plane].height - y)};
  }

  /// The samples of a tile's band and how much each tells of what lies outside: nothing, if it lies there.
  void sample_tile(Cell cell, std::size_t plane, const Pack& pack, float inset, float* weight, float* own) const {
    const Extent tile = extent(cell, plane);
    const Image<Sample>& target = targets_[plane];
    for (int i = 0; i < kPack; ++i) {
      weight[i] = own[i] = 0;
      if (pack.x[i] >= tile.columns || pack.y[i] >= tile.rows) continue;
      const float inside = depth(places(cell, pack.down[i]).at(pack.across[i])) - inset;
      if (inside >= 0) weight[i] = std::exp(-inside / (kColorReach * unit_)) + 1e-3f;
      own[i] = static_cast<float>(target.data[(tile.y + pack.y[i]) * target.stride + tile.x + pack.x[i]]);
    }
  }

  void weigh_band() {
    band_ = 0;
    for (int k = 0; k < active_; ++k) {
      const Cell cell = m_.active[k];
      if (!tile_at(cell.r, cell.c).band) continue;
      BandTile& tile = m_.band[band_++];
      tile.node = node_index(cell.r, cell.c);
      tile.cell = cell.r * l_.across + cell.c;
      for (int p = 0; p < kSamples / kPack; ++p) {
        sample_tile(cell, 0, samples_[p], 1, tile.weight + p * kPack, tile.own + p * kPack);
      }
      for (std::size_t p = 1; p < targets_.size(); ++p) {
        sample_tile(cell, p, chroma_samples_, 2, tile.chroma_weight, tile.chroma_own[p - 1]);
      }
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
  void align(const FillSource<Sample>& source) {
    const auto distance = static_cast<float>(source.distance);
    Node* nodes = nodes_of(count_);
    m_.distance[count_] = distance;
    Lending<Sample>& lending = m_.lending[count_];
    lending.nodes = nodes;
    std::copy_n(source.planes, 3, lending.plane);
    lending.fade = std::exp(-distance / static_cast<float>(options_.fade_frames));
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
    compare(lending);
    for (int i = 0; i < outside_; ++i) {
      const auto [r, c] = m_.outside[i];
      Tile& tile = tile_at(r, c);
      if (tile.first > distance && depths(nodes, {r, c}).first > 0.3f * kRamp * unit_) {
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
  void compare(const Lending<Sample>& source) {
    const bool colored = targets_.size() == 3;
    const int channels = colored ? 4 : 2;
    Extension& grid = m_.grid;
    grid.clear(channels);
    CompareJob<Sample> job{frame_,   source,           m_.band, band_,
                           samples_, &chroma_samples_, colored, kMostColor * levels_,
                           levels_,  grid.weights(),   {}};
    for (int c = 0; c < channels; ++c) job.values[c] = grid.values(c);
    if (!(LEGATO_DISPATCH(compare_band, job) > 0)) return;
    grid.run(channels, kTrust);
    Node* nodes = nodes_of(count_);
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

  /// Draws what a tile lacks.
  void blend(Cell cell) {
    const auto [r, c] = cell;
    Tile& tile = tile_at(r, c);
    const float feather = kFeather * unit_;
    if (!(tile.outside || tile.band) || !(depths(m_.place, cell).first < feather)) return;
    int showing = 0;
    for (int u = 0; u < count_ && m_.distance[u] <= tile.first + reach_; ++u) {
      if (depths(m_.lending[u].nodes, cell).second > 0) m_.showing[showing++] = &m_.lending[u];
    }
    Extent place = extent(cell, 0);
    BlendJob<Sample> job{};
    job.frame = frame_, job.node = node_index(r, c), job.place = m_.place;
    job.source = m_.showing, job.fields = m_.fields, job.count = showing;
    job.feather = feather, job.ramp = kRamp * unit_, job.most = most_, job.levels = levels_;
    job.bare = m_.bare + static_cast<std::ptrdiff_t>(place.y) * l_.width + place.x, job.bare_stride = l_.width;
    for (int y = 0; y < place.rows; ++y) std::fill_n(job.bare + y * job.bare_stride, place.columns, std::uint8_t{0});
    const auto aim = [&](std::size_t plane, std::size_t at) {
      place = extent(cell, plane);
      job.columns = place.columns, job.rows = place.rows;
      job.target[at] = targets_[plane].data + place.y * targets_[plane].stride + place.x;
      job.stride[at] = targets_[plane].stride;
    };
    aim(0, 0);
    job.pack = m_.luma, job.packs = l_.side * l_.side / kPack;
    const TileSums sums = LEGATO_DISPATCH(blend_tile<true>, job);
    tile.filled = sums.filled, tile.bare = sums.bare;
    tile.error = sums.filled > 0 ? sums.error / static_cast<float>(sums.filled) : 0;
    if (targets_.size() < 3) return;
    aim(1, 0);
    aim(2, 1);
    job.pack = m_.chroma, job.packs = (l_.side / siting_.sx * (l_.side / siting_.sy) + kPack - 1) / kPack;
    LEGATO_DISPATCH(blend_tile<false>, job);
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

  Sample rounded(float v) const { return static_cast<Sample>(std::clamp(v, 0.0f, most_) + 0.5f); }

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
  Memory<Sample>& m_;
  const double* map_;
  const Pyramid& pyramid_;
  std::span<const FillSource<Sample>> sources_;
  std::span<const Image<Sample>> targets_;
  const Siting& siting_;
  const FillOptions& options_;
  float levels_, most_, unit_, side_, reach_;
  double inverse_[9];  // of the map
  Frame frame_;
  Pack samples_[kSamples / kPack], chroma_samples_;  // at which a tile is compared
  std::size_t points_ = 0;
  int outside_ = 0, active_ = 0, needed_ = 0, band_ = 0, count_ = 0;
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
  Memory<Sample> memory(layout, corners_workspace_size(pyramid), sources.size(), arena);
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
  Memory<std::uint8_t>(layout_of(width, height), corners_workspace_size(pyramid), sources, counter);
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
