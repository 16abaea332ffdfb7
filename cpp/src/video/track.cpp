// Pictures and their points (pyramid.h): the driver of track-inl.h.
#include "video/pyramid.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <new>
#include <utility>

#include "core/core.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#ifndef LEGATO_HD
#define LEGATO_HD inline __attribute__((always_inline))
#endif
#define LEGATO_REGION_FILE "video/track-inl.h"
#include "core/isa_region.h"

namespace legato::video {

namespace {

constexpr int kShortestLevel = 12;
constexpr int kCornerCells = 620;   // about so many cells of one corner each
constexpr int kSmallestCorner = 4;  // side of a cell, at least
constexpr int kCornerBorder = 3;
// Of the response: what noise of a gray level makes; and relative to the best.
constexpr float kCornerFloor = 120.0f, kCornerQuality = 1e-3f;

constexpr int kAgreementBlock = 16;
// A frame counts as repeated if the change is less than a shift of this many pixels of the half-size copy would make,
// and no cell changes by more gray levels than a codec does.
constexpr double kRepeatPx = 0.045, kRepeatCellChange = 1.25;

int count_levels(int width, int height) {
  int levels = 1;
  while (levels < kMostLevels && std::min(width, height) >> levels >= kShortestLevel) ++levels;
  return levels;
}

}  // namespace

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

namespace {

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

int corner_level_of(const Pyramid& p) { return corner_level(p.level[0].width, p.level[0].height); }
int half_level(const Pyramid& p) { return p.levels > 1 ? 1 : 0; }

}  // namespace

int corner_level(int width, int height) { return width > kReferenceWidth && count_levels(width, height) > 1 ? 1 : 0; }

std::size_t corners_workspace_size(const Level& level) {
  Arena counter;
  lay_out_corners(level, counter);
  return counter.size();
}

std::size_t corners_of(const Pyramid& p, const std::uint8_t* usable, std::span<std::byte> workspace, float* points,
                       std::size_t most) {
  const int index = corner_level_of(p);
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

namespace {

bool same_picture(const Level& a, const Level& b) {
  for (int y = 0; y < a.height; ++y) {
    if (std::memcmp(a.data + y * a.stride, b.data + y * b.stride, static_cast<std::size_t>(a.width)) != 0) return false;
  }
  return true;
}

}  // namespace

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

int agreement_level(const Pyramid& p) { return p.levels > 2 && p.level[0].width >= 320 ? 2 : half_level(p); }

void follow_points(const Pyramid& from, const Pyramid& to, const float* points, const float* start, std::size_t count,
                   float round_trip, float* moved, std::uint8_t* found, float* sd) {
  LEGATO_DISPATCH(follow_points, from.level, to.level, from.levels, points, start, count, round_trip, moved, found, sd);
}

bool is_frame_size(int width, int height) {
  return width >= 1 && height >= 1 && width <= kLongestSide && height <= kLongestSide;
}

FrameSize frame_size(const Pyramid& pyramid) noexcept { return {pyramid.width, pyramid.height}; }

std::size_t pyramid_memory_size(int width, int height, int factor) noexcept {
  if (!is_frame_size(width, height) || factor < 1 || factor > 250) return 0;
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
  return corners_workspace_size(pyramid.level[corner_level_of(pyramid)]);
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
    follow_points(from, to, points.data() + 2 * first, nullptr, end - first, static_cast<float>(round_trip_px),
                  moved.data() + 2 * first, found.data() + first, nullptr);
  }
  return outcome();
}

}  // namespace legato::video
