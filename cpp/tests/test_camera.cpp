#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "allocations.h"
#include "core/core.h"
#include "legato/camera.hpp"
#include "legato/math/homography.h"

using namespace legato;
using namespace legato::camera;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// Random logarithms of trace 0 with entries of about `size`.
std::vector<double> random_logs(std::size_t n, double size, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(0.0, size);
  std::vector<double> logs(9 * n);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < 8; ++j) logs[9 * i + j] = normal(generator);
    logs[9 * i + 8] = -logs[9 * i] - logs[9 * i + 4];
  }
  return logs;
}

/// A shaky clip: a slow pan with tremor and roll, keystone tied to translation.
std::vector<double> shaky_motion(std::size_t n, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<double> logs(9 * n, 0.0);
  for (std::size_t t = 1; t < n; ++t) {
    double* f = &logs[9 * t];
    const double roll = 0.003 * normal(generator);
    f[2] = 0.002 + 0.006 * normal(generator);
    f[5] = 0.006 * normal(generator);
    f[1] = -roll;
    f[3] = roll;
    f[6] = -1.2 * f[2] + 1e-4 * normal(generator);
    f[7] = -1.2 * f[5] + 1e-4 * normal(generator);
    f[0] = 2e-4 * normal(generator);
    f[8] = -f[0];
  }
  std::vector<double> motion(9 * n);
  std::size_t bad = 0;
  REQUIRE(exp_homography(logs, motion, bad) == Status::ok);
  return motion;
}

struct Solved {
  Status status = Status::ok;
  std::vector<double> corrections, logs, violation;
  PathResult result;
};

Solved solve(const std::vector<double>& motion, const PathOptions& options, const std::vector<double>& fixed = {}) {
  const std::size_t n = motion.size() / 9;
  Solved out{Status::ok, std::vector<double>(9 * n), std::vector<double>(9 * n), std::vector<double>(n), {}};
  std::vector<std::byte> workspace(path_workspace_size(n, options));
  out.status = smooth_path(motion, 9.0 / 16, options, fixed, {}, workspace, out.corrections, out.logs, out.violation,
                           out.result);
  return out;
}

bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), 8 * a.size()) == 0;
}

}  // namespace

TEST_CASE("logarithm undoes exponential, at every size and scale") {
  for (const double size : {1e-12, 1e-6, 1e-3, 0.05, 0.3}) {
    const std::vector<double> logs = random_logs(203, size, 7);
    std::vector<double> homographies(logs.size()), back(logs.size());
    std::size_t bad = 0;
    REQUIRE(exp_homography(logs, homographies, bad) == Status::ok);
    CHECK(last_isa() == active_isa());
    for (std::size_t i = 0; i < homographies.size(); ++i) homographies[i] *= 1.0 + static_cast<double>(i / 9);
    REQUIRE(log_homography(homographies, back, bad) == Status::ok);
    CHECK(last_isa() == active_isa());
    for (std::size_t i = 0; i < logs.size(); ++i) CHECK(std::abs(back[i] - logs[i]) <= 2e-15 + 1e-12 * size);
  }
}

TEST_CASE("the lanes compute what the scalar code computes") {
  const std::vector<double> logs = random_logs(77, 0.2, 3);
  std::vector<double> homographies(logs.size()), back(logs.size());
  std::size_t bad = 0;
  REQUIRE(exp_homography(logs, homographies, bad) == Status::ok);
  REQUIRE(log_homography(homographies, back, bad) == Status::ok);
  for (std::size_t i = 0; i < 77; ++i) {
    math::Matrix3<double> h;
    std::copy_n(&logs[9 * i], 9, h.at);
    const auto e = math::exponential(h);
    const auto l = math::logarithm(e);
    CHECK(l.defect == 0.0);
    for (std::size_t j = 0; j < 9; ++j) {
      CHECK(e.at[j] == homographies[9 * i + j]);
      CHECK(l.log.at[j] == back[9 * i + j]);
    }
  }
}

