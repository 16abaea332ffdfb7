#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
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
