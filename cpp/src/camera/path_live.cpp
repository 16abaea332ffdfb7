// The path of pictures that are shown while they are filmed (camera.hpp: LivePath). python/legato/camera/live.py is the
// same in NumPy.
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

// The motion ahead, by an autoregressive model of the last two seconds at 30 frames a second.
constexpr std::size_t kOrder = 8;
constexpr std::size_t kLearned = 60;
constexpr double kRidge = 0.05;            // of the mean square, for each motion learned from
constexpr std::size_t kLeastLearned = 12;  // with fewer, the mean of these, decaying
constexpr double kDecay = 0.9;

bool usable(const LiveOptions& o) {
  return o.latency < (std::size_t{1} << 24) && o.predicted >= 0 && o.predicted <= 1000 && sensible(o.path, o.aspect);
}

/// Solves A x = b for a positive definite A of kOrder rows; both are overwritten, b by x.
void solve_definite(double (&a)[kOrder][kOrder], double (&b)[kOrder]) {
  for (std::size_t j = 0; j < kOrder; ++j) {
    for (std::size_t i = j + 1; i < kOrder; ++i) {
      const double factor = a[i][j] / a[j][j];
      for (std::size_t k = j; k < kOrder; ++k) a[i][k] -= factor * a[j][k];
      b[i] -= factor * b[j];
    }
  }
  for (std::size_t j = kOrder; j-- > 0;) {
    b[j] /= a[j][j];
    for (std::size_t i = 0; i < j; ++i) b[i] -= a[i][j] * b[j];
  }
}

/// Goes on with `seen`, n x 9 logarithms, oldest first: leaves out the first `skipped` that follow and writes the next
/// `count`. Each entry by a model of its own, its coefficients by least squares with a ridge.
void continue_motion(const double* seen, std::size_t n, std::size_t skipped, std::size_t count, double* out) {
  if (n < kLeastLearned) {
    double mean[9] = {};
    for (std::size_t t = 0; t < n; ++t) {
      for (std::size_t i = 0; i < 9; ++i) mean[i] += seen[9 * t + i];
    }
    double share = 1;
    for (std::size_t t = 0; t < skipped + count; ++t) {
      share *= kDecay;
      for (std::size_t i = 0; t >= skipped && i < 9; ++i) {
        out[9 * (t - skipped) + i] = n > 0 ? mean[i] / static_cast<double>(n) * share : 0.0;
      }
    }
    return;
  }
  const std::size_t known = n - kOrder;
  for (std::size_t entry = 0; entry < 9; ++entry) {
    const auto x = [&](std::size_t t) { return seen[9 * t + entry]; };
    double power = 0;
    for (std::size_t t = 0; t < n; ++t) power += x(t) * x(t);
    power /= static_cast<double>(n);
    double normal[kOrder][kOrder] = {}, model[kOrder] = {};
    for (std::size_t t = 0; t < known; ++t) {
      for (std::size_t i = 0; i < kOrder; ++i) {
        for (std::size_t j = 0; j < kOrder; ++j) normal[i][j] += x(t + i) * x(t + j);
        model[i] += x(t + i) * x(t + kOrder);
      }
    }
    const double ridge = kRidge * static_cast<double>(known) * power + std::numeric_limits<double>::min();
    for (std::size_t i = 0; i < kOrder; ++i) normal[i][i] += ridge;
    solve_definite(normal, model);
    // A model that is not stable must not run away.
    const double most = 3 * std::sqrt(power);
    double last[kOrder];
    for (std::size_t i = 0; i < kOrder; ++i) last[i] = x(known + i);
    for (std::size_t t = 0; t < skipped + count; ++t) {
      double next = 0;
      for (std::size_t i = 0; i < kOrder; ++i) next += model[i] * last[i];
      next = next > most ? most : next < -most ? -most : next;
      std::copy(last + 1, last + kOrder, last);
      last[kOrder - 1] = next;
      if (t >= skipped) out[9 * (t - skipped) + entry] = next;
    }
  }
}

}  // namespace

class LivePath {
 public:
  LiveOptions options;
  SceneMotion scene;  // of the held and the open frames
  // The window that is solved.
  double* known = nullptr;
  double* corrections = nullptr;
  double* logs = nullptr;
  double* violation = nullptr;
  std::span<std::byte> workspace;
  double* recent = nullptr;  // kLearned x 9: logarithms of the newest known motions, oldest first
  double* ready = nullptr;   // (latency + 1) x 9: final corrections that wait for their turn, oldest first

  double held[9 * kPinned] = {}, given[9] = {};
  std::size_t holding = 0, learned = 0, waiting = 0;  // of held, recent and ready
  std::size_t frames = 0;                             // pushed

  void lay_out(Arena& arena) {
    const Size kept = Size{options.latency} + 1 + kPinned, all = kept + static_cast<std::size_t>(options.predicted);
    scene.lay_out(arena, kept);
    known = arena.take<double>(9 * all);
    corrections = arena.take<double>(9 * all);
    logs = arena.take<double>(9 * all);
    violation = arena.take<double>(all);
    workspace = arena.take_workspace(path_workspace_size(all.value(), options.path));
    recent = arena.take<double>(9 * kLearned);
    ready = arena.take<double>(9 * (Size{options.latency} + 1));
  }

  std::size_t open() const { return scene.kept() - holding; }

