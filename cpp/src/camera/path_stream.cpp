// Windows over a stream of motions (camera.hpp: PathStream). python/legato/camera/streams.py is the same in NumPy.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <new>
#include <span>

#include "core/core.h"
#include "legato/camera.hpp"

namespace legato::camera {
namespace {

constexpr std::size_t kPinned = 3;           // derivatives reach three frames back: these stand for the whole past
constexpr std::size_t kShortLookAhead = 10;  // frames; below that predicted motions help
constexpr std::size_t kPredicted = 15;
constexpr double kDecay = 0.9;
constexpr std::size_t kMeanOf = 10;  // frames whose mean motion is carried on
constexpr double kNoRatio = -1.4;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kIdentity[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};

bool usable(const StreamOptions& o) {
  return o.stride > kPinned && o.stride < o.window && o.window < (std::size_t{1} << 24) && o.predicted >= -1 &&
         o.predicted <= 1000 && o.points < 10000 && o.salient_weight >= 0 && o.target_weight >= 0 &&
         o.level_weight >= 0 && sensible(o.path, o.aspect);
}

std::size_t predicted_of(const StreamOptions& o) {
  if (o.predicted >= 0) return static_cast<std::size_t>(o.predicted);
  return o.window - o.stride <= kShortLookAhead ? kPredicted : 0;
}

}  // namespace

class PathStream {
 public:
  StreamOptions options;
  std::size_t ahead = 0;  // predicted motions of a window
  // The frames kept, oldest first, as they came in; then what is solved.
  double* motion = nullptr;   // window x 9
  double* log = nullptr;      // window x 9, of good motions
  double* weight = nullptr;   // window + ahead
  double* salient = nullptr;  // (window + ahead) x points x 2
  double* target = nullptr;   // (window + ahead) x 2
  double* roll = nullptr;     // window + ahead
  bool* good = nullptr;       // window
  double* known = nullptr;    // (window + ahead) x 9: holes filled, predictions appended
  double* corrections = nullptr;
  double* logs = nullptr;
  double* violation = nullptr;
  std::span<std::byte> workspace;

  double pins[9 * kPinned] = {};
  std::size_t kept = 0, pinned = 0, first = 0;  // first: number in the stream of the first frame kept
  bool fresh = true;                            // the next frame is a scene's first
  double kt = 0, tt = 0;                        // sums over the scene: the keystone ratio
  std::size_t before = 0;                       // how far before the kept frames the last good motion was; 0: none
  double before_log[9] = {};

  void lay_out(Arena& arena) {
    const Size n = options.window, all = n + ahead, points = options.points;
    motion = arena.take<double>(9 * n);
    log = arena.take<double>(9 * n);
    weight = arena.take<double>(all);
    salient = arena.take<double>(2 * points * all);
    target = arena.take<double>(2 * all);
    roll = arena.take<double>(all);
    good = arena.take<bool>(n);
    known = arena.take<double>(9 * all);
    corrections = arena.take<double>(9 * all);
    logs = arena.take<double>(9 * all);
    violation = arena.take<double>(all);
    workspace = arena.take_workspace(path_workspace_size(all.value(), options.path, options.points));
  }

  void start_scene() {
    first += kept;
    kept = pinned = before = 0;
    kt = tt = 0;
    fresh = true;
  }

  Status take(const StreamFrame& frame) {
    const auto shaped = [](std::span<const double> numbers, std::size_t size) {
      return numbers.empty() || numbers.size() == size;
    };
    if (!shaped(frame.motion, 9) || !shaped(frame.salient, 2 * options.points) || !shaped(frame.target, 2)) {
      return Status::invalid_argument;
    }
    const bool some =
        !frame.motion.empty() && std::ranges::none_of(frame.motion, [](double x) { return std::isnan(x); });
    double* m = motion + 9 * kept;
    double* f = log + 9 * kept;
    if (!(frame.weight > 0 && frame.weight < 1e12) || std::isinf(frame.roll)) return Status::invalid_argument;
    std::copy_n(some && !fresh ? frame.motion.data() : kIdentity, 9, m);
    if (some && !fresh) {
      std::size_t bad = 0;
      const Status status = log_homography({m, 9}, {f, 9}, bad);
      if (status != Status::ok) return status;
      kt += f[6] * f[2] + f[7] * f[5];
      tt += f[2] * f[2] + f[5] * f[5];
    }
    good[kept] = some && !fresh;
    weight[kept] = frame.weight;
    for (std::size_t i = 0; i < 2 * options.points; ++i) {
      salient[2 * options.points * kept + i] = frame.salient.empty() ? kNan : frame.salient[i];
    }
    for (std::size_t i = 0; i < 2; ++i) target[2 * kept + i] = frame.target.empty() ? kNan : frame.target[i];
    roll[kept] = frame.roll;
    fresh = false;
    ++kept;
    return Status::ok;
  }

  /// Missing motions, as logarithms, between their good neighbors; the identity where there is none on one side.
  Status fill_holes() {
    std::copy_n(motion, 9 * kept, known);
    double place = -static_cast<double>(before);  // of the last good motion
    const double* last = before > 0 ? before_log : nullptr;
    std::size_t next = 0;
    for (std::size_t t = 0; t < kept; ++t) {
      if (good[t]) {
        place = static_cast<double>(t);
        last = log + 9 * t;
        continue;
      }
      next = std::max(next, t);
      while (next < kept && !good[next]) ++next;
      std::copy_n(kIdentity, 9, known + 9 * t);
      if (last == nullptr || next == kept) continue;
      double between[9];
      for (std::size_t i = 0; i < 9; ++i) {
        const double slope = (log[9 * next + i] - last[i]) / (static_cast<double>(next) - place);
        between[i] = slope * (static_cast<double>(t) - place) + last[i];
      }
      std::size_t bad = 0;
      const Status status = exp_homography(between, {known + 9 * t, 9}, bad);
      if (status != Status::ok) return status;
    }
    return Status::ok;
  }

