// Windows over a stream of motions (camera.hpp: PathStream). python/legato/camera/streams.py is the same in NumPy.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <new>
#include <span>

#include "camera/scene_motion.h"
#include "core/core.h"
#include "legato/camera.hpp"

namespace legato::camera {
namespace {

constexpr std::size_t kShortLookAhead = 10;  // frames; below that predicted motions help
constexpr std::size_t kPredicted = 15;
constexpr double kDecay = 0.9;
constexpr std::size_t kMeanOf = 10;  // frames whose mean motion is carried on
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

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
  SceneMotion scene;
  double* weight = nullptr;   // window + ahead
  double* salient = nullptr;  // (window + ahead) x points x 2
  double* target = nullptr;   // (window + ahead) x 2
  double* known = nullptr;    // (window + ahead) x 9: holes filled, predictions appended
  double* corrections = nullptr;
  double* logs = nullptr;
  double* violation = nullptr;
  std::span<std::byte> workspace;

  double pins[9 * kPinned] = {};
  std::size_t pinned = 0, first = 0;  // first: number in the stream of the first frame kept

  void lay_out(Arena& arena) {
    const Size n = options.window, all = n + ahead, points = options.points;
    scene.lay_out(arena, n);
    weight = arena.take<double>(all);
    salient = arena.take<double>(2 * points * all);
    target = arena.take<double>(2 * all);
    known = arena.take<double>(9 * all);
    corrections = arena.take<double>(9 * all);
    logs = arena.take<double>(9 * all);
    violation = arena.take<double>(all);
    workspace = arena.take_workspace(path_workspace_size(all.value(), options.path, options.points));
  }

  void start_scene() {
    first += scene.kept();
    pinned = 0;
    scene.start();
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
    if (!(frame.weight > 0 && frame.weight < 1e12)) return Status::invalid_argument;
    const std::size_t at = scene.kept();
    const Status status = scene.take(some ? frame.motion : std::span<const double>{});
    if (status != Status::ok) return status;
    weight[at] = frame.weight;
    for (std::size_t i = 0; i < 2 * options.points; ++i) {
      salient[2 * options.points * at + i] = frame.salient.empty() ? kNan : frame.salient[i];
    }
    for (std::size_t i = 0; i < 2; ++i) target[2 * at + i] = frame.target.empty() ? kNan : frame.target[i];
    return Status::ok;
  }

  /// The mean of the last motions, each `kDecay` times the one before.
  Status predict() {
    const std::size_t kept = scene.kept(), from = kept > kMeanOf + 1 ? kept - kMeanOf : 1;
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
    }
    return Status::ok;
  }

  Status solve(bool last, StreamResult& out) {
    Status status = scene.bridge(known);
    if (status != Status::ok) return status;
    std::size_t n = scene.kept();
    if (!last && ahead > 0) {
      status = predict();
      if (status != Status::ok) return status;
      n += ahead;
    }
    PathOptions path = options.path;
    path.keystone_ratio = scene.keystone_ratio(options.path);
    Subjects subjects;
    subjects.points = options.points;
    subjects.salient = {salient, 2 * options.points * n};
    subjects.salient_weight = options.salient_weight;
    if (options.target_weight > 0) subjects.targets = {target, 2 * n};
    subjects.target_weight = options.target_weight;
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
    const std::size_t keep = last ? scene.kept() : options.stride;
    out.corrections = {corrections + 9 * pinned, 9 * (keep - pinned)};
    out.violation = {violation + pinned, keep - pinned};
    out.first_frame = first + pinned;
    if (!last) commit();
    return status;
  }

  /// Drops what is committed but for the last three frames, which stay as pins.
  void commit() {
    const std::size_t drop = options.stride - kPinned, kept = scene.kept();
    std::copy_n(corrections + 9 * drop, 9 * kPinned, pins);
    pinned = kPinned;
    scene.drop(drop);
    const auto shift = [&](auto* values, std::size_t width) {
      std::copy(values + width * drop, values + width * kept, values);
    };
    shift(weight, 1);
    shift(salient, 2 * options.points);
    shift(target, 2);
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

const char* path_stream_problem(const StreamOptions& o) noexcept {
  if (o.window >= std::size_t{1} << 24) return "window: expected less than 2^24 frames";
  if (o.stride <= kPinned || o.stride >= o.window) return "stride: expected 4 <= stride < window, in frames";
  if (o.predicted < -1 || o.predicted > 1000) return "predicted: expected 0 to 1000 frames, or -1 to have it chosen";
  if (o.points >= 10000) return "points: expected less than 10000";
  if (!(o.salient_weight >= 0)) return "salient_weight: expected 0 or more";
  if (!(o.target_weight >= 0)) return "target_weight: expected 0 or more";
  return path_problem(o.path, o.aspect);
}

std::size_t path_stream_memory_size(const StreamOptions& options) noexcept {
  if (path_stream_problem(options) != nullptr) return 0;
  Arena counter;
  PathStream counted;
  lay_out_stream(options, counter, counted);
  return counter.size();
}

PathStream* create_path_stream(const StreamOptions& options, std::span<std::byte> memory) noexcept {
  if (memory.data() == nullptr || !is_enough(memory, path_stream_memory_size(options))) return nullptr;
  Arena arena(memory);
  PathStream counted;
  return lay_out_stream(options, arena, counted);
}

std::size_t pending_frames(const PathStream& stream) noexcept { return stream.scene.kept() - stream.pinned; }

Status push(PathStream& stream, const StreamFrame& frame, StreamResult& result) noexcept {
  result = StreamResult{};
  if (stream.scene.kept() < stream.options.window) {
    const Status status = stream.take(frame);
    if (status != Status::ok) return status;
    if (stream.scene.kept() < stream.options.window) return Status::ok;
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
