#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "allocations.h"
#include "legato/video.hpp"

using namespace legato;
using namespace legato::video;

namespace {

struct Picture {
  int width, height;
  std::vector<std::uint8_t> data;
  Image<const std::uint8_t> view() const { return {data.data(), width, height, width}; }
  Image<std::uint8_t> view() { return {data.data(), width, height, width}; }
};

/// Smooth random texture, seen from (dx, dy).
Picture textured(int width, int height, double dx, double dy) {
  Picture p{width, height, std::vector<std::uint8_t>(static_cast<std::size_t>(width) * height)};
  std::mt19937 generator(7);
  std::uniform_real_distribution<double> uniform(-0.5, 0.5);
  double wave[24][3];
  for (auto& w : wave) w[0] = uniform(generator), w[1] = uniform(generator), w[2] = 6 * uniform(generator);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      double v = 0;
      for (const auto& w : wave) v += std::sin(w[0] * (x + dx) + w[1] * (y + dy) + w[2]);
      p.data[static_cast<std::size_t>(y) * width + x] = static_cast<std::uint8_t>(std::lround(128 + 14 * v));
    }
  }
  return p;
}

}  // namespace

TEST_CASE("run calls allocate nothing, and the forced instruction set runs") {
  const int w = 200, h = 150;
  const Picture first = textured(w, h, 0, 0), second = textured(w, h, 2.5, -1.25);
  Picture out = first;
  std::vector<std::byte> memory(tracker_memory_size(w, h, {}));
  Tracker* tracker = create_tracker(w, h, {}, {}, memory);
  REQUIRE(tracker != nullptr);
  const double map[9] = {1, 0.01, 2, -0.01, 1, 1, 0, 0, 1};
  const Image<const std::uint8_t> source = second.view();
  const Image<std::uint8_t> target = out.view();
  for (int kind = 0; kind < 3; ++kind) {  // the first use builds the tables of weights
    REQUIRE(warp(map, {&source, 1}, {&target, 1}, static_cast<Interpolation>(kind)) == Status::ok);
    CHECK(last_isa() == active_isa());
  }
  Motion motion;
  const long before = allocation_count();
  CHECK(push(*tracker, first.view(), motion) == Status::ok);
  CHECK(motion.first);
  CHECK(push(*tracker, second.view(), motion) == Status::ok);
  for (int kind = 0; kind < 3; ++kind) warp(map, {&source, 1}, {&target, 1}, static_cast<Interpolation>(kind));
  CHECK(allocation_count() == before);
  CHECK(last_isa() == active_isa());
  CHECK(motion.ok);
  CHECK(motion.homography[2] == doctest::Approx(2.5).epsilon(0.04));
  CHECK(motion.homography[5] == doctest::Approx(-1.25).epsilon(0.04));
  CHECK(matches(*tracker).size() == 4 * static_cast<std::size_t>(motion.matches));
}

TEST_CASE("a fit survives more than half outliers and says when there is none") {
  std::mt19937 generator(3);
  std::uniform_real_distribution<float> across(0, 639), down(0, 359);
  std::normal_distribution<float> noise(0, 0.1f);
  const double truth[9] = {1.01, -0.02, 5, 0.015, 0.99, -3, 1e-5, -2e-5, 1};
  std::vector<float> here, there;
  for (int i = 0; i < 300; ++i) {
    const float x = across(generator), y = down(generator);
    here.insert(here.end(), {x, y});
    if (i % 10 < 6) {
      there.insert(there.end(), {across(generator), down(generator)});
    } else {
      const double w = truth[6] * x + truth[7] * y + 1;
      there.push_back(static_cast<float>((truth[0] * x + truth[1] * y + truth[2]) / w) + noise(generator));
      there.push_back(static_cast<float>((truth[3] * x + truth[4] * y + truth[5]) / w) + noise(generator));
    }
  }
  std::vector<std::byte> memory(fit_workspace_size(300));
  std::vector<std::uint8_t> inlier(300);
  FitResult fit;
  REQUIRE(fit_motion(here, there, 640, 360, {}, memory, inlier, fit) == Status::ok);
  REQUIRE(fit.found);
  for (const double x : {0.0, 639.0}) {
    for (const double y : {0.0, 359.0}) {
      const auto at = [x, y](const double* f, int r) {
        return (f[3 * r] * x + f[3 * r + 1] * y + f[3 * r + 2]) / (f[6] * x + f[7] * y + f[8]);
      };
      CHECK(std::abs(at(fit.matrix, 0) - at(truth, 0)) < 0.5);
      CHECK(std::abs(at(fit.matrix, 1) - at(truth, 1)) < 0.5);
    }
  }
  const std::vector<float> same(600, 5.0f);
  REQUIRE(fit_motion(same, same, 640, 360, {}, memory, inlier, fit) == Status::ok);
  CHECK_FALSE(fit.found);
  CHECK(fit_motion(here, there, 640, 360, {}, {memory.data(), 10}, inlier, fit) == Status::workspace_too_small);
  there[5] = std::numeric_limits<float>::quiet_NaN();
  CHECK(fit_motion(here, there, 640, 360, {}, memory, inlier, fit) == Status::not_finite);
  CHECK(fit_motion(here, {there.data(), 4}, 640, 360, {}, memory, inlier, fit) == Status::invalid_argument);
}