  Status end_scene() {
    Status status = Status::ok;
    if (open() > 0) {
      status = solve(true);
      std::copy_n(corrections + 9 * holding, 9 * open(), ready + 9 * waiting);
      waiting += open();
    }
    scene.start();
    holding = learned = 0;
    return status;
  }

  void remember(const double* log) {
    if (learned == kLearned) {
      std::copy(recent + 9, recent + 9 * kLearned, recent);
      --learned;
    }
    std::copy_n(log, 9, recent + 9 * learned++);
  }

  /// The first open correction is final.
  void commit() {
    const double* correction = corrections + 9 * holding;
    std::copy_n(correction, 9, ready + 9 * waiting++);
    if (holding == kPinned) {
      scene.drop(1);
      std::copy(held + 9, held + 9 * kPinned, held);
      --holding;
    }
    std::copy_n(correction, 9, held + 9 * holding++);
  }

  /// Writes the motion of the window, and of the frames after it where the scene goes on.
  Status look_ahead(bool last) {
    Status status = scene.bridge(known);
    if (status != Status::ok || last) return status;
    // What is not known at the end is ahead of what is known, as the frames that were not filmed yet.
    const std::size_t kept = scene.kept();
    std::size_t since = 0, gone = 0;
    while (since < kept && !scene.good(kept - 1 - since)) ++since;
    if (since == kept && scene.before() > 0) gone = scene.before() - 1;
    if (gone > kLearned) gone = learned = 0;  // too long ago to say anything
    const std::size_t count = since + static_cast<std::size_t>(options.predicted);
    continue_motion(recent, learned, gone, count, logs);
    std::size_t bad = 0;
    return exp_homography({logs, 9 * count}, {known + 9 * (kept - since), 9 * count}, bad);
  }

  /// Solves the window: the corrections from `holding` on are those of its open frames.
  Status solve(bool last) {
    const std::size_t kept = scene.kept(), n = kept + (last ? 0 : static_cast<std::size_t>(options.predicted));
    const auto stand_still = [&](double* matrices, std::size_t from, std::size_t end) {
      for (std::size_t t = from; t < end; ++t) std::copy_n(kIdentity, 9, matrices + 9 * t);
    };
    if (look_ahead(last) != Status::ok) stand_still(known, 0, n);
    PathOptions path = options.path;
    path.keystone_ratio = scene.keystone_ratio(path);
    // Held corrections and wild motions, predicted ones too, may leave no path: then as if the camera stood.
    for (bool still = false;; still = true) {
      PathResult result;
      const Status status = smooth_path({known, 9 * n}, options.aspect, path, {held, 9 * holding}, {}, workspace,
                                        {corrections, 9 * n}, {logs, 9 * n}, {violation, n}, result);
      if (status == Status::ok || status == Status::iteration_limit || status == Status::numerical_trouble) {
        return Status::ok;
      }
      if (still || status == Status::cancelled) {  // no correction at all
        stand_still(corrections, 0, kept);
        return status == Status::cancelled ? status : Status::ok;
      }
      stand_still(known, holding, n);
    }
  }
};

namespace {

LivePath* lay_out_live(const LiveOptions& options, Arena& arena, LivePath& counted) {
  LivePath* path = arena.take<LivePath>(1);
  LivePath& laid = path != nullptr ? *::new (path) LivePath : counted;
  laid.options = options;
  laid.lay_out(arena);
  return path;
}

}  // namespace

std::size_t live_path_memory_size(const LiveOptions& options) noexcept {
  if (!usable(options)) return 0;
  Arena counter;
  LivePath counted;
  lay_out_live(options, counter, counted);
  return counter.size();
}

LivePath* create_live_path(const LiveOptions& options, std::span<std::byte> memory) noexcept {
  if (!usable(options) || memory.data() == nullptr || !is_enough(memory, live_path_memory_size(options))) {
    return nullptr;
  }
  Arena arena(memory);
  LivePath counted;
  return lay_out_live(options, arena, counted);
}

std::size_t pending_frames(const LivePath& path) noexcept { return path.open() + path.waiting; }

Status set_options(LivePath& path, const PathOptions& options) noexcept {
  if (!sensible(options, path.options.aspect)) return Status::invalid_argument;
  path.options.path = options;
  return Status::ok;
}

Status push(LivePath& path, std::span<const double> motion, bool cut, std::span<const double>& corrections) noexcept {
  corrections = {};
  if (!motion.empty() && motion.size() != 9) return Status::invalid_argument;
  Status status = Status::ok;
  if (cut) status = path.end_scene();
  const Status taken = path.scene.take(motion);  // of a scene's first frame never refused
  if (taken != Status::ok) return taken;
  const std::size_t newest = path.scene.kept() - 1;
  if (path.scene.good(newest)) path.remember(path.scene.log(newest));
  ++path.frames;
  if (path.open() > path.options.latency) {
    const Status solved = path.solve(false);
    if (status == Status::ok) status = solved;
    path.commit();
  }
  if (path.frames > path.options.latency) {
    std::copy_n(path.ready, 9, path.given);
    std::copy(path.ready + 9, path.ready + 9 * path.waiting--, path.ready);
    corrections = path.given;
  }
  return status;
}

Status finish(LivePath& path, std::span<const double>& corrections) noexcept {
  const Status status = path.end_scene();
  corrections = {path.ready, 9 * path.waiting};
  path.waiting = path.frames = 0;
  return status;
}

}  // namespace legato::camera
