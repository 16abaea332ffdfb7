// The tracker (video.hpp): the motion from one frame to the next, from points followed between their pyramids.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <utility>

#include "core/core.h"
#include "legato/video.hpp"
#include "video/pyramid.h"

namespace legato::video {

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
  float *sd, *sorted;                       // [kMostMatches]: of the points followed
  std::uint8_t *found, *inlier;
  std::uint8_t* aligned;  // the previous picture brought onto this one, at the size of a level
  int match_count;
};

namespace {

constexpr int kMostFactor = 250;
constexpr int kShortestWorkSide = 24;  // below this a window and its pyramid have no room
// What a model needs before it is believed: inliers, and cells of the 24 that hold one.
constexpr int kLeastInliers[] = {25, 15, 8, 5};
constexpr int kLeastCells[] = {6, 4, 2, 1};
// Predicted standard deviation of a frame corner beyond which a model is not determined. Against ground truth the
// prediction reads 2.5 times too low: this stands for 1.5 px. At 0.4 the blurred frames of a walk fell back to a
// similarity that was 5 px off at the corners.
constexpr double kMostCornerSd = 0.6;
// Of the cells, an inlier in so many: then what is left of a model beyond kMostCornerSd are several planes, and not too
// little evidence.
constexpr int kManyCells = 12;
// Blur on one side leaves a difference that is no noise, in all points of a pair: their median says how much.
constexpr float kMostMedians = 2;
// Correlation of the two pictures after alignment: noise gives 0, ordinary frames 0.9 and more.
constexpr double kLeastAgreement = 0.3;
// Of the corners, one in so many goes all levels of the pyramid; the others begin where these say that the picture
// went.
constexpr std::size_t kScoutEvery = 8;
constexpr std::size_t kLeastScouts = 12;  // that must agree

/// Thresholds in pixels of the work image grow with it beyond the reference.
double scale_of(const Level& work) { return std::max(1.0, static_cast<double>(work.width) / kReferenceWidth); }

int factor_of(int width, int height, int longest) { return (std::max(width, height) + longest - 1) / longest; }

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
  follow_points(from, to, home, nullptr, count, round_trip, moved, t.found, t.sd);
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

/// Drops the points found whose texture does not fix them, by the measure of the pair where that is the wider one.
void drop_unfixed(Tracker& t, std::size_t corners) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < corners; ++i) {
    if (t.found[i] != 0) t.sorted[count++] = t.sd[i];
  }
  if (count == 0) return;
  float* const middle = t.sorted + count / 2;
  std::nth_element(t.sorted, middle, t.sorted + count);
  const float most = std::max(static_cast<float>(kMostPointSd), kMostMedians * *middle);
  for (std::size_t i = 0; i < corners; ++i) {
    if (t.sd[i] > most) t.found[i] = 0;
  }
}