TEST_CASE("pure translations are exact, and a matrix without a logarithm is named") {
  std::vector<double> h = {1, 0, 0.3, 0, 1, -7.25, 0, 0, 1};
  std::vector<double> log(9);
  std::size_t bad = 0;
  REQUIRE(log_homography(h, log, bad) == Status::ok);
  CHECK(log == std::vector<double>{0, 0, 0.3, 0, 0, -7.25, 0, 0, 0});

  std::vector<double> many;
  for (int i = 0; i < 20; ++i) many.insert(many.end(), h.begin(), h.end());
  std::vector<double> logs(many.size());
  const auto spoil = [&](std::size_t index, std::vector<double> matrix) {
    std::vector<double> copy = many;
    std::copy(matrix.begin(), matrix.end(), copy.begin() + static_cast<long>(9 * index));
    const Status status = log_homography(copy, logs, bad);
    CHECK(bad == index);
    CHECK(std::isnan(logs[9 * index]));
    CHECK(logs[9 * (index == 0 ? 1 : index - 1) + 5] == -7.25);  // the neighbors are right
    return status;
  };
  CHECK(spoil(13, {-1, 0, 0, 0, -1, 0, 0, 0, 1}) == Status::no_principal_log);
  CHECK(spoil(0, {1, 0, 0, 0, -1, 0, 0, 0, 1}) == Status::no_principal_log);
  CHECK(spoil(19, {1, 2, 3, 2, 4, 6, 0, 0, 1}) == Status::singular);
  CHECK(spoil(7, {0, 0, 0, 0, 0, 0, 0, 0, 0}) == Status::singular);
  CHECK(spoil(8, {1, kNan, 0, 0, 1, 0, 0, 0, 1}) == Status::not_finite);

  std::vector<double> huge(9, 0.0);
  huge[4] = 600;
  std::vector<double> out(9);
  CHECK(exp_homography(huge, out, bad) == Status::not_finite);
  CHECK(log_homography(std::vector<double>(8), logs, bad) == Status::invalid_argument);
}

TEST_CASE("results do not depend on threads, batch split or place") {
  const std::vector<double> logs = random_logs(3000, 0.1, 11);
  std::vector<double> one(logs.size()), three(logs.size()), piece(9);
  std::size_t bad = 0;
  REQUIRE(exp_homography(logs, one, bad, 1) == Status::ok);
  REQUIRE(exp_homography(logs, three, bad, 3) == Status::ok);
  CHECK(same_bits(one, three));
  for (std::size_t i : {0u, 5u, 1503u, 2999u}) {
    REQUIRE(exp_homography(std::span(logs).subspan(9 * i, 9), piece, bad) == Status::ok);
    CHECK(std::memcmp(piece.data(), &one[9 * i], 72) == 0);
  }
  std::vector<double> in_place = logs;
  REQUIRE(exp_homography(in_place, in_place, bad) == Status::ok);
  CHECK(same_bits(one, in_place));
}

TEST_CASE("the path is optimal, feasible, and never worse than no correction") {
  PathOptions options;
  SUBCASE("by L1 terms alone") {}
  SUBCASE("with squared acceleration") { options.acceleration = 1e4; }
  options.relinearize = 0;
  for (std::size_t n : {1u, 2u, 3u, 4u, 5u, 9u, 60u, 200u}) {
    const auto motion = shaky_motion(n, 5);
    const Solved full = solve(motion, options);
    CHECK(full.status == Status::ok);
    CHECK(full.result.gap <= 1e-6 * std::max(full.result.objective, 1e-12) + 1e-12);
    PathOptions none = options;
    none.solver.max_iterations = 0;
    const Solved rest = solve(motion, none);
    CHECK(full.result.objective <= rest.result.objective);
  }
}

TEST_CASE("any iteration cap returns a feasible path with a sound gap") {
  const auto motion = shaky_motion(90, 8);
  PathOptions options;
  SUBCASE("by L1 terms alone") {}
  SUBCASE("with squared acceleration") { options.acceleration = 1e4; }
  options.relinearize = 0;
  options.solver.tolerance = 1e-10;
  const Solved best = solve(motion, options);
  REQUIRE(best.status == Status::ok);
  double g[kCropRows * 9], h[kCropRows];
  const std::vector<double> rest(9, 0.0);
  REQUIRE(crop_rows(rest, 9.0 / 16, options, g, h) == Status::ok);
  for (int cap = 0; cap <= 30; ++cap) {
    options.solver.max_iterations = cap;
    const Solved found = solve(motion, options);
    CHECK((found.status == Status::ok || found.status == Status::iteration_limit));
    CHECK(found.result.objective - found.result.gap <= best.result.objective * (1 + 1e-12));
    for (std::size_t t = 0; t < 90; ++t) {
      for (std::size_t r = 0; r < kCropRows; ++r) {
        double value = 0;
        for (std::size_t j = 0; j < 9; ++j) value += g[9 * r + j] * found.logs[9 * t + j];
        CHECK(value <= h[r] + 1e-12);
      }
      for (std::size_t j = 0; j < 9; ++j) CHECK(std::abs(found.logs[9 * t + j]) <= 1.0);
    }
  }
}

