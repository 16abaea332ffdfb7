#include "video/track.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <new>
#include <thread>
#include <utility>

#include "core/core.h"
#include "legato/video.hpp"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#ifndef LEGATO_HD
#define LEGATO_HD inline __attribute__((always_inline))
#endif
#define LEGATO_REGION_FILE "video/track-inl.h"
#include "core/isa_region.h"

namespace legato::video {

struct Pyramid {
  int width, height, factor;  // of the frames, and what they are reduced by
  int levels;
  Level level[kMostLevels];
  std::uint32_t* sums;  // a row of the frame
};

struct Tracker {
  TrackerOptions options;
  int width, height, factor;
  Pyramid* previous;
  Pyramid* current;
  bool started;
  const std::uint8_t* usable;       // [work height][work width], null without a mask
  const std::uint8_t* usable_half;  // of the level that corners are sought on
  std::span<std::byte> scratch;
  float *corners, *here, *there, *matches;  // [kMostMatches][2], and [kMostMatches][4]
  std::uint8_t *found, *inlier;
  std::uint8_t* aligned;  // the previous picture brought onto this one, at the size of a level
  int match_count;
};

namespace {

constexpr int kShortestWorkSide = 24;  // below this a window and its pyramid have no room
constexpr int kShortestLevel = 12;
constexpr int kReferenceWidth = 640;  // thresholds in pixels of the work image grow with it beyond this width
constexpr int kCellsAcross = 6, kCellsDown = 4;
constexpr int kCornerCells = 620;   // about so many cells of one corner each
constexpr int kSmallestCorner = 4;  // side of a cell, at least
constexpr int kCornerBorder = 3;
// Of the response: what noise of a gray level makes; and relative to the best.
constexpr float kCornerFloor = 120.0f, kCornerQuality = 1e-3f;

// What a model needs before it is believed: inliers, and cells of the 24 that hold one.
constexpr int kLeastInliers[] = {25, 15, 8, 5};
constexpr int kLeastCells[] = {6, 4, 2, 1};
// Predicted standard deviation of a frame corner beyond which a model is not determined. Against ground truth the
// prediction reads 2.5 times too low: this stands for 1.5 px. At 0.4 the blurred frames of a walk fell back to a
// similarity that was 5 px off at the corners.
constexpr double kMostCornerSd = 0.6;
// Correlation of the two pictures after alignment: noise gives 0, ordinary frames 0.9 and more.
constexpr double kLeastAgreement = 0.3;
constexpr int kAgreementBlock = 16;
// Of the corners, one in so many goes all levels of the pyramid; the others begin where these say that the picture
// went.
constexpr std::size_t kScoutEvery = 8;
constexpr std::size_t kLeastScouts = 12;  // that must agree
// A frame counts as repeated if the change is less than a shift of this many pixels of the half-size copy would make,
// and no cell changes by more gray levels than a codec does.
constexpr double kRepeatPx = 0.045, kRepeatCellChange = 1.25;

int factor_of(int width, int height, int longest) { return (std::max(width, height) + longest - 1) / longest; }

int count_levels(int width, int height) {
  int levels = 1;
  while (levels < kMostLevels && std::min(width, height) >> levels >= kShortestLevel) ++levels;
  return levels;
}

/// Width and height of the work image.
std::pair<int, int> work_size(int width, int height, int factor) {
  return {std::max(1, width / factor), std::max(1, height / factor)};
}

Pyramid* lay_out_pyramid(int width, int height, int factor, Arena& arena, bool build) {
  auto* pyramid = arena.take<Pyramid>(1);
  const auto [w, h] = work_size(width, height, factor);
  Pyramid made{width, height, factor, count_levels(w, h), {}, nullptr};
  for (int i = 0; i < made.levels; ++i) {
    Level& level = made.level[i];
    level.width = w >> i;
    level.height = h >> i;
    level.stride = (level.width + 2 * kPadding + 63) / 64 * 64;
    // A window row reads 16 bytes at a time, up to 17 beyond the padding of the last row.
    auto* memory = arena.take<std::uint8_t>(
        static_cast<std::size_t>(level.stride) * Size{static_cast<std::size_t>(level.height + 2 * kPadding)} + 64);
    level.data = memory == nullptr ? nullptr : memory + kPadding * level.stride + kPadding;
  }
  made.sums = arena.take<std::uint32_t>(static_cast<std::size_t>(std::max(width, w * factor)));
  if (build && pyramid != nullptr && !arena.overflowed()) return new (pyramid) Pyramid(made);
  return nullptr;
}

void pad(const Level& level) {
  const auto w = static_cast<std::size_t>(level.width);
  for (int y = 0; y < level.height; ++y) {
    std::uint8_t* row = level.data + y * level.stride;
    std::memset(row - kPadding, row[0], kPadding);
    std::memset(row + level.width, row[w - 1], kPadding);
  }
  const std::uint8_t *first = level.data - kPadding, *last = level.data + (level.height - 1) * level.stride - kPadding;
  for (int r = 1; r <= kPadding; ++r) {
    std::memcpy(level.data - r * level.stride - kPadding, first, w + 2 * kPadding);
    std::memcpy(level.data + (level.height - 1 + r) * level.stride - kPadding, last, w + 2 * kPadding);
  }
}

void reduce(const Image<const std::uint16_t>& frame, int bit_depth, const Pyramid& p) {
  const Level& base = p.level[0];
  for (int y = 0; y < base.height; ++y) {
    LEGATO_DISPATCH(reduce_deep_row, frame.data + static_cast<std::ptrdiff_t>(y) * p.factor * frame.stride,
                    frame.stride, p.factor, base.width, bit_depth - 8, p.sums, base.data + y * base.stride);
  }
}

void reduce(const Image<const std::uint8_t>& frame, const Pyramid& p) {
  const Level& base = p.level[0];
  for (int y = 0; y < base.height; ++y) {
    const std::uint8_t* row = frame.data + static_cast<std::ptrdiff_t>(y) * p.factor * frame.stride;
    std::uint8_t* out = base.data + y * base.stride;
    if (p.factor == 1) {
      std::memcpy(out, row, static_cast<std::size_t>(base.width));
    } else if (p.factor == 2) {
      LEGATO_DISPATCH(halve_row, row, row + frame.stride, base.width, out);
    } else {
      auto* sums = reinterpret_cast<std::uint16_t*>(p.sums);
      LEGATO_DISPATCH(reduce_row, row, frame.stride, p.factor, base.width, sums, out);
    }
  }
}

void build_levels(const Pyramid& p) {
  pad(p.level[0]);
  for (int i = 1; i < p.levels; ++i) {
    const Level &from = p.level[i - 1], &to = p.level[i];
    for (int y = 0; y < to.height; ++y) {
      const std::uint8_t* row = from.data + 2 * y * from.stride;
      LEGATO_DISPATCH(halve_row, row, row + from.stride, to.width, to.data + y * to.stride);
    }
    pad(to);
  }
}

// --- corners ---

/// The level that corners are sought on: the work image, or its half where that is large. On clips of known motion
/// corners of the half of 640 x 360 cost a quarter of the accuracy.
int corner_level(int width, int height) { return width > kReferenceWidth && count_levels(width, height) > 1 ? 1 : 0; }
int corner_level(const Pyramid& p) { return corner_level(p.level[0].width, p.level[0].height); }
int half_level(const Pyramid& p) { return p.levels > 1 ? 1 : 0; }

int corner_cell(const Level& level) {
  const double area = static_cast<double>(level.width) * level.height;
  return std::max(kSmallestCorner, static_cast<int>(std::lround(std::sqrt(area / kCornerCells))));
}

struct Corner {
  float x, y, score;
};

struct CornerMemory {
  std::int16_t *gx[3], *gy[3];
  std::int32_t *xx, *xy, *yy;
  float *best, *best_row;
  Corner* cells;
  bool* weaker;  // than a corner close by
  std::uint64_t* order;
};

/// A key that is greater for a higher score, and of equal scores for a lower index. Scores are not negative, and
/// so their bits are in order.
std::uint64_t ranked(float score, int index) {
  return std::uint64_t{std::bit_cast<std::uint32_t>(score)} << 32 | ~static_cast<std::uint32_t>(index);
}
int index_of(std::uint64_t key) { return static_cast<int>(~static_cast<std::uint32_t>(key)); }
float score_of(std::uint64_t key) { return std::bit_cast<float>(static_cast<std::uint32_t>(key >> 32)); }

CornerMemory lay_out_corners(const Level& level, Arena& arena) {
  const auto width = static_cast<std::size_t>(level.width) + 64;
  CornerMemory m;
  for (auto& row : m.gx) row = arena.take<std::int16_t>(width);
  for (auto& row : m.gy) row = arena.take<std::int16_t>(width);
  m.xx = arena.take<std::int32_t>(width);
  m.xy = arena.take<std::int32_t>(width);
  m.yy = arena.take<std::int32_t>(width);
  m.best = arena.take<float>(width);
  m.best_row = arena.take<float>(width);
  const int cell = corner_cell(level);
  const auto cells = static_cast<std::size_t>((level.width / cell + 1) * (level.height / cell + 1));
  m.cells = arena.take<Corner>(cells);
  m.weaker = arena.take<bool>(cells);
  m.order = arena.take<std::uint64_t>(cells);
  return m;
}

std::size_t corners_of(const Pyramid& p, const std::uint8_t* usable, std::span<std::byte> workspace, float* points,
                       std::size_t most) {
  const int index = corner_level(p);
  const Level& level = p.level[index];
  Arena arena(workspace);
  const CornerMemory m = lay_out_corners(level, arena);
  const int w = level.width, h = level.height, cell = corner_cell(level);
  const int across = (w + cell - 1) / cell, down = (h + cell - 1) / cell;
  const int first = kCornerBorder, last_x = std::min(w - kCornerBorder, across * cell);
  const int last_y = std::min(h - kCornerBorder, down * cell);
  if (last_x <= first || last_y <= first) return 0;
  constexpr int kMargin = 16;  // before the first column of each row buffer
  std::fill_n(m.cells, across * down, Corner{0, 0, 0});
  float top = 0;
  for (int y = first - 1; y <= last_y; ++y) {
    const std::uint8_t* row = level.data + y * level.stride;
    const int slot = y % 3;
    LEGATO_DISPATCH(gradient_row, row - level.stride - 1, row - 1, row + level.stride - 1, w + 2,
                    m.gx[slot] + kMargin - 1, m.gy[slot] + kMargin - 1);
    const int at = y - 1;
    if (at < first) continue;
    if (at % cell == 0 || at == first) std::fill_n(m.best, w, 0.0f);
    if ((at - first) % 2 == 0) {  // three rows go into a response, so every second tells enough
      const std::int16_t* gx[3];
      const std::int16_t* gy[3];
      for (int i = 0; i < 3; ++i) gx[i] = m.gx[i] + kMargin - 1, gy[i] = m.gy[i] + kMargin - 1;
      LEGATO_DISPATCH(product_row, gx, gy, w + 2, m.xx + kMargin - 1, m.xy + kMargin - 1, m.yy + kMargin - 1);
      LEGATO_DISPATCH(response_row, m.xx + kMargin, m.xy + kMargin, m.yy + kMargin,
                      usable == nullptr ? nullptr : usable + static_cast<std::ptrdiff_t>(at) * w, w,
                      static_cast<float>(at), m.best, m.best_row);
    }
    if (at % cell != cell - 1 && at != last_y - 1) continue;
    for (int c = 0; c < across; ++c) {
      std::uint64_t best = 0;
      const int right = std::min((c + 1) * cell, last_x);
      for (int i = std::max(c * cell, first); i < right; ++i) best = std::max(best, ranked(m.best[i], i));
      if (!(score_of(best) > 0)) continue;
      const int x = index_of(best);
      m.cells[at / cell * across + c] = {static_cast<float>(x), m.best_row[x], score_of(best)};
      top = std::max(top, score_of(best));
    }
  }
  // A corner near the border of its cell may stand in the next cell as well: the weaker of two close ones goes.
  const float least = std::max(kCornerFloor, kCornerQuality * top), apart = 0.25f * static_cast<float>(cell * cell);
  std::fill_n(m.weaker, across * down, false);
  const auto compare = [&](int i, int j) {
    const Corner &corner = m.cells[i], &other = m.cells[j];
    const float dx = corner.x - other.x, dy = corner.y - other.y;
    if (other.score > least && dx * dx + dy * dy < apart) m.weaker[other.score > corner.score ? i : j] = true;
  };
  for (int r = 0, i = 0; r < down; ++r) {
    for (int c = 0; c < across; ++c, ++i) {
      if (!(m.cells[i].score > least)) continue;
      if (c + 1 < across) compare(i, i + 1);
      if (r + 1 == down) continue;
      if (c > 0) compare(i, i + across - 1);
      compare(i, i + across);
      if (c + 1 < across) compare(i, i + across + 1);
    }
  }
  int count = 0;
  for (int i = 0; i < across * down; ++i) {
    if (m.cells[i].score > least && !m.weaker[i]) m.order[count++] = ranked(m.cells[i].score, i);
  }
  std::sort(m.order, m.order + count, std::greater<>{});
  // Evidence from the whole picture and not from its busiest part: each of 6 x 4 parts has a quota.
  const auto scale = static_cast<float>(1 << index);
  const std::size_t quota = (most * 13 / 10 + kCellsAcross * kCellsDown - 1) / (kCellsAcross * kCellsDown);
  std::size_t held[kCellsAcross * kCellsDown] = {}, taken = 0;
  for (int i = 0; i < count && taken < most; ++i) {
    const Corner& corner = m.cells[index_of(m.order[i])];
    const int part =
        static_cast<int>(corner.y) * kCellsDown / h * kCellsAcross + static_cast<int>(corner.x) * kCellsAcross / w;
    if (held[part]++ >= quota) continue;
    points[2 * taken] = (corner.x + 0.5f) * scale - 0.5f;
    points[2 * taken + 1] = (corner.y + 0.5f) * scale - 0.5f;
    ++taken;
  }
  return taken;
}

// --- comparing two pictures ---

bool same_picture(const Level& a, const Level& b) {
  for (int y = 0; y < a.height; ++y) {
    if (std::memcmp(a.data + y * a.stride, b.data + y * b.stride, static_cast<std::size_t>(a.width)) != 0) return false;
  }
  return true;
}

/// Whether two pictures differ by less than a motion worth measuring would make. A shift by d pixels changes a picture
/// by about d times its mean slope; on a half-size copy the noise of sensor and codec is averaged down.
bool repeats(const Pyramid& previous, const Pyramid& current) {
  if (same_picture(previous.level[0], current.level[0])) return true;
  const int index = half_level(current);
  const Level &a = previous.level[index], &b = current.level[index];
  if (a.width < kCellsAcross || a.height < kCellsDown) return false;
  double change = 0, slope_across = 0, slope_down = 0;
  for (int r = 0; r < kCellsDown; ++r) {
    const int top = r * b.height / kCellsDown, bottom = (r + 1) * b.height / kCellsDown;
    for (int c = 0; c < kCellsAcross; ++c) {
      const int left = c * b.width / kCellsAcross, right = (c + 1) * b.width / kCellsAcross, n = right - left;
      std::int64_t cell = 0;
      for (int y = top; y < bottom; ++y) {
        cell += LEGATO_DISPATCH(difference_sum, a.data + y * a.stride + left, b.data + y * b.stride + left, n);
      }
      const double mean = static_cast<double>(cell) / (static_cast<double>(n) * (bottom - top));
      if (mean > kRepeatCellChange) return false;
      change += mean;
    }
  }
  for (int y = 0; y < b.height; ++y) {
    const std::uint8_t* row = b.data + y * b.stride;
    slope_across += LEGATO_DISPATCH(difference_sum, row, row + 1, b.width - 1);
    if (y + 1 < b.height) slope_down += LEGATO_DISPATCH(difference_sum, row, row + b.stride, b.width);
  }
  const double w = b.width, h = b.height;
  const double slope = 0.5 * (slope_across / (std::max(w - 1, 1.0) * h) + slope_down / (w * std::max(h - 1, 1.0)));
  return change / (kCellsAcross * kCellsDown) <= kRepeatPx * slope;
}

/// Correlation, 0 to 1, of two pictures of one size without their slow parts: within blocks, about the block's means.
/// Neither a change of exposure nor a vignette tells of motion.
double agreement(const std::uint8_t* a, std::ptrdiff_t a_stride, const Level& b) {
  double ab = 0, aa = 0, bb = 0;
  for (int top = 0; top < b.height; top += kAgreementBlock) {
    const int rows = std::min(kAgreementBlock, b.height - top);
    for (int left = 0; left < b.width; left += kAgreementBlock) {
      const int columns = std::min(kAgreementBlock, b.width - left);
      std::int32_t s[5] = {};
      for (int y = top; y < top + rows; ++y) {
        LEGATO_DISPATCH(comoments, a + y * a_stride + left, b.data + y * b.stride + left, columns, s);
      }
      const double n = rows * columns;
      aa += s[2] - static_cast<double>(s[0]) * s[0] / n;
      bb += s[3] - static_cast<double>(s[1]) * s[1] / n;
      ab += s[4] - static_cast<double>(s[0]) * s[1] / n;
    }
  }
  const double energy = aa * bb;
  return energy > 0 ? std::clamp(ab / std::sqrt(energy), 0.0, 1.0) : 0.0;
}

/// The level pictures are compared on: quarter size where that leaves enough.
int agreement_level(const Pyramid& p) { return p.levels > 2 && p.level[0].width >= 320 ? 2 : half_level(p); }

/// F between pictures `scale` times smaller (larger below one): S^-1 F S, S the map from small pixels to large.
void rescale(const double* f, double scale, double* out) {
  const double o = 0.5 * scale - 0.5;
  double h[9];
  for (int r = 0; r < 3; ++r) {
    h[3 * r] = f[3 * r] * scale;
    h[3 * r + 1] = f[3 * r + 1] * scale;
    h[3 * r + 2] = f[3 * r] * o + f[3 * r + 1] * o + f[3 * r + 2];
  }
  for (int c = 0; c < 3; ++c) {
    out[c] = (h[c] - o * h[6 + c]) / scale;
    out[3 + c] = (h[3 + c] - o * h[6 + c]) / scale;
    out[6 + c] = h[6 + c];
  }
  const double last = out[8];
  for (int i = 0; i < 8; ++i) out[i] /= last;
  out[8] = 1;
}

int cells_of(const Tracker& t, int count, const Level& work) {
  std::uint32_t seen = 0;
  for (int i = 0; i < count; ++i) {
    if (t.inlier[i] == 0) continue;
    const int x = std::clamp(static_cast<int>(std::lrint(t.here[2 * i])), 0, work.width - 1);
    const int y = std::clamp(static_cast<int>(std::lrint(t.here[2 * i + 1])), 0, work.height - 1);
    seen |= 1u << (y * kCellsDown / work.height * kCellsAcross + x * kCellsAcross / work.width);
  }
  return __builtin_popcount(seen);
}

/// Follows the scouts among the corners. If they agree, fills t.here with where all corners should be, and returns
/// true.
bool send_scouts(Tracker& t, std::size_t corners, float round_trip, double px) {
  // What the scouts need lies where the matches will.
  float *home = t.matches, *moved = t.matches + 2 * kMostMatches;
  const std::size_t count = (corners + kScoutEvery - 1) / kScoutEvery;
  if (count < kLeastScouts) return false;
  for (std::size_t i = 0; i < count; ++i) std::copy_n(t.corners + 2 * kScoutEvery * i, 2, home + 2 * i);
  const Pyramid &from = *t.previous, &to = *t.current;
  LEGATO_DISPATCH(follow_points, from.level, to.level, from.levels, home, nullptr, count, round_trip, moved, t.found);
  std::size_t n = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (t.found[i] == 0) continue;
    std::copy_n(home + 2 * i, 2, home + 2 * n);
    std::copy_n(moved + 2 * i, 2, moved + 2 * n);
    ++n;
  }
  const Level& work = to.level[0];
  FitOptions options;
  options.model = Model::affine;
  options.threshold_px = 1.5 * px;
  FitResult fit;
  const Status status =
      fit_motion({home, 2 * n}, {moved, 2 * n}, work.width, work.height, options, t.scratch, {t.inlier, n}, fit);
  if (status != Status::ok || !fit.found || fit.inliers < static_cast<int>(kLeastScouts)) return false;
  const double* m = fit.matrix;  // affine: the last row is 0 0 1
  for (std::size_t i = 0; i < corners; ++i) {
    const double x = t.corners[2 * i], y = t.corners[2 * i + 1];
    t.here[2 * i] = static_cast<float>(m[0] * x + m[1] * y + m[2]);
    t.here[2 * i + 1] = static_cast<float>(m[3] * x + m[4] * y + m[5]);
  }
  return true;
}

/// Corners of the previous picture found again; fills here, there and found, and returns how many.
int find_matches(Tracker& t, std::size_t corners) {
  const Level& work = t.current->level[0];
  const Pyramid &from = *t.previous, &to = *t.current;
  const float px = std::max(1.0f, static_cast<float>(work.width) / kReferenceWidth);
  const auto round_trip = static_cast<float>(t.options.round_trip_px * static_cast<double>(px));
  const bool near = send_scouts(t, corners, round_trip, static_cast<double>(px));
  LEGATO_DISPATCH(follow_points, from.level, to.level, from.levels, t.corners, near ? t.here : nullptr, corners,
                  round_trip, t.here, t.found);
  for (std::size_t i = 0; near && i < corners; ++i) {
    // Whoever does not go with the picture takes the long way.
    if (t.found[i] != 0) continue;
    LEGATO_DISPATCH(follow_points, from.level, to.level, from.levels, t.corners + 2 * i, nullptr, std::size_t{1},
                    round_trip, t.here + 2 * i, t.found + i);
  }
  int count = 0;
  for (std::size_t i = 0; i < corners; ++i) {
    if (t.found[i] == 0) continue;
    const float x = t.here[2 * i], y = t.here[2 * i + 1];
    if (t.usable != nullptr) {
      const auto row = static_cast<std::ptrdiff_t>(std::lrint(y)), column = static_cast<std::ptrdiff_t>(std::lrint(x));
      if (t.usable[row * work.width + column] == 0) continue;
    }
    t.here[2 * count] = x;
    t.here[2 * count + 1] = y;
    t.there[2 * count] = t.corners[2 * i];
    t.there[2 * count + 1] = t.corners[2 * i + 1];
    ++count;
  }
  return count;
}

void list_matches(Tracker& t, int count) {
  const auto f = static_cast<float>(t.factor);
  float* out = t.matches;
  for (const int wanted : {1, 0}) {
    for (int i = 0; i < count; ++i) {
      if (t.inlier[i] != wanted) continue;
      for (const float* p : {t.here + 2 * i, t.there + 2 * i}) {
        *out++ = (p[0] + 0.5f) * f - 0.5f;
        *out++ = (p[1] + 0.5f) * f - 0.5f;
      }
    }
  }
  t.match_count = count;
}

void estimate(Tracker& t, Motion& motion) {
  const Level& work = t.current->level[0];
  if (std::min(work.width, work.height) < kShortestWorkSide) return;
  const std::size_t corners = corners_of(*t.previous, t.usable_half, t.scratch, t.corners, kMostMatches);
  if (corners < static_cast<std::size_t>(kLeastInliers[3])) return;
  if (repeats(*t.previous, *t.current)) {
    motion.ok = motion.duplicate = true;
    motion.confidence = 1;
    return;
  }
  const int count = find_matches(t, corners);
  const double px = std::max(1.0, static_cast<double>(work.width) / kReferenceWidth);
  const auto n = static_cast<std::size_t>(count);
  for (int model = static_cast<int>(t.options.model); model <= static_cast<int>(Model::translation); ++model) {
    if (count < kLeastInliers[model]) continue;
    FitOptions options;
    options.model = static_cast<Model>(model);
    if (options.model != Model::homography) options.threshold_px = 1.5;  // the true motion only comes near to it
    options.threshold_px *= px;
    FitResult fit;
    const Status status =
        fit_motion({t.here, 2 * n}, {t.there, 2 * n}, work.width, work.height, options, t.scratch, {t.inlier, n}, fit);
    const bool last = options.model == Model::translation;
    if (status != Status::ok || !fit.found || (fit.corner_sd_px > kMostCornerSd * px && !last)) continue;
    const int cells = cells_of(t, count, work);
    if (fit.inliers < kLeastInliers[model] || cells < kLeastCells[model]) continue;
    const int index = agreement_level(*t.current);
    const Level &before = t.previous->level[index], &now = t.current->level[index];
    double at_level[9];
    rescale(fit.matrix, 1 << index, at_level);
    const Image<const std::uint8_t> source{before.data, before.width, before.height, before.stride};
    const Image<std::uint8_t> target{t.aligned, now.width, now.height, now.width};
    if (warp(at_level, {&source, 1}, {&target, 1}, Interpolation::bilinear) != Status::ok) continue;
    const double agrees = agreement(t.aligned, now.width, now);
    if (agrees < kLeastAgreement) continue;
    rescale(fit.matrix, 1.0 / t.factor, motion.homography);
    motion.inliers = fit.inliers;
    motion.matches = count;
    motion.confidence = static_cast<double>(fit.inliers) / count * std::min(1.0, fit.inliers / 50.0) *
                        std::min(1.0, cells / 12.0) * agrees;
    motion.residual_px = fit.residual_px * t.factor;
    for (int i = 0; i < 64; ++i) motion.corner_covariance[i] = fit.corner_covariance[i] * t.factor * t.factor;
    motion.model = options.model;
    motion.ok = true;
    list_matches(t, count);
    return;
  }
}

/// The motion of the frame that t.current holds.
void follow_frame(Tracker& t, bool roomy, Motion& motion) {
  if (t.started) {
    if (roomy) estimate(t, motion);
  } else {
    motion.first = true;
  }
  t.started = true;
  if (!motion.duplicate) std::swap(t.previous, t.current);
}

struct TrackerLayout {
  Tracker tracker;
  Tracker* place;
  std::uint8_t *usable, *usable_half;
};

TrackerLayout lay_out_tracker(int width, int height, const TrackerOptions& options, bool masked, Arena& arena,
                              bool build) {
  TrackerLayout out{};
  out.place = arena.take<Tracker>(1);
  Tracker& t = out.tracker;
  t.options = options;
  t.width = width;
  t.height = height;
  t.factor = factor_of(width, height, options.longest_work_side);
  t.previous = lay_out_pyramid(width, height, t.factor, arena, build);
  t.current = lay_out_pyramid(width, height, t.factor, arena, build);
  const auto [w, h] = work_size(width, height, t.factor);
  const Size area = static_cast<std::size_t>(w) * Size{static_cast<std::size_t>(h)};
  if (masked) {
    out.usable = arena.take<std::uint8_t>(area);
    out.usable_half = arena.take<std::uint8_t>(area);
  }
  const int half = corner_level(w, h);
  const Level corner_image{nullptr, w >> half, h >> half, 0};
  Arena counter;
  lay_out_corners(corner_image, counter);
  t.scratch =
      arena.take_workspace(counter.size() == 0 ? 0 : std::max(counter.size(), fit_workspace_size(kMostMatches)));
  t.corners = arena.take<float>(2 * kMostMatches);
  t.here = arena.take<float>(2 * kMostMatches);
  t.there = arena.take<float>(2 * kMostMatches);
  t.matches = arena.take<float>(4 * kMostMatches);
  t.found = arena.take<std::uint8_t>(kMostMatches);
  t.inlier = arena.take<std::uint8_t>(kMostMatches);
  t.aligned = arena.take<std::uint8_t>(area);
  return out;
}

bool whole(const Region& region) { return region.width == 0 || region.height == 0; }

/// Reduces a region and a mask, which may be null, to the work image, with half a window around what is hidden.
void reduce_mask(const std::uint8_t* mask, const Tracker& t, std::uint8_t* usable, std::uint8_t* usable_half) {
  const Region& region = t.options.region;
  const auto hidden = [&](int x, int y) {
    if (!whole(region) &&
        (x < region.x || y < region.y || x - region.x >= region.width || y - region.y >= region.height))
      return true;
    return mask != nullptr && mask[static_cast<std::ptrdiff_t>(y) * t.width + x] == 0;
  };
  const auto [w, h] = work_size(t.width, t.height, t.factor);
  std::fill_n(usable, static_cast<std::size_t>(w) * static_cast<std::size_t>(h), std::uint8_t{1});
  for (int y = 0; y < h * t.factor; ++y) {
    for (int x = 0; x < w * t.factor; ++x) {
      if (!hidden(x, y)) continue;
      const int cx = x / t.factor, cy = y / t.factor;
      std::uint8_t& mark = usable[static_cast<std::ptrdiff_t>(cy) * w + cx];
      if (mark == 2) continue;
      mark = 2;  // hidden itself; what is near becomes 0 below
    }
  }
  for (int y = 0; y < h; ++y) {  // across, then down
    std::uint8_t* row = usable + static_cast<std::ptrdiff_t>(y) * w;
    for (int x = 0; x < w; ++x) {
      if (row[x] != 2) continue;
      for (int n = std::max(0, x - kReach); n <= std::min(w - 1, x + kReach); ++n)
        row[n] = std::uint8_t{2} == row[n] ? std::uint8_t{2} : std::uint8_t{3};
    }
  }
  for (int x = 0; x < w; ++x) {
    for (int y = 0; y < h; ++y) {
      const std::uint8_t mark = usable[static_cast<std::ptrdiff_t>(y) * w + x];
      if (mark != 2 && mark != 3) continue;
      for (int n = std::max(0, y - kReach); n <= std::min(h - 1, y + kReach); ++n) {
        std::uint8_t& near = usable[static_cast<std::ptrdiff_t>(n) * w + x];
        if (near == 1) near = 0;
      }
    }
  }
  for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(w) * h; ++i) usable[i] = usable[i] == 1;
  const int half = corner_level(w, h), hw = w >> half, hh = h >> half;
  for (int y = 0; y < hh; ++y) {
    for (int x = 0; x < hw; ++x) {
      const std::uint8_t* at = usable + static_cast<std::ptrdiff_t>(y << half) * w + (x << half);
      const bool open = half == 0 ? at[0] != 0 : (at[0] & at[1] & at[w] & at[w + 1]) != 0;
      usable_half[static_cast<std::ptrdiff_t>(y) * hw + x] = open;
    }
  }
}