/// Corners of the previous picture found again; fills here, there and found, and returns how many.
int find_matches(Tracker& t, std::size_t corners) {
  const Level& work = t.current->level[0];
  const Pyramid &from = *t.previous, &to = *t.current;
  const double px = scale_of(work);
  const auto round_trip = static_cast<float>(t.options.round_trip_px * px);
  const bool near = send_scouts(t, corners, round_trip, px);
  follow_points(from, to, t.corners, near ? t.here : nullptr, corners, round_trip, t.here, t.found, t.sd);
  for (std::size_t i = 0; near && i < corners; ++i) {
    // Whoever does not go with the picture takes the long way.
    if (t.found[i] != 0) continue;
    follow_points(from, to, t.corners + 2 * i, nullptr, std::size_t{1}, round_trip, t.here + 2 * i, t.found + i,
                  t.sd + i);
  }
  drop_unfixed(t, corners);
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

/// A model fitted to the matches; t.inlier says which agree.
struct Fit {
  Model model = Model::translation;
  FitResult result;
  int cells = 0;
  double agreement = 0;  // of the pictures that it brings together
};

/// Fits one model; false where the evidence does not carry it.
bool fit_model(Tracker& t, Model model, int count, Fit& fit) {
  const Level& work = t.current->level[0];
  const auto n = static_cast<std::size_t>(count);
  const auto rung = static_cast<int>(model);
  if (count < kLeastInliers[rung]) return false;
  FitOptions options;
  options.model = fit.model = model;
  if (model != Model::homography) options.threshold_px = 1.5;  // the true motion only comes near to it
  options.threshold_px *= scale_of(work);
  const Status status = fit_motion({t.here, 2 * n}, {t.there, 2 * n}, work.width, work.height, options, t.scratch,
                                   {t.inlier, n}, fit.result);
  if (status != Status::ok || !fit.result.found) return false;
  fit.cells = cells_of(t, count, work);
  return fit.result.inliers >= kLeastInliers[rung] && fit.cells >= kLeastCells[rung];
}

/// Whether the pictures resemble each other once the model has brought them together.
bool agrees(const Tracker& t, Fit& fit) {
  const int index = agreement_level(*t.current);
  const Level &before = t.previous->level[index], &now = t.current->level[index];
  double at_level[9];
  rescale(fit.result.matrix, 1 << index, at_level);
  const Image<const std::uint8_t> source{before.data, before.width, before.height, before.stride};
  const Image<std::uint8_t> target{t.aligned, now.width, now.height, now.width};
  if (warp(at_level, {&source, 1}, {&target, 1}, Interpolation::bilinear) != Status::ok) return false;
  fit.agreement = agreement(t.aligned, now.width, now);
  return fit.agreement >= kLeastAgreement;
}

/// The richest model that is determined. Where that is but a translation the evidence may be plenty, and of several
/// planes: then, of those with inliers all over the picture, the one of least predicted deviation and misfit together.
bool fit_ladder(Tracker& t, int count, Fit& fit) {
  const double most = kMostCornerSd * scale_of(t.current->level[0]);
  Model best = Model::translation;
  double least = 0;
  bool any = false;
  for (int rung = static_cast<int>(t.options.model); rung <= static_cast<int>(Model::translation); ++rung) {
    const auto model = static_cast<Model>(rung);
    if (!fit_model(t, model, count, fit)) continue;
    const FitResult& r = fit.result;
    const bool last = model == Model::translation;
    if (r.corner_sd_px <= most && !last) {
      if (agrees(t, fit)) return true;
      continue;
    }
    const double cost = r.corner_sd_px * r.corner_sd_px + r.residual_px * r.residual_px;
    if ((last || fit.cells >= kManyCells) && (!any || cost < least)) {
      any = true;
      best = model;
      least = cost;
    }
  }
  return any && (fit.model == best || fit_model(t, best, count, fit)) && agrees(t, fit);
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
  Fit fit;
  if (!fit_ladder(t, count, fit)) return;
  rescale(fit.result.matrix, 1.0 / t.factor, motion.homography);
  motion.inliers = fit.result.inliers;
  motion.matches = count;
  motion.confidence = static_cast<double>(motion.inliers) / count * std::min(1.0, motion.inliers / 50.0) *
                      std::min(1.0, fit.cells / 12.0) * fit.agreement;
  motion.residual_px = fit.result.residual_px * t.factor;
  for (int i = 0; i < 64; ++i) motion.corner_covariance[i] = fit.result.corner_covariance[i] * t.factor * t.factor;
  motion.model = fit.model;
  motion.ok = true;
  list_matches(t, count);
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
  const std::size_t of_corners = corners_workspace_size(corner_image);
  t.scratch = arena.take_workspace(of_corners == 0 ? 0 : std::max(of_corners, fit_workspace_size(kMostMatches)));
  t.corners = arena.take<float>(2 * kMostMatches);
  t.here = arena.take<float>(2 * kMostMatches);
  t.there = arena.take<float>(2 * kMostMatches);
  t.matches = arena.take<float>(4 * kMostMatches);
  t.sd = arena.take<float>(kMostMatches);
  t.sorted = arena.take<float>(kMostMatches);
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

bool inside(const Region& region, int width, int height) {
  return whole(region) || (region.x >= 0 && region.y >= 0 && region.width > 0 && region.height > 0 &&
                           region.width <= width - region.x && region.height <= height - region.y);
}

}  // namespace

const char* tracker_problem(int width, int height, const TrackerOptions& options) noexcept {
  if (!is_frame_size(width, height)) return "width, height: expected 1 to 32766 pixels";
  if (!(options.model >= Model::homography && options.model <= Model::translation)) {
    return "model: expected homography, affine, similarity or translation";
  }
  if (!(options.round_trip_px > 0)) return "round_trip_px: expected more than 0";
  if (options.longest_work_side < 1) return "longest_work_side: expected 1 or more pixels";
  if (factor_of(width, height, options.longest_work_side) > kMostFactor) {
    return "longest_work_side: expected at least a 250th of the frame's longer side";
  }
  if (!inside(options.region, width, height))
    return "region: expected x, y, width, height inside the frame, or width 0";
  return nullptr;
}

std::size_t tracker_memory_size(int width, int height, const TrackerOptions& options) noexcept {
  if (tracker_problem(width, height, options) != nullptr) return 0;
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