TEST_CASE("re-linearization makes the crop exact") {
  const auto motion = shaky_motion(120, 2);
  PathOptions options;
  options.pixel = 1.0 / 1920;
  const Solved found = solve(motion, options);
  CHECK(found.status == Status::ok);
  CHECK(found.result.rounds >= 2);
  CHECK(*std::max_element(found.violation.begin(), found.violation.end()) <= 0.05 * options.pixel);
}

TEST_CASE("contain moves a window that left the frame back to its edge, and no other") {
  PathOptions options;
  options.crop = 0.1;  // the window of scale 0.95 may move 0.025
  std::vector<double> shifts;
  for (double x : {0.0, 0.02, 0.07, -0.3}) {
    for (double entry : {1.0, 0.0, x, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0}) shifts.push_back(entry);
  }
  std::vector<double> contained(shifts.size());
  std::size_t bad = 0;
  const long before = allocation_count();
  REQUIRE(contain(shifts, 9.0 / 16, options, contained, bad) == Status::ok);
  CHECK(allocation_count() == before);
  CHECK(bad == 4);
  CHECK(std::memcmp(contained.data(), shifts.data(), 2 * 72) == 0);
  CHECK(contained[9 * 2 + 2] == doctest::Approx(0.025).epsilon(1e-7));
  CHECK(contained[9 * 3 + 2] == doctest::Approx(-0.025).epsilon(1e-7));
  CHECK(std::abs(contained[9 * 2 + 2]) <= 0.025);
  CHECK(std::abs(contained[9 * 3 + 2]) <= 0.025);

  std::fill_n(&shifts[9], 9, 0.0);
  CHECK(contain(shifts, 9.0 / 16, options, contained, bad) == Status::singular);
  CHECK(bad == 1);
  CHECK(contain(shifts, 9.0 / 16, options, std::span(contained).first(9), bad) == Status::invalid_argument);
}

TEST_CASE("a static clip stays exactly where it is") {
  std::vector<double> motion;
  for (int t = 0; t < 30; ++t) motion.insert(motion.end(), {2, 0, 0, 0, 2, 0, 0, 0, 2});
  const Solved found = solve(motion, PathOptions{});
  CHECK(found.status == Status::ok);
  CHECK(found.result.objective == 0.0);
  for (const double entry : found.logs) CHECK(entry == 0.0);
}

TEST_CASE("pinned frames are kept, and the rest continues them") {
  const auto motion = shaky_motion(80, 4);
  PathOptions options;
  options.relinearize = 0;
  options.solver.tolerance = 1e-10;
  const Solved whole = solve(motion, options);
  // The optimum's tail is the optimum given three of its frames: derivatives reach back no further.
  const std::size_t from = 40;
  const std::vector<double> tail_motion(motion.begin() + 9 * static_cast<long>(from - 3), motion.end());
  const std::vector<double> fixed(whole.corrections.begin() + 9 * static_cast<long>(from - 3),
                                  whole.corrections.begin() + 9 * static_cast<long>(from));
  options.keystone_ratio = whole.result.keystone_ratio;  // the estimate would see another stretch of motion
  const Solved tail = solve(tail_motion, options, fixed);
  REQUIRE(tail.status == Status::ok);
  for (std::size_t t = 0; t < 80 - from + 3; ++t) {
    for (std::size_t j = 0; j < 9; ++j) {
      CHECK(std::abs(tail.logs[9 * t + j] - whole.logs[9 * (t + from - 3) + j]) < 1e-6);
    }
  }
}

TEST_CASE("run calls allocate nothing and repeat bit for bit") {
  const auto motion = shaky_motion(150, 6);
  const PathOptions options;
  Solved out{
      Status::ok, std::vector<double>(motion.size()), std::vector<double>(motion.size()), std::vector<double>(150), {}};
  std::vector<std::byte> workspace(path_workspace_size(150, options) + 3);
  const Solved first = solve(motion, options);
  std::size_t bad = 0;
  std::vector<double> logs(motion.size());
  const long before = allocation_count();
  const Status status = smooth_path(motion, 9.0 / 16, options, {}, {}, std::span(workspace).subspan(3), out.corrections,
                                    out.logs, out.violation, out.result);
  const Status log_status = log_homography(motion, logs, bad);
  const Status exp_status = exp_homography(logs, logs, bad);
  CHECK(allocation_count() == before);
  CHECK(status == Status::ok);
  CHECK(log_status == Status::ok);
  CHECK(exp_status == Status::ok);
  CHECK(last_isa() == active_isa());
  CHECK(same_bits(first.corrections, out.corrections));
}