template <class Sample>
bool shows(const Image<const Sample>& image, int width, int height) {
  return image.data != nullptr && image.width == width && image.height == height && std::abs(image.stride) >= width;
}

bool inside(const Region& region, int width, int height) {
  return whole(region) || (region.x >= 0 && region.y >= 0 && region.width > 0 && region.height > 0 &&
                           region.width <= width - region.x && region.height <= height - region.y);
}

bool sensible(int width, int height) {
  return width >= 1 && height >= 1 && width <= kLongestSide && height <= kLongestSide;
}

bool sensible(int width, int height, const TrackerOptions& options) {
  return sensible(width, height) && options.model >= Model::homography && options.model <= Model::translation &&
         options.round_trip_px > 0 && options.longest_work_side >= 1 &&
         factor_of(width, height, options.longest_work_side) <= 250 && inside(options.region, width, height);
}

}  // namespace

std::size_t pyramid_memory_size(int width, int height, int factor) noexcept {
  if (!sensible(width, height) || factor < 1 || factor > 250) return 0;
  Arena counter;
  lay_out_pyramid(width, height, factor, counter, false);
  return counter.size();
}

Pyramid* create_pyramid(int width, int height, int factor, std::span<std::byte> memory) noexcept {
  const std::size_t size = pyramid_memory_size(width, height, factor);
  if (!is_enough(memory, size)) return nullptr;
  Arena arena(memory);
  return lay_out_pyramid(width, height, factor, arena, true);
}