TEST_CASE("deeper samples give the same motion, whatever the frame is reduced by") {
  for (const int longest : {960, 100, 70}) {  // factors of one, two and three
    const int w = 200, h = 150;
    TrackerOptions options;
    options.longest_work_side = longest;
    std::vector<std::byte> memory(tracker_memory_size(w, h, options));
    Motion motion, deep;
    for (const bool is_deep : {false, true}) {
      Tracker* tracker = create_tracker(w, h, options, {}, memory);
      REQUIRE(tracker != nullptr);
      for (const double shift : {0.0, 4.0}) {
        const Picture picture = textured(w, h, shift, 0);
        if (is_deep) {
          std::vector<std::uint16_t> samples(picture.data.begin(), picture.data.end());
          for (auto& sample : samples) sample = static_cast<std::uint16_t>(sample << 4);
          CHECK(push(*tracker, {samples.data(), w, h, w}, 12, deep) == Status::ok);
        } else {
          CHECK(push(*tracker, picture.view(), motion) == Status::ok);
        }
      }
    }
    CHECK(motion.ok);
    CHECK(std::equal(motion.homography, motion.homography + 9, deep.homography));
  }
  std::vector<std::uint16_t> samples(64 * 48);
  std::vector<std::byte> memory(tracker_memory_size(64, 48, {}));
  Tracker* tracker = create_tracker(64, 48, {}, {}, memory);
  Motion motion;
  CHECK(push(*tracker, {samples.data(), 64, 48, 64}, 8, motion) == Status::invalid_argument);
  CHECK(push(*tracker, {samples.data(), 64, 47, 64}, 10, motion) == Status::invalid_argument);
}

/// Random planes in memory of exactly their size, warped by random maps: a sanitizer sees what is read beyond, and the
/// samples between the rows of the output must stay.
template <class Sample>
void warp_at_random(std::mt19937& generator) {
  const auto below = [&](int n) { return static_cast<int>(generator() % static_cast<unsigned>(n)); };
  std::normal_distribution<double> normal;
  const int w = 1 + below(below(3) == 0 ? 300 : 80), h = 1 + below(40), to_w = 1 + below(150), to_h = 1 + below(12);
  const int gap = below(4), count = 1 + below(3), bits = sizeof(Sample) == 1 ? 8 : 9 + below(8);
  const double wild = below(2) == 0 ? 0.02 : 0.7;
  double map[9] = {1 + wild * normal(generator),    wild * normal(generator),        wild * w * normal(generator),
                   wild * normal(generator),        1 + wild * normal(generator),    wild * h * normal(generator),
                   1e-3 * wild * normal(generator), 1e-3 * wild * normal(generator), 1};
  std::vector<Sample> from[3], to[3];
  std::vector<Image<const Sample>> sources;
  std::vector<Image<Sample>> targets;
  const auto rows = [gap](int width, int height) {
    return static_cast<std::size_t>(width + gap) * (height - 1) + width;
  };
  for (int p = 0; p < count; ++p) {
    from[p].resize(rows(w, h));
    for (auto& sample : from[p]) sample = static_cast<Sample>(generator() & ((1u << bits) - 1));
    to[p].assign(rows(to_w, to_h), Sample{77});
    sources.push_back({from[p].data(), w, h, w + gap});
    targets.push_back({to[p].data(), to_w, to_h, to_w + gap});
  }
  const auto kind = static_cast<Interpolation>(below(3));
  if constexpr (sizeof(Sample) == 1) REQUIRE(warp(map, sources, targets, kind) == Status::ok);
  if constexpr (sizeof(Sample) == 2) REQUIRE(warp(map, sources, targets, bits, kind) == Status::ok);
  int touched = 0, high = 0;
  for (int p = 0; p < count; ++p) {
    for (std::size_t i = 0; i < to[p].size(); ++i) {
      const bool between = static_cast<int>(i) % (to_w + gap) >= to_w;
      touched += between && to[p][i] != 77;
      high += to[p][i] > (1 << bits) - 1;
    }
  }
  CHECK(touched == 0);
  CHECK(high == 0);
}

