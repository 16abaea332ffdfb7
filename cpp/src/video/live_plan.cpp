// From luma to corrections while pictures arrive (live.hpp: LivePlan).
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>

#include "core/core.h"
#include "legato/live.hpp"
#include "video/live_guard.h"

namespace legato::video {
namespace {

constexpr double kChange = 1.5;  // seconds from one setting to another

// A picture reduced to this tells one scene from another.
constexpr int kColumns = 32, kRows = 18;
constexpr int kSamples = 4;        // of a cell, each way: enough for a mean
constexpr int kShift = 4;          // cells by which a camera may have moved between two frames
constexpr double kContrast = 4.0;  // gray levels: below, a picture is too flat to be told from another
constexpr double kAlike = 0.6;     // correlation of two glances below which they show two scenes

struct Glance {
  double at[kRows][kColumns];
};

Glance glance_at(const Image<const std::uint8_t>& luma) {
  const auto place = [](int i, int count, int side) {
    return i == count - 1 ? side - 1 : static_cast<int>(i * (static_cast<double>(side - 1) / (count - 1)));
  };
  Glance glance{};
  for (int y = 0; y < kSamples * kRows; ++y) {
    const std::uint8_t* row = luma.data + place(y, kSamples * kRows, luma.height) * luma.stride;
    for (int x = 0; x < kSamples * kColumns; ++x) {
      glance.at[y / kSamples][x / kSamples] += row[place(x, kSamples * kColumns, luma.width)];
    }
  }
  for (auto& row : glance.at) {
    for (double& cell : row) cell /= kSamples * kSamples;
  }
  return glance;
}

/// Sum of squares about the mean of a part of a glance, and its product with another part of that size.
struct Moments {
  double own = 0, shared = 0;
};
Moments moments(const Glance& a, int ay, int ax, const Glance& b, int by, int bx, int rows, int columns) {
  double means[2] = {};
  for (int y = 0; y < rows; ++y) {
    for (int x = 0; x < columns; ++x) {
      means[0] += a.at[ay + y][ax + x];
      means[1] += b.at[by + y][bx + x];
    }
  }
  for (double& mean : means) mean /= rows * columns;
  Moments m;
  for (int y = 0; y < rows; ++y) {
    for (int x = 0; x < columns; ++x) {
      const double p = a.at[ay + y][ax + x] - means[0], q = b.at[by + y][bx + x] - means[1];
      m.own += p * p;
      m.shared += p * q;
    }
  }
  return m;
}

bool flat(const Glance& glance) {
  return std::sqrt(moments(glance, 0, 0, glance, 0, 0, kRows, kColumns).own / (kRows * kColumns)) < kContrast;
}

/// Whether two glances may show one scene, the camera having moved a little.
bool alike(const Glance& before, const Glance& after) {
  constexpr int rows = kRows - 2 * kShift, columns = kColumns - 2 * kShift;
  const double norm = std::sqrt(moments(after, kShift, kShift, after, kShift, kShift, rows, columns).own);
  for (int y = 0; y <= 2 * kShift; ++y) {
    for (int x = 0; x <= 2 * kShift; ++x) {
      const Moments m = moments(before, y, x, after, kShift, kShift, rows, columns);
      if (m.shared >= kAlike * (norm * std::sqrt(m.own))) return true;
    }
  }
  return false;
}

/// Between pixels (centers at integers) and frame widths (origin at the frame center), entry by entry, so that
/// multiples of the identity stay that.
struct Units {
  double width, cx, cy;

  Units(int w, int h) : width(w), cx((w - 1) / 2.0), cy((h - 1) / 2.0) {}