Status fill_pyramid(Pyramid& pyramid, const Image<const std::uint8_t>& luma) noexcept {
  if (!shows(luma, pyramid.width, pyramid.height) || std::min(luma.width, luma.height) < pyramid.factor) {
    return Status::invalid_argument;
  }
  reduce(luma, pyramid);
  build_levels(pyramid);
  return Status::ok;
}

Status fill_pyramid(Pyramid& pyramid, const Image<const std::uint16_t>& luma, int bit_depth) noexcept {
  if (!shows(luma, pyramid.width, pyramid.height) || std::min(luma.width, luma.height) < pyramid.factor ||
      bit_depth < 9 || bit_depth > 16) {
    return Status::invalid_argument;
  }
  reduce(luma, bit_depth, pyramid);
  build_levels(pyramid);
  return Status::ok;
}

std::size_t corners_workspace_size(const Pyramid& pyramid) noexcept {
  Arena counter;
  lay_out_corners(pyramid.level[corner_level(pyramid)], counter);
  return counter.size();
}

std::size_t find_corners(const Pyramid& pyramid, std::span<std::byte> workspace, std::span<float> points) noexcept {
  if (!is_enough(workspace, corners_workspace_size(pyramid))) return 0;
  return corners_of(pyramid, nullptr, workspace, points.data(), points.size() / 2);
}

