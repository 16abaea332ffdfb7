// What a frame lacks, from its neighbors: the grid on which fill.cpp works, and what its compiled copies share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/core.h"
#include "legato/video.hpp"
#include "video/extension.h"
#include "video/mapping.h"

namespace legato::video {

constexpr float kInset = 2;            // edge rows are coded worse
constexpr float kLeastVariance = 4;    // of a source's predicted error
constexpr float kLeastWeight = 1e-9f;  // of all sources together, for a pixel to be shown

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

constexpr int kPack = 8;  // samples that are worked on together

/// Eight samples of a tile: where they lie in it, in parts of a tile and in samples of their plane. What fills up the
/// last pack lies beyond every tile.
struct Pack {
  float across[kPack], down[kPack];
  std::int32_t x[kPack], y[kPack];
};

/// The frame to be completed, as the kernels need it: tiles across; its last column and row; where its chroma sits.
struct Frame {
  int across;
  float right, bottom;
  float sx, sy, ox, oy;
};

/// A source that was aligned: its nodes, planes and weight by distance.
template <class Sample>
struct Lending {
  const Node* nodes;
  Image<const Sample> plane[3];
  float fade;
};

/// A tile of the band: the place of its first node and of itself on their grids, how much each of its samples tells
/// of what lies outside (0: it lies there), and the samples.
struct BandTile {
  int node, cell;
  float weight[kSamples], chroma_weight[kPack];
  float own[kSamples], chroma_own[2][kPack];
};

template <class Sample>
struct CompareJob {
  Frame frame;
  Lending<Sample> source;
  const BandTile* tile;
  int tiles;
  const Pack *luma, *chroma;  // where a tile's samples lie
  bool colored;
  float most, levels;  // of a difference; gray levels of one of 8 bits
  float* weights;      // of each cell
  float* values[4];    // times the weights: differences of luma, their deviations, differences of chroma
};

/// a + across x + down y + both x y.
struct Field {
  float a, across, down, both;
};
struct NodeFields {
  Field x, y, error, color[2];
};

template <class Sample>
struct BlendJob {
  Frame frame;
  int node;                              // the tile's first
  const Point* place;                    // of each node, in the frame
  const Lending<Sample>* const* source;  // that show some of the tile
  NodeFields* fields;                    // scratch, one a source
  int count;
  const Pack* pack;
  int packs, columns, rows;  // samples of the tile
  float feather, ramp;       // pixels
  Sample* target[2];         // the tile's first samples
  std::ptrdiff_t stride[2];
  float most, levels;
  std::uint8_t* bare;  // of the tile's first pixel; takes 1 where no source shows one
  std::ptrdiff_t bare_stride;
};

struct TileSums {
  int filled, bare;
  float error;  // predicted, summed over what was filled
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

/// What fill() works in.
template <class Sample>
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
    band = arena.take<BandTile>(l.tiles);
    const Size tile_packs = static_cast<std::size_t>(l.side * l.side / kPack);
    luma = arena.take<Pack>(tile_packs);
    chroma = arena.take<Pack>(tile_packs);
    points = arena.take<float>(2 * kPoints);
    start = arena.take<float>(2 * kPoints);
    moved = arena.take<float>(2 * kPoints);
    found = arena.take<std::uint8_t>(kPoints);
    distance = arena.take<float>(sources);
    lending = arena.take<Lending<Sample>>(sources);
    showing = arena.take<const Lending<Sample>*>(sources);
    fields = arena.take<NodeFields>(sources);
    corners_workspace = arena.take_workspace(corners);
  }

  Extension grid, coarse;
  Tile* tile;
  Cell *outside, *active, *needed;  // tiles that lie outside; these and the band; nodes of these
  Point* place;                     // of each node, in the frame
  Node* nodes;                      // of each source
  std::uint8_t* bare;
  BandTile* band;
  Pack *luma, *chroma;  // of every tile
  float *points, *start, *moved;
  std::uint8_t* found;
  float* distance;  // of each source that was aligned, in frames
  Lending<Sample>* lending;
  const Lending<Sample>** showing;  // a tile
  NodeFields* fields;
  std::span<std::byte> corners_workspace;
};

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