  void to_width(const double* pixel, double* m) const {
    double s[9];
    for (int i = 0; i < 9; ++i) s[i] = pixel[i] / (pixel[8] == 0 ? 1.0 : pixel[8]);
    for (int r = 0; r < 9; r += 3) {
      m[r] = s[r] * width;
      m[r + 1] = s[r + 1] * width;
      m[r + 2] = s[r] * cx + s[r + 1] * cy + s[r + 2];
    }
    for (int c = 0; c < 3; ++c) {
      m[c] = (m[c] - cx * m[6 + c]) / width;
      m[3 + c] = (m[3 + c] - cy * m[6 + c]) / width;
    }
  }
  void to_pixel(const double* h, double* m) const {
    for (int c = 0; c < 3; ++c) {
      m[c] = width * h[c] + cx * h[6 + c];
      m[3 + c] = width * h[3 + c] + cy * h[6 + c];
      m[6 + c] = h[6 + c];
    }
    for (int r = 0; r < 9; r += 3) {
      m[r] /= width;
      m[r + 1] /= width;
      m[r + 2] -= cx * m[r] + cy * m[r + 1];
    }
    const double last = m[8];
    for (int i = 0; i < 9; ++i) m[i] /= last;
  }
};

bool sensible(const LiveSettings& s, double aspect) {
  return s.fps >= 1e-3 && s.fps <= 1e6 && s.strength >= 0 && s.strength <= 1 &&
         camera::sensible(camera::at_frame_rate(s.path, s.fps), aspect);
}

}  // namespace

camera::PathOptions live_options(Preset preset, int width) noexcept {
  constexpr double kRoom = 0.06;  // with the future unknown, a path needs more than that of a file
  camera::PathOptions o;
  o.inset = 0.5 / width;
  o.pixel = 1.0 / width;
  o.acceleration = 1e6;
  switch (preset) {
    case Preset::gentle:
      o.crop = 0.08;
      break;
    case Preset::standard:
      break;
    case Preset::smooth:
      o.crop = 0.15;
      break;
    case Preset::steady:
      o.acceleration *= 10;
      o.roll_weight = 100;
      break;
    case Preset::full:
      o.crop = 0.275;
      o.window_scale = 0.75;
      o.acceleration *= 10;
      break;
    case Preset::tripod:
      o.crop = 0.2;
      o.weights[0] = 0.01;
      o.weights[1] = 100;
      break;
    case Preset::follow:
      o.crop = 0.25;
      o.acceleration = 0;
      break;
  }
  o.crop = std::nearbyint((o.crop + kRoom) * 1e6) / 1e6;
  return o;
}

class LivePlan {
 public:
  LivePlanOptions options;
  Tracker* tracker = nullptr;
  camera::LivePath* path = nullptr;
  LiveGuard guard;
  Traces* traces = nullptr;  // latency + 1: of the pictures that wait, by their number in the clip
  float* points = nullptr;   // kMostMatches x 4: matches of the newest motion
  std::size_t points_size = 0;
  bool measured = false;  // whether the newest picture had a motion to the one before
  Glance newest{}, scene{};
  bool has_scene = false;  // how it looked before its motion could not be measured
  LiveCounts counted;
  std::size_t taken = 0, shown = 0;  // in the clip
  std::span<const double> rest;      // what flush() still has to give
  bool flushing = false;

  // On the way from some settings to others.
  double progress = 1, step = 0;
  double crop[2] = {}, scale[2] = {}, strength[2] = {};  // from, to
  camera::PathOptions present;                           // as the path has them

  double aspect() const { return static_cast<double>(options.height) / options.width; }

  camera::LiveOptions path_options() const {
    return {camera::at_frame_rate(options.settings.path, options.settings.fps), aspect(), options.latency,
            options.predicted};
  }