TEST_CASE("a warp stays within its planes") {
  std::mt19937 generator(11);
  for (int i = 0; i < 400; ++i) {
    warp_at_random<std::uint8_t>(generator);
    warp_at_random<std::uint16_t>(generator);
  }
}

TEST_CASE("wrong arguments are refused") {
  CHECK(tracker_memory_size(0, 10, {}) == 0);
  CHECK(pyramid_memory_size(10, 10, 0) == 0);
  std::vector<std::byte> memory(tracker_memory_size(64, 48, {}));
  CHECK(create_tracker(64, 48, {}, {}, {memory.data(), memory.size() / 2}) == nullptr);
  TrackerOptions narrow;
  for (const Region& region : {Region{-1, 0, 5, 5}, Region{60, 0, 5, 5}, Region{0, 0, 5, -5}, Region{0, 40, 64, 9}}) {
    narrow.region = region;
    CHECK(tracker_memory_size(64, 48, narrow) == 0);
    CHECK(create_tracker(64, 48, narrow, {}, memory) == nullptr);
  }
  for (const TrackerOptions& options :
       {TrackerOptions{.model = Model::identity}, TrackerOptions{.model = static_cast<Model>(9)},
        TrackerOptions{.longest_work_side = 0}, TrackerOptions{.round_trip_px = std::nan("")},
        TrackerOptions{.round_trip_px = -5}, TrackerOptions{.region = {1000, 0, 5, 5}}}) {
    CHECK(tracker_memory_size(64, 48, options) == 0);
    CHECK(create_tracker(64, 48, options, {}, memory) == nullptr);
  }
  constexpr int most = std::numeric_limits<int>::max();
  CHECK(warp_packed_workspace_size(most, most, most, most) == 0);
  CHECK(warp_packed_workspace_size(4, 4, kLongestSide + 1, 4) == 0);
  CHECK(fit_workspace_size(Size::kMost) == 0);
  Tracker* tracker = create_tracker(64, 48, {}, {}, memory);
  REQUIRE(tracker != nullptr);
  Motion motion;
  const Picture other = textured(65, 48, 0, 0);
  CHECK(push(*tracker, other.view(), motion) == Status::invalid_argument);
  Picture out = other;
  const Image<const std::uint8_t> source = other.view();
  const Image<std::uint8_t> target = out.view();
  CHECK(warp(std::vector<double>(8), {&source, 1}, {&target, 1}, Interpolation::bilinear) == Status::invalid_argument);
  CHECK(warp_packed(std::vector<double>(9), source, target, Interpolation::bilinear, {}) == Status::invalid_argument);
}

namespace {

/// A picture that looks 20 pixels beyond the left edge of a frame, and two frames that show what is there.
struct Beyond {
  static constexpr int w = 200, h = 150;
  Picture frame = textured(w, h, 0, 0), left = textured(w, h, -30.5, 3), further = textured(w, h, -45, -6);
  Picture drawn = frame;
  std::vector<std::byte> memory[3];
  Pyramid* pyramid[3];
  FillSource<std::uint8_t> sources[2];
  double map[9] = {1, 0, -20, 0, 1, 0, 0, 0, 1};