Status follow(const Pyramid& from, const Pyramid& to, std::span<const float> points, double round_trip_px,
              std::span<float> moved, std::span<std::uint8_t> found) noexcept {
  const std::size_t count = found.size();
  if (points.size() != 2 * count || moved.size() != 2 * count || from.levels != to.levels || from.width != to.width ||
      from.height != to.height || from.factor != to.factor || !(round_trip_px >= 0)) {
    return Status::invalid_argument;
  }
  for (std::size_t first = 0, end = 0; goes_on(first, end, count, 512); first = end) {
    LEGATO_DISPATCH(follow_points, from.level, to.level, from.levels, points.data() + 2 * first, nullptr, end - first,
                    static_cast<float>(round_trip_px), moved.data() + 2 * first, found.data() + first);
  }
  return outcome();
}

std::size_t tracker_memory_size(int width, int height, const TrackerOptions& options) noexcept {
  if (!sensible(width, height, options)) return 0;
  Arena counter;
  lay_out_tracker(width, height, options, true, counter, false);
  return counter.size();
}

Tracker* create_tracker(int width, int height, const TrackerOptions& options, std::span<const std::uint8_t> mask,
                        std::span<std::byte> memory) noexcept {
  const std::size_t size = tracker_memory_size(width, height, options);
  const bool masked = !mask.empty() || !whole(options.region);
  if (!is_enough(memory, size) ||
      (!mask.empty() && mask.size() != static_cast<std::size_t>(width) * static_cast<std::size_t>(height))) {
    return nullptr;
  }
  Arena arena(memory);
  TrackerLayout layout = lay_out_tracker(width, height, options, masked, arena, true);
  if (masked) {
    // A side shorter than the factor has no whole block: such a frame has no motion anyway.
    if (width >= layout.tracker.factor && height >= layout.tracker.factor) {
      reduce_mask(mask.empty() ? nullptr : mask.data(), layout.tracker, layout.usable, layout.usable_half);
    }
    layout.tracker.usable = layout.usable;
    layout.tracker.usable_half = layout.usable_half;
  }
  return new (layout.place) Tracker(layout.tracker);
}