  /// Lays the parts out; makes them where there is memory.
  bool lay_out(Arena& arena, std::span<const std::uint8_t> mask) {
    const auto tracker_memory =
        arena.take_workspace(tracker_memory_size(options.width, options.height, options.tracker));
    const auto path_memory = arena.take_workspace(camera::live_path_memory_size(path_options()));
    traces = arena.take<Traces>(Size{options.latency} + 1);
    points = arena.take<float>(4 * kMostMatches);
    guard.lay_out(arena, options.settings.fps);
    if (tracker_memory.empty() || path_memory.empty() || traces == nullptr) return false;
    tracker = create_tracker(options.width, options.height, options.tracker, mask, tracker_memory);
    path = camera::create_live_path(path_options(), path_memory);
    return tracker != nullptr && path != nullptr;
  }

  void start_clip() {
    reset(*tracker);
    guard.start(options.width);
    points_size = taken = shown = 0;
    measured = has_scene = flushing = false;
  }

  Traces& traces_of(std::size_t frame) { return traces[frame % (options.latency + 1)]; }

  /// Whether a picture may be of the same scene as those before, though its motion could not be measured.
  bool continues(const Glance& after) {
    if (!flat(newest)) {
      scene = newest;
      has_scene = true;
    }
    // A flat picture, as of a covered lens or between two scenes, tells nothing; the next may.
    return !has_scene || flat(after) || alike(scene, after);
  }

  /// Takes the motion of the next picture; says whether a scene begins with it.
  Status follow(const Image<const std::uint8_t>& luma, bool& cut, double* motion, bool& known) {
    if (cut) reset(*tracker);
    Motion found;
    const Status status = video::push(*tracker, luma, found);
    if (status != Status::ok) return status;
    const std::span<const float> now = found.ok ? matches(*tracker) : std::span<const float>{};
    const bool before = measured;
    Traces& own = traces_of(taken);
    own.count = 0;
    if (before && !found.first) find_traces({points, points_size}, now, options.width, own);
    std::copy(now.begin(), now.end(), points);
    points_size = now.size();
    measured = !found.first;

    const Glance glance = glance_at(luma);
    known = !found.first && found.ok;
    if (known) {
      Units(options.width, options.height).to_width(found.homography, motion);
      counted.duplicates += found.duplicate;
    } else if (!found.first) {
      cut = cut || !continues(glance);
      counted.failed += !cut;
    }
    newest = glance;
    return Status::ok;
  }

  /// Goes a picture further from the old settings to the new ones.
  void go_over() {
    if (progress == 1) return;
    progress = std::min(1.0, progress + step);
    const double share = progress * progress * (3 - 2 * progress);
    present = path_options().path;
    if (progress < 1) {
      present.crop = crop[0] + share * (crop[1] - crop[0]);
      present.window_scale = scale[0] + share * (scale[1] - scale[0]);
    }
    if (set_options(*path, present) == Status::ok) return;
    progress = 1;  // there is no way between the two
    present = path_options().path;
    set_options(*path, present);
  }

  double present_strength() const {
    const double share = progress * progress * (3 - 2 * progress);
    return progress == 1 ? strength[1] : strength[0] + share * (strength[1] - strength[0]);
  }

