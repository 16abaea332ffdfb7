// What a frame lacks, from its neighbors: the grid on which fill.cpp works, and how values on it are extended.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/core.h"
#include "video/sampling.h"

namespace legato::video {

/// Weighted values on a grid, extended smoothly to where the weights vanish: pull-push (Gortler et al., SIGGRAPH 1996,
/// section 3.4). A fine level knows what it has weights for; the rest is left to the coarse ones.
class Extension {
 public:
  static constexpr int kMostLevels = 16, kMostChannels = 4;

  /// Laid out in the arena for a grid of `width` x `height` cells and at most so many channels; counts only, if the
  /// arena does.
  Extension(int width, int height, int channels, Arena& arena) noexcept {
    rows_ = arena.take<float>(cells(width, height));
    for (levels_ = 0; levels_ < kMostLevels; ++levels_) {
      Level& level = level_[levels_];
      level.width = width;
      level.height = height;
      level.weights = arena.take<float>(cells(width, height));
      for (int c = 0; c < channels; ++c) level.values[c] = arena.take<float>(cells(width, height));
      if (std::min(width, height) <= 3) {
        ++levels_;
        break;
      }
      width = (width + 1) / 2;
      height = (height + 1) / 2;
    }
  }

  /// What is to be extended: [height][width] values of a channel times their weights, and the weights.
  float* values(int channel) noexcept { return level_[0].values[channel]; }
  float* weights() noexcept { return level_[0].weights; }

  void clear(int channels) noexcept {
    const std::size_t count = cells(level_[0].width, level_[0].height);
    for (int c = 0; c < channels; ++c) std::fill_n(values(c), count, 0.0f);
    std::fill_n(weights(), count, 0.0f);
  }

  /// Leaves the extended values in values(). `trust`: of the coarse value, in units of a fine cell's weight.
  void run(int channels, float trust) noexcept {
    for (int i = 1; i < levels_; ++i) {
      const Level &fine = level_[i - 1], &coarse = level_[i];
      pull(fine.weights, fine, coarse.weights, coarse);
      for (int c = 0; c < channels; ++c) pull(fine.values[c], fine, coarse.values[c], coarse);
    }
    Level& last = level_[levels_ - 1];
    for (int c = 0; c < channels; ++c) {
      for (int i = 0; i < last.width * last.height; ++i) last.values[c][i] /= last.weights[i] + 1e-9f;
    }
    for (int i = levels_ - 2; i >= 0; --i) push(level_[i + 1], level_[i], channels, trust);
  }

 private:
  struct Level {
    float* values[kMostChannels];
    float* weights;
    int width, height;
  };

  static std::size_t cells(int width, int height) noexcept {
    return static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
  }

  /// Half the size, by the tent 1 3 3 1.
  void pull(const float* from, const Level& fine, float* to, const Level& coarse) noexcept {
    const int across = coarse.width, last = fine.width - 1;
    for (int y = 0; y < fine.height; ++y) {
      const float* in = from + y * fine.width;
      float* out = rows_ + y * across;
      const auto tent = [in](int a, int b, int c, int d) {
        return 0.125f * (in[a] + in[d]) + 0.375f * (in[b] + in[c]);
      };
      const int inner = std::max((fine.width - 1) / 2, 1);
      out[0] = tent(0, 0, std::min(1, last), std::min(2, last));
      for (int x = 1; x < inner; ++x) out[x] = tent(2 * x - 1, 2 * x, 2 * x + 1, 2 * x + 2);
      for (int x = inner; x < across; ++x) {
        out[x] = tent(2 * x - 1, std::min(2 * x, last), std::min(2 * x + 1, last), std::min(2 * x + 2, last));
      }
    }
    for (int y = 0; y < coarse.height; ++y) {
      const float* row[4];
      for (int r = 0; r < 4; ++r) row[r] = rows_ + std::clamp(2 * y + r - 1, 0, fine.height - 1) * across;
      for (int x = 0; x < across; ++x) {
        to[y * across + x] = 0.125f * (row[0][x] + row[3][x]) + 0.375f * (row[1][x] + row[2][x]);
      }
    }
  }

  /// Twice the size, bilinear between the middles of cells, for what the fine level does not know.
  void push(const Level& coarse, const Level& fine, int channels, float trust) noexcept {
    float *up = rows_, *whole = rows_ + coarse.width;  // a row each: together at most two fine ones
    const int half = fine.width / 2;
    for (int y = 0; y < fine.height; ++y) {
      const int near = std::min(y / 2, coarse.height - 1);
      const int far = std::clamp(near + (y % 2 == 0 ? -1 : 1), 0, coarse.height - 1);
      for (int x = 0; x < fine.width; ++x) whole[x] = 1 / (fine.weights[y * fine.width + x] + trust);
      for (int c = 0; c < channels; ++c) {
        const float *a = coarse.values[c] + near * coarse.width, *b = coarse.values[c] + far * coarse.width;
        for (int x = 0; x < coarse.width; ++x) up[x] = 0.75f * a[x] + 0.25f * b[x];
        float* here = fine.values[c] + y * fine.width;
        const auto put = [&](int x, float value) { here[x] = (here[x] + trust * value) * whole[x]; };
        put(0, up[0]);
        for (int x = 1; x < half; ++x) {
          put(2 * x - 1, 0.75f * up[x - 1] + 0.25f * up[x]);
          put(2 * x, 0.25f * up[x - 1] + 0.75f * up[x]);
        }
        const int end = coarse.width - 1;
        for (int x = std::max(2 * half - 1, 1); x < fine.width; ++x) {
          const int at = std::min(x / 2, end), other = std::clamp(at + (x % 2 == 0 ? -1 : 1), 0, end);
          put(x, 0.75f * up[at] + 0.25f * up[other]);
        }
      }
    }
  }