TEST_CASE("bad input is refused") {
  const auto motion = shaky_motion(10, 1);
  CHECK(solve(motion, PathOptions{}, std::vector<double>(9 * 11)).status == Status::invalid_argument);
  const auto refused = [&](auto&& change) {
    PathOptions options;
    change(options);
    return solve(motion, options).status == Status::invalid_argument;
  };
  CHECK(refused([](PathOptions& o) { o.crop = 0; }));
  CHECK(refused([](PathOptions& o) { o.crop = 1; }));
  CHECK(refused([](PathOptions& o) { o.crop = kNan; }));
  CHECK(refused([](PathOptions& o) { o.window_scale = 1.1; }));
  CHECK(refused([](PathOptions& o) { o.weights[0] = -1; }));
  CHECK(refused([](PathOptions& o) { std::fill_n(o.weights, 4, 0.0); }));
  CHECK(refused([](PathOptions& o) { o.weights[2] = -1; }));
  CHECK(refused([](PathOptions& o) { o.inset = 0.1; }));
  CHECK(refused([](PathOptions& o) { o.acceleration = -1; }));
  CHECK(refused([](PathOptions& o) { o.roll_weight = -1; }));
  CHECK(refused([](PathOptions& o) { o.relinearize = -1; }));
  CHECK(refused([](PathOptions& o) { o.solver.tolerance = 0; }));
  auto broken = motion;
  broken[9 * 4 + 2] = kNan;
  const Solved found = solve(broken, PathOptions{});
  CHECK(found.status == Status::not_finite);
  CHECK(found.result.bad_frame == 4);

  Solved out{Status::ok, std::vector<double>(90), std::vector<double>(90), std::vector<double>(10), {}};
  std::vector<std::byte> small(path_workspace_size(10, PathOptions{}) / 2);
  CHECK(path_workspace_size(10, PathOptions{.relinearize = std::numeric_limits<int>::max(), .solver = {}}) == 0);
  CHECK(smooth_path(motion, 0.5, PathOptions{}, {}, {}, small, out.corrections, out.logs, out.violation, out.result) ==
        Status::workspace_too_small);
}

TEST_CASE("salient points: hard, soft, impossible; no allocation") {
  constexpr std::size_t n = 60;
  const auto motion = shaky_motion(n, 11);
  PathOptions options;
  options.crop = 0.2;
  std::vector<double> salient(2 * n, kNan);
  for (std::size_t t = 20; t < 40; ++t) {
    salient[2 * t] = 0.45;
    salient[2 * t + 1] = 0.05;
  }
  Subjects subjects;
  subjects.salient = salient;
  subjects.points = 1;
  std::vector<std::byte> workspace(path_workspace_size(n, options, 1));
  const auto run = [&](Solved& out) {
    return smooth_path(motion, 9.0 / 16, options, {}, {}, workspace, out.corrections, out.logs, out.violation,
                       out.result, subjects);
  };
  Solved hard{Status::ok, std::vector<double>(9 * n), std::vector<double>(9 * n), std::vector<double>(n), {}};
  Solved soft = hard;
  const long before = allocation_count();
  const Status hard_status = run(hard);
  subjects.salient_weight = 1e3;
  const Status soft_status = run(soft);
  CHECK(allocation_count() == before);
  REQUIRE(hard_status == Status::ok);
  REQUIRE(soft_status == Status::ok);
  CHECK(soft.result.objective == doctest::Approx(hard.result.objective).epsilon(1e-5));

  salient[2 * 30] = 0.7;  // outside every frame
  subjects.salient_weight = 0;
  CHECK(run(hard) == Status::infeasible);
  CHECK(hard.result.bad_frame == 30);
  for (std::size_t t = 0; t < n; ++t) CHECK((hard.violation[t] > 0) == (t == 30));
  subjects.salient_weight = 1e3;
  CHECK(run(soft) == Status::ok);
  subjects.points = 2;
  CHECK(run(soft) == Status::invalid_argument);
}