Status push(Tracker& t, const Image<const std::uint8_t>& luma, Motion& motion) noexcept {
  motion = Motion{};
  t.match_count = 0;
  if (!shows(luma, t.width, t.height)) return Status::invalid_argument;
  const bool roomy = std::min(t.width, t.height) >= t.factor;  // else no block of the frame is whole
  if (roomy) fill_pyramid(*t.current, luma);
  follow_frame(t, roomy, motion);
  return Status::ok;
}

Status push(Tracker& t, const Image<const std::uint16_t>& luma, int bit_depth, Motion& motion) noexcept {
  motion = Motion{};
  t.match_count = 0;
  if (!shows(luma, t.width, t.height) || bit_depth < 9 || bit_depth > 16) return Status::invalid_argument;
  const bool roomy = std::min(t.width, t.height) >= t.factor;
  if (roomy) fill_pyramid(*t.current, luma, bit_depth);
  follow_frame(t, roomy, motion);
  return Status::ok;
}

FrameSize frame_size(const Tracker& t) noexcept { return {t.width, t.height}; }

std::span<const float> matches(const Tracker& t) noexcept {
  return {t.matches, 4 * static_cast<std::size_t>(t.match_count)};
}

void reset(Tracker& t) noexcept {
  t.started = false;
  t.match_count = 0;
}

}  // namespace legato::video