  /// The mean of the last motions, each `kDecay` times the one before.
  Status predict() {
    const std::size_t from = kept > kMeanOf + 1 ? kept - kMeanOf : 1;
    double mean[9] = {};
    for (std::size_t t = from; t < kept; ++t) {
      double f[9];
      std::size_t bad = 0;
      const Status status = log_homography({known + 9 * t, 9}, f, bad);
      if (status != Status::ok) return status;
      for (std::size_t i = 0; i < 9; ++i) mean[i] += f[i];
    }
    for (double& x : mean) x /= static_cast<double>(kept - from);
    double share = 1;
    for (std::size_t t = kept; t < kept + ahead; ++t) {
      share *= kDecay;
      double f[9];
      for (std::size_t i = 0; i < 9; ++i) f[i] = mean[i] * share;
      std::size_t bad = 0;
      const Status status = exp_homography(f, {known + 9 * t, 9}, bad);
      if (status != Status::ok) return status;
      weight[t] = 1;
      std::fill_n(salient + 2 * options.points * t, 2 * options.points, kNan);
      std::fill_n(target + 2 * t, 2, kNan);
      roll[t] = kNan;
    }
    return Status::ok;
  }

  Status solve(bool last, StreamResult& out) {
    Status status = fill_holes();
    if (status != Status::ok) return status;
    std::size_t n = kept;
    if (!last && ahead > 0) {
      status = predict();
      if (status != Status::ok) return status;
      n += ahead;
    }
    PathOptions path = options.path;
    if (std::isnan(path.keystone_ratio)) path.keystone_ratio = tt > 0 ? std::clamp(kt / tt, -3.0, -0.3) : kNoRatio;
    Subjects subjects;
    subjects.points = options.points;
    subjects.salient = {salient, 2 * options.points * n};
    subjects.salient_weight = options.salient_weight;
    if (options.target_weight > 0) subjects.targets = {target, 2 * n};
    subjects.target_weight = options.target_weight;
    if (options.level_weight > 0) subjects.rolls = {roll, n};
    subjects.level_weight = options.level_weight;
    status = smooth_path({known, 9 * n}, options.aspect, path, {pins, 9 * pinned}, {weight, n}, workspace,
                         {corrections, 9 * n}, {logs, 9 * n}, {violation, n}, out.solve, subjects);
    out.solve.bad_frame += first;
    const bool solved =
        status == Status::ok || status == Status::iteration_limit || status == Status::numerical_trouble;
    if (!solved) {
      out.first_frame = first;
      if (status == Status::infeasible) out.violation = {violation, n};
      return status;
    }
    const std::size_t keep = last ? kept : options.stride;
    out.corrections = {corrections + 9 * pinned, 9 * (keep - pinned)};
    out.violation = {violation + pinned, keep - pinned};
    out.first_frame = first + pinned;
    if (!last) commit();
    return status;
  }

  /// Drops what is committed but for the last three frames, which stay as pins.
  void commit() {
    const std::size_t drop = options.stride - kPinned, left = kept - drop;
    std::copy_n(corrections + 9 * drop, 9 * kPinned, pins);
    pinned = kPinned;
    std::size_t seen = drop;
    while (seen > 0 && !good[seen - 1]) --seen;
    if (seen > 0) {
      before = drop - (seen - 1);
      std::copy_n(log + 9 * (seen - 1), 9, before_log);
    } else if (before > 0) {
      before += drop;
    }
    const auto shift = [&](auto* values, std::size_t width) {
      std::copy(values + width * drop, values + width * kept, values);
    };
    shift(motion, 9);
    shift(log, 9);
    shift(weight, 1);
    shift(salient, 2 * options.points);
    shift(target, 2);
    shift(roll, 1);
    shift(good, 1);
    kept = left;
    first += drop;
  }
};

namespace {

PathStream* lay_out_stream(const StreamOptions& options, Arena& arena, PathStream& counted) {
  PathStream* stream = arena.take<PathStream>(1);
  PathStream& laid = stream != nullptr ? *::new (stream) PathStream : counted;
  laid.options = options;
  laid.ahead = predicted_of(options);
  laid.lay_out(arena);
  return stream;
}

}  // namespace

std::size_t path_stream_memory_size(const StreamOptions& options) noexcept {
  if (!usable(options)) return 0;
  Arena counter;
  PathStream counted;
  lay_out_stream(options, counter, counted);
  return counter.size();
}

PathStream* create_path_stream(const StreamOptions& options, std::span<std::byte> memory) noexcept {
  if (!usable(options) || memory.data() == nullptr || !is_enough(memory, path_stream_memory_size(options)))
    return nullptr;
  Arena arena(memory);
  PathStream counted;
  return lay_out_stream(options, arena, counted);
}

std::size_t pending_frames(const PathStream& stream) noexcept { return stream.kept - stream.pinned; }

Status push(PathStream& stream, const StreamFrame& frame, StreamResult& result) noexcept {
  result = StreamResult{};
  if (stream.kept < stream.options.window) {
    const Status status = stream.take(frame);
    if (status != Status::ok) return status;
    if (stream.kept < stream.options.window) return Status::ok;
  }
  return stream.solve(false, result);
}

Status finish(PathStream& stream, StreamResult& result) noexcept {
  result = StreamResult{};
  const Status status = pending_frames(stream) > 0 ? stream.solve(true, result) : Status::ok;
  stream.start_scene();
  return status;
}

}  // namespace legato::camera