  Level level_[kMostLevels];
  int levels_;
  float* rows_;
};

// The grid on which all that varies slowly lives.

constexpr int kTile = 8;
constexpr std::size_t kPoints = 72;  // followed into each source
constexpr int kSamplesAcross = 4;    // of a band tile's luma, and half as many of its chroma
constexpr int kSamples = kSamplesAcross * kSamplesAcross, kChromaSamples = kSamples / 4;

struct Node {
  float x, y;      // position in the source
  float color[3];  // to be added
  float error;     // predicted
};

struct Tile {
  bool outside;      // some of it lies outside of the frame
  bool band;         // some of it lies inside, near the outside
  float first;       // distance of the nearest source that covers it
  float error;       // predicted, of what was filled
  float weak;        // 0 to 1: the membrane's share
  int filled, bare;  // pixels outside of the frame that some source shows, and that none does
};

struct Cell {  // of a tile that is looked at
  int r, c;
};

struct Layout {
  int width, height, unit, side;  // of the picture; pixels of a unit and of a tile
  int across, down;               // tiles
  std::size_t tiles, nodes;
};

inline Layout layout_of(int width, int height) {
  Layout l;
  l.width = width, l.height = height;
  l.unit = std::max(1, (std::max(width, height) + 320) / 640);
  l.side = kTile * l.unit;
  l.across = (width + l.side - 1) / l.side;
  l.down = (height + l.side - 1) / l.side;
  l.tiles = static_cast<std::size_t>(l.across) * static_cast<std::size_t>(l.down);
  l.nodes = static_cast<std::size_t>(l.across + 1) * static_cast<std::size_t>(l.down + 1);
  return l;
}

struct Memory {
  Memory(const Layout& l, std::size_t corners, std::size_t sources, Arena& arena)
      : grid(l.across, l.down, 4, arena), coarse((l.across + 1) / 2, (l.down + 1) / 2, 2, arena) {
    tile = arena.take<Tile>(l.tiles);
    outside = arena.take<Cell>(l.tiles);
    active = arena.take<Cell>(l.tiles);
    needed = arena.take<Cell>(l.nodes);
    place = arena.take<Point>(l.nodes);
    nodes = arena.take<Node>(Size{l.nodes} * sources);
    bare = arena.take<std::uint8_t>(Size{static_cast<std::size_t>(l.width)} * static_cast<std::size_t>(l.height));
    weight = arena.take<float>(Size{l.tiles} * kSamples);
    chroma_weight = arena.take<float>(Size{l.tiles} * kChromaSamples);
    points = arena.take<float>(2 * kPoints);
    start = arena.take<float>(2 * kPoints);
    moved = arena.take<float>(2 * kPoints);
    found = arena.take<std::uint8_t>(kPoints);
    row = arena.take<float>(Size{static_cast<std::size_t>(l.side)} * 12);
    used = arena.take<int>(Size{sources});
    fade = arena.take<float>(Size{sources});
    corners_workspace = arena.take_workspace(corners);
  }

  Extension grid, coarse;
  Tile* tile;
  Cell *outside, *active, *needed;  // tiles that lie outside; these and the band; nodes of these
  Point* place;                     // of each node, in the frame
  Node* nodes;                      // of each source
  std::uint8_t* bare;
  float *weight, *chroma_weight;  // of the samples of each active tile; 0 where they lie outside
  float *points, *start, *moved;
  std::uint8_t* found;
  float* row;
  int* used;
  float* fade;
  std::span<std::byte> corners_workspace;
};

inline Node between(const Node& a, const Node& b, float f) {
  Node n;
  n.x = a.x + f * (b.x - a.x);
  n.y = a.y + f * (b.y - a.y);
  for (int c = 0; c < 3; ++c) n.color[c] = a.color[c] + f * (b.color[c] - a.color[c]);
  n.error = a.error + f * (b.error - a.error);
  return n;
}
inline Point between(Point a, Point b, float f) { return {a.x + f * (b.x - a.x), a.y + f * (b.y - a.y)}; }

/// What holds at both ends of a row of a tile.
template <class Value>
struct Row {
  Value left, right;
  Row(const Value* above, const Value* below, float f)
      : left(between(above[0], below[0], f)), right(between(above[1], below[1], f)) {}
  Value at(float f) const { return between(left, right, f); }
};

}  // namespace legato::video