TEST_CASE("the banded program reports a start that cannot be made feasible") {
  BandedProblem problem;
  problem.frames = 2;
  problem.rows = 1;
  const std::vector<double> velocity(16, 0.0), row = {1, 0, 0, 0, 0, 0, 0, 0}, bound = {-1};
  std::vector<double> quadratic(64, 0.0);
  for (std::size_t i = 0; i < 8; ++i) {
    quadratic[9 * i] = 1;
    problem.lower[i] = -0.5;
    problem.upper[i] = 0.5;
  }
  problem.velocity = velocity;
  problem.quadratic = quadratic;
  problem.row_matrix = row;
  problem.row_bound = bound;
  std::vector<std::byte> workspace(banded_workspace_size(problem));
  std::vector<double> path(16, 0.0);
  SolverResult result;
  CHECK(solve_banded(problem, SolverOptions{}, workspace, path, {}, result) == Status::infeasible);
  quadratic[0] = -1;
  CHECK(solve_banded(problem, SolverOptions{}, workspace, path, {}, result) == Status::invalid_argument);
}

TEST_CASE("the banded program refuses spans of another size, and sizes that wrap have none") {
  BandedProblem problem;
  problem.frames = 3;
  problem.rows = 1;
  const std::vector<double> numbers(64, 0.0), linear(24, 0.1), bound = {1};
  std::vector<double> quadratic(64, 0.0), path(24, 0.0);
  for (std::size_t i = 0; i < 8; ++i) {
    quadratic[9 * i] = problem.upper[i] = 1;
    problem.lower[i] = -1;
  }
  const std::span<const double> all(numbers);
  problem.velocity = all.first(24);
  problem.linear = linear;
  problem.constant = 1;  // above 0, which the tolerance is relative to
  problem.quadratic = quadratic;
  problem.acceleration = all;
  problem.row_matrix = all.first(8);
  problem.row_bound = bound;
  std::vector<std::byte> workspace(banded_workspace_size(problem));
  SolverResult result;
  const auto solve = [&](std::span<double> at, std::span<const double> fallback) {
    return solve_banded(problem, SolverOptions{}, workspace, at, fallback, result);
  };
  CHECK(solve(path, all.first(24)) == Status::ok);
  CHECK(solve(std::span(path).first(23), {}) == Status::invalid_argument);
  CHECK(solve(path, all.first(23)) == Status::invalid_argument);
  using Field = std::span<const double> BandedProblem::*;
  for (const Field field : {&BandedProblem::velocity, &BandedProblem::linear, &BandedProblem::quadratic,
                            &BandedProblem::acceleration, &BandedProblem::row_matrix, &BandedProblem::row_bound}) {
    const std::span<const double> kept = problem.*field;
    problem.*field = all.first(kept.size() > 8 ? kept.size() - 1 : kept.size() + 1);
    CHECK(solve(path, {}) == Status::invalid_argument);
    problem.*field = kept;
  }
  problem.quadratic_stride = 64;  // one a frame
  CHECK(solve(path, {}) == Status::invalid_argument);
  problem.quadratic_stride = 32;
  CHECK(banded_workspace_size(problem) == 0);
  problem.quadratic_stride = 0;
  for (const int bit : {1, 5, 9, 11}) {  // 2^60 frames and the like, and what wraps before it
    problem.frames = (Size::kMost >> bit) + 1;
    CHECK(banded_workspace_size(problem) == 0);
  }
  problem.frames = 3;
  problem.pinned = 4;
  CHECK(banded_workspace_size(problem) == 0);
  problem.pinned = 0;
  problem.soft_rows = 2;
  CHECK(banded_workspace_size(problem) == 0);
}

TEST_CASE("a path has no size where the options make no sense or no memory has so many bytes") {
  const PathOptions options;
  CHECK(path_workspace_size(300, options) > 0);
  for (const int bit : {1, 4, 8, 9, 10, 11, 12}) {
    CHECK(path_workspace_size((Size::kMost >> bit) + 1, options) == 0);
    CHECK(path_workspace_size(300, options, (Size::kMost >> bit) + 1) == 0);
  }
  PathOptions wrong;
  wrong.crop = 2;
  CHECK(path_workspace_size(300, wrong) == 0);
  CHECK(sensible(options, 0.5));
  CHECK_FALSE(sensible(options, -1));
  CHECK_FALSE(sensible(wrong, 0.5));
  PathResult result;
  const std::vector<double> motion = shaky_motion(4, 1);
  std::vector<double> out(36), logs(36), violation(4);
  Subjects subjects;
  subjects.points = Size::kMost / 4 + 1;  // times 2 x 4: 0 where it wraps
  CHECK(smooth_path(motion, 0.5, options, {}, {}, {}, out, logs, violation, result, subjects) ==
        Status::invalid_argument);
  subjects.points = 0;
  CHECK(smooth_path(motion, 0.5, options, {}, {}, {}, out, logs, violation, result) == Status::workspace_too_small);
}