  /// Makes of a correction of the path what the picture is drawn by.
  void show(const double* found, LiveCorrection& correction) {
    camera::PathOptions inner = present;
    inner.inset += 1e-9 / options.width;  // for the rounding of the change of units
    double inside[9], pixel[9];
    std::size_t bad = 0;
    if (camera::contain({found, 9}, aspect(), inner, inside, bad) != Status::ok) std::copy_n(kIdentity, 9, inside);
    Units(options.width, options.height).to_pixel(inside, pixel);
    const double s = camera::window_scale(present);
    const double x = (1 - s) * (options.width - 1) / 2, y = (1 - s) * (options.height - 1) / 2;
    double* m = correction.homography;
    for (int r = 0; r < 9; r += 3) {
      m[r] = pixel[r] * s;
      m[r + 1] = pixel[r + 1] * s;
      m[r + 2] = pixel[r] * x + pixel[r + 1] * y + pixel[r + 2];
    }
    correction.due = true;
    correction.frame = shown;
    correction.rest = guard.push(traces_of(shown), m, options.settings.guard);
    counted.rested += correction.rest >= 0.5;
    const double applied = present_strength();
    const double share = applied < 1 ? 1 - applied * (1 - correction.rest) : correction.rest;
    if (share > 0) {
      const double last = m[8];
      for (int i = 0; i < 9; ++i) m[i] = (1 - share) * m[i] / last + share * kIdentity[i];
    }
    ++shown;
  }
};

namespace {

bool usable(const LivePlanOptions& o) {
  return o.width > 0 && o.height > 0 && tracker_memory_size(o.width, o.height, o.tracker) > 0 &&
         sensible(o.settings, static_cast<double>(o.height) / o.width) && o.latency < (std::size_t{1} << 24);
}

}  // namespace

std::size_t live_plan_memory_size(const LivePlanOptions& options) noexcept {
  if (!usable(options)) return 0;
  Arena counter;
  LivePlan counted;
  counted.options = options;
  counter.take<LivePlan>(1);
  counted.lay_out(counter, {});
  return counter.size();
}

LivePlan* create_live_plan(const LivePlanOptions& options, std::span<const std::uint8_t> mask,
                           std::span<std::byte> memory) noexcept {
  if (memory.data() == nullptr || !is_enough(memory, live_plan_memory_size(options))) return nullptr;
  Arena arena(memory);
  LivePlan* plan = ::new (arena.take<LivePlan>(1)) LivePlan;
  plan->options = options;
  if (!plan->lay_out(arena, mask)) return nullptr;
  plan->present = plan->path_options().path;
  plan->strength[1] = options.settings.strength;
  plan->start_clip();
  return plan;
}

Status push(LivePlan& plan, const Image<const std::uint8_t>& luma, bool cut, LiveCorrection& correction) noexcept {
  correction = LiveCorrection{};
  if (plan.flushing || luma.data == nullptr || luma.width != plan.options.width || luma.height != plan.options.height) {
    return Status::invalid_argument;
  }
  double motion[9];
  bool known = false;
  Status status = plan.follow(luma, cut, motion, known);
  if (status != Status::ok) return status;
  plan.go_over();
  std::span<const double> found;
  status = camera::push(*plan.path, known ? std::span<const double>(motion) : std::span<const double>{}, cut, found);
  if (status != Status::ok && status != Status::cancelled) {  // a motion that has no logarithm is not known
    status = camera::push(*plan.path, {}, cut, found);
  }
  plan.counted.cuts += cut && plan.counted.frames > 0;
  if (cut) plan.has_scene = false;
  ++plan.counted.frames;
  ++plan.taken;
  if (!found.empty()) plan.show(found.data(), correction);
  return status;
}

Status flush(LivePlan& plan, LiveCorrection& correction) noexcept {
  correction = LiveCorrection{};
  Status status = Status::ok;
  if (!plan.flushing) {
    plan.flushing = true;
    status = camera::finish(*plan.path, plan.rest);
  }
  if (plan.rest.empty()) {
    plan.start_clip();
    return status;
  }
  plan.show(plan.rest.data(), correction);
  plan.rest = plan.rest.subspan(9);
  return status;
}

Status change(LivePlan& plan, const LiveSettings& settings) noexcept {
  if (!sensible(settings, plan.aspect())) return Status::invalid_argument;
  plan.strength[0] = plan.present_strength();
  plan.strength[1] = settings.strength;
  plan.options.settings = settings;
  const camera::PathOptions next = plan.path_options().path;
  plan.crop[0] = plan.present.crop;
  plan.crop[1] = next.crop;
  plan.scale[0] = camera::window_scale(plan.present);
  plan.scale[1] = camera::window_scale(next);
  plan.guard.set_rate(settings.fps);
  plan.progress = 0;
  plan.step = 1 / (kChange * settings.fps);
  return Status::ok;
}

const LiveCounts& counts(const LivePlan& plan) noexcept { return plan.counted; }

}  // namespace legato::video