  Beyond() {
    const Picture* pictures[3] = {&frame, &left, &further};
    for (int i = 0; i < 3; ++i) {
      memory[i].resize(pyramid_memory_size(w, h, 1));
      pyramid[i] = create_pyramid(w, h, 1, memory[i]);
      REQUIRE(fill_pyramid(*pyramid[i], pictures[i]->view()) == Status::ok);
    }
    const double shift[2][2] = {{30.5, -3}, {45, 6}};
    for (int i = 0; i < 2; ++i) {
      sources[i].planes[0] = pictures[i + 1]->view();
      sources[i].pyramid = pyramid[i + 1];
      sources[i].map[2] = shift[i][0];
      sources[i].map[5] = shift[i][1];
      sources[i].distance = i + 1;
    }
    const Image<const std::uint8_t> source = std::as_const(frame).view();
    const Image<std::uint8_t> target = drawn.view();
    REQUIRE(warp(map, {&source, 1}, {&target, 1}, Interpolation::bicubic) == Status::ok);
  }
};

}  // namespace

TEST_CASE("a picture is completed from its neighbors, and nothing is allocated") {
  Beyond b;
  const Image<std::uint8_t> target = b.drawn.view();
  const FrameSize cells = fill_cells(Beyond::w, Beyond::h);
  std::vector<float> errors(static_cast<std::size_t>(cells.width) * cells.height);
  std::vector<std::byte> workspace(fill_workspace_size(*b.pyramid[0], Beyond::w, Beyond::h, 2));
  FillResult result;
  const long before = allocation_count();
  REQUIRE(fill(b.map, *b.pyramid[0], b.sources, {&target, 1}, {}, {}, workspace, errors, result) == Status::ok);
  CHECK(allocation_count() == before);
  CHECK(result.sources == 2);
  CHECK(result.outside == doctest::Approx(0.1));
  CHECK(result.membrane == 0);
  CHECK(result.error < 5);
  const Picture truth = textured(Beyond::w, Beyond::h, -20, 0);
  double squared = 0;
  for (int y = 0; y < Beyond::h; ++y) {
    for (int x = 0; x < 20; ++x) {
      const int i = y * Beyond::w + x;
      squared += std::pow(b.drawn.data[static_cast<std::size_t>(i)] - truth.data[static_cast<std::size_t>(i)], 2);
    }
  }
  CHECK(std::sqrt(squared / (20 * Beyond::h)) < 6);  // the texture wraps around at white, where nothing is smooth
}

TEST_CASE("fill refuses what does not belong together") {
  Beyond b;
  const Image<std::uint8_t> target = b.drawn.view();
  const FrameSize cells = fill_cells(Beyond::w, Beyond::h);
  std::vector<float> errors(static_cast<std::size_t>(cells.width) * cells.height);
  std::vector<std::byte> workspace(fill_workspace_size(*b.pyramid[0], Beyond::w, Beyond::h, 2));
  FillResult result;
  const auto run = [&](std::span<const double> map, const Siting& siting, const FillOptions& options, std::size_t bytes,
                       std::size_t count) {
    return fill(map, *b.pyramid[0], b.sources, {&target, 1}, siting, options, {workspace.data(), bytes},
                {errors.data(), count}, result);
  };
  const std::size_t all = workspace.size(), count = errors.size();
  CHECK(run(b.map, {}, {}, all, count) == Status::ok);
  CHECK(run(std::span<const double>(b.map).first(8), {}, {}, all, count) == Status::invalid_argument);
  CHECK(run(b.map, {3, 1, 0, 0}, {}, all, count) == Status::invalid_argument);
  CHECK(run(b.map, {}, {.fade_frames = 0}, all, count) == Status::invalid_argument);
  CHECK(run(b.map, {}, {.most_error = std::nan("")}, all, count) == Status::invalid_argument);
  CHECK(run(b.map, {}, {}, all / 2, count) == Status::workspace_too_small);
  CHECK(run(b.map, {}, {}, all, count - 1) == Status::invalid_argument);
  const double unknown[9] = {std::nan(""), 0, 0, 0, 1, 0, 0, 0, 1};
  CHECK(run(unknown, {}, {}, all, count) == Status::not_finite);
  std::swap(b.sources[0], b.sources[1]);  // not nearest first
  CHECK(run(b.map, {}, {}, all, count) == Status::invalid_argument);
  std::swap(b.sources[0], b.sources[1]);
  b.sources[1].planes[0].width = Beyond::w - 1;
  CHECK(run(b.map, {}, {}, all, count) == Status::invalid_argument);
  CHECK(fill_workspace_size(*b.pyramid[0], 0, 5, 2) == 0);
  CHECK(fill_cells(-1, 5).width == 0);
}