namespace {

std::span<const double> frame_of(const std::vector<double>& motion, std::size_t t) {
  return std::span(motion).subspan(9 * t, 9);
}

StreamOptions short_stream() {
  StreamOptions options;
  options.path.relinearize = 1;
  options.path.pixel = 1.0 / 1920;
  options.window = 40;
  options.stride = 25;
  return options;
}

}  // namespace

TEST_CASE("a stream is its windows one after another, and allocates nothing") {
  const std::size_t n = 130;
  const std::vector<double> motion = shaky_motion(n, 11);
  StreamOptions options = short_stream();
  options.path.keystone_ratio = -1.2;
  std::vector<std::byte> memory(path_stream_memory_size(options) + 1);
  PathStream* stream = create_path_stream(options, std::span(memory).subspan(1));
  REQUIRE(stream != nullptr);

  std::vector<double> streamed(9 * n);
  std::size_t out = 0, most_pending = 0;
  StreamResult result;
  const auto keep = [&] {
    if (result.corrections.empty()) return true;
    const bool next = result.first_frame == out && result.corrections.size() == 9 * result.violation.size();
    std::copy(result.corrections.begin(), result.corrections.end(), streamed.begin() + static_cast<long>(9 * out));
    out += result.violation.size();
    return next;
  };
  const long before = allocation_count();
  bool sound = true;
  for (std::size_t t = 0; t < n; ++t) {
    sound = sound && push(*stream, {.motion = frame_of(motion, t)}, result) == Status::ok && keep();
    most_pending = std::max(most_pending, pending_frames(*stream));
  }
  sound = sound && finish(*stream, result) == Status::ok && keep();
  CHECK(allocation_count() == before);
  CHECK(sound);
  CHECK(out == n);
  CHECK(most_pending < options.window);

  std::vector<double> windowed;
  for (std::size_t first = 0, pinned = 0;; first += options.stride - 3, pinned = 3) {
    const std::size_t end = std::min(first + options.window, n);
    const std::vector<double> part(motion.begin() + static_cast<long>(9 * first),
                                   motion.begin() + static_cast<long>(9 * end));
    const std::vector<double> fixed(windowed.end() - static_cast<long>(9 * pinned), windowed.end());
    const Solved solved = solve(part, options.path, fixed);
    REQUIRE(solved.status == Status::ok);
    const std::size_t last = end - first < options.window ? end - first : options.stride;
    windowed.insert(windowed.end(), solved.corrections.begin() + static_cast<long>(9 * pinned),
                    solved.corrections.begin() + static_cast<long>(9 * last));
    if (end - first < options.window) break;
  }
  CHECK(same_bits(streamed, windowed));
}

TEST_CASE("a stream bridges missing motion, starts scenes anew, and says what is wrong") {
  StreamOptions options = short_stream();
  std::vector<std::byte> memory(path_stream_memory_size(options));
  CHECK(create_path_stream(options, std::span(memory).first(memory.size() - 1)) == nullptr);
  PathStream* stream = create_path_stream(options, memory);
  REQUIRE(stream != nullptr);
  StreamResult result;
  const std::vector<double> motion = shaky_motion(60, 3);
  const auto scene = [&] {
    std::vector<double> out;
    const auto keep = [&] { out.insert(out.end(), result.corrections.begin(), result.corrections.end()); };
    for (std::size_t t = 0; t < 60; ++t) {
      const bool missing = t >= 20 && t < 24;
      REQUIRE(push(*stream, {.motion = missing ? std::span<const double>{} : frame_of(motion, t)}, result) ==
              Status::ok);
      keep();
    }
    REQUIRE(finish(*stream, result) == Status::ok);
    keep();
    return out;
  };
  const std::vector<double> first = scene();
  CHECK(first.size() == motion.size());
  CHECK(same_bits(first, scene()));  // nothing is left of a scene
  for (const double x : first) CHECK(std::isfinite(x));

  std::vector<double> wrong(9, 0.0);
  REQUIRE(push(*stream, {}, result) == Status::ok);
  CHECK(push(*stream, {.motion = wrong}, result) == Status::singular);
  CHECK(push(*stream, {.motion = frame_of(motion, 0), .weight = 0}, result) == Status::invalid_argument);
  CHECK(push(*stream, {.motion = std::span(wrong).first(8)}, result) == Status::invalid_argument);
  CHECK(push(*stream, {.salient = std::span(wrong).first(2)}, result) == Status::invalid_argument);  // it has no points
  CHECK(push(*stream, {.target = std::span(wrong).first(1)}, result) == Status::invalid_argument);
  CHECK(pending_frames(*stream) == 1);
  for (const double crop : {2.0, std::nan("")}) {
    StreamOptions without = options;
    without.path.crop = crop;
    CHECK(path_stream_memory_size(without) == 0);
    CHECK(create_path_stream(without, memory) == nullptr);
  }
  StreamOptions strange = options;
  strange.predicted = -7;
  CHECK(path_stream_memory_size(strange) == 0);
  options.stride = options.window;
  CHECK(path_stream_memory_size(options) == 0);
  CHECK(create_path_stream(options, memory) == nullptr);
}

TEST_CASE("a live path gives one correction a frame, starts scenes anew, and allocates nothing") {
  const std::size_t n = 60;
  const std::vector<double> motion = shaky_motion(n, 5);
  for (const std::size_t latency : {0, 1, 7}) {
    LiveOptions options;
    options.path.relinearize = 1;
    options.latency = latency;
    std::vector<std::byte> memory(live_path_memory_size(options) + 1);
    CHECK(create_live_path(options, std::span(memory).first(memory.size() - 2)) == nullptr);
    LivePath* path = create_live_path(options, std::span(memory).subspan(1));
    REQUIRE(path != nullptr);
    std::vector<double> one(9 * n), other(9 * n);
    const auto run = [&](std::vector<double>& out, std::size_t cut, std::size_t missing) {
      std::size_t at = 0;
      bool sound = true;
      std::span<const double> got;
      const auto keep = [&] {
        std::copy(got.begin(), got.end(), out.begin() + static_cast<long>(at));
        at += got.size();
      };
      for (std::size_t t = 0; t < n; ++t) {
        const bool some = t < missing || t >= missing + 4;
        sound =
            sound && push(*path, some ? frame_of(motion, t) : std::span<const double>{}, t == cut, got) == Status::ok;
        sound = sound && got.size() == (t >= latency ? 9 : 0) && pending_frames(*path) == std::min(t + 1, latency);
        keep();
      }
      sound = sound && finish(*path, got) == Status::ok && pending_frames(*path) == 0;
      keep();
      return sound && at == 9 * n;
    };
    const long before = allocation_count();
    CHECK(run(one, n, 30));
    CHECK(run(other, 45, 30));
    CHECK(allocation_count() == before);
    const auto same_until = [&](std::size_t frames) {
      return std::equal(one.begin(), one.begin() + static_cast<long>(9 * frames), other.begin());
    };
    CHECK(same_until(45 - latency));
    CHECK(!same_until(n));
    CHECK(run(other, n, 30));  // nothing is left of a clip
    CHECK(same_bits(one, other));

    std::span<const double> got;
    const std::vector<double> wrong(9, 0.0);
    REQUIRE(push(*path, wrong, false, got) == Status::ok);  // a scene's first is not read
    CHECK(push(*path, wrong, false, got) == Status::singular);
    CHECK(push(*path, std::span(wrong).first(8), true, got) == Status::invalid_argument);
    CHECK(pending_frames(*path) == std::min<std::size_t>(1, latency));
    PathOptions without = options.path;
    without.crop = 2.0;
    CHECK(set_options(*path, without) == Status::invalid_argument);
    without.crop = 0.3;
    CHECK(set_options(*path, without) == Status::ok);
    REQUIRE(finish(*path, got) == Status::ok);
    CHECK(run(other, n, 30));
    CHECK(!same_until(n));
    options.predicted = -1;
    CHECK(live_path_memory_size(options) == 0);
    options.predicted = 15;
    options.latency = std::size_t{1} << 24;
    CHECK(create_live_path(options, memory) == nullptr);
  }
}
