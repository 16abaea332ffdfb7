#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "allocations.h"
#include "legato/live.hpp"
#include "legato_live.h"

using namespace legato;
using namespace legato::video;

namespace {

constexpr int kWidth = 161, kHeight = 120;  // odd: chroma sides are rounded up
constexpr std::size_t kFrames = 30;

using Bytes = std::vector<std::uint8_t>;

/// Blocks of random gray under a camera that shakes by up to five pixels; from frame `cut` on of another scene.
Bytes view(std::size_t frame, std::size_t cut = kFrames) {
  const unsigned seed = static_cast<unsigned>(frame) * 2654435761u, scene = frame < cut ? 104729u : 15485863u;
  const unsigned x0 = 50 + (seed >> 24) % 6, y0 = 50 + (seed >> 14) % 6;
  Bytes luma(std::size_t{kWidth} * kHeight);
  for (unsigned y = 0; y < kHeight; ++y) {
    for (unsigned x = 0; x < kWidth; ++x) {
      const unsigned cell = (y + y0) / 7 * 7919u + (x + x0) / 7 * scene;
      luma[y * kWidth + x] = static_cast<std::uint8_t>((cell * 2654435761u) >> 24);
    }
  }
  return luma;
}

LiveStabilizerOptions small_options(PixelFormat format, std::size_t latency) {
  LiveStabilizerOptions o;
  o.plan.width = kWidth;
  o.plan.height = kHeight;
  o.plan.latency = latency;
  o.plan.settings.path = live_options(Preset::standard, kWidth);
  o.plan.settings.path.relinearize = 1;
  o.format = format;
  return o;
}

/// A picture of a format with the bytes of all its planes, and the planes' samples.
struct Shot {
  Bytes bytes;
  std::array<std::size_t, 3> offset{};
  std::array<std::ptrdiff_t, 3> stride{};

  template <class Byte>
  Picture<Byte> picture() {
    Picture<Byte> p;
    for (std::size_t i = 0; i < 3; ++i) {
      p.planes[i] = reinterpret_cast<Byte*>(bytes.data() + offset[i]);
      p.strides[i] = stride[i];
    }
    return p;
  }
};

constexpr int kHalf = (kWidth + 1) / 2;

Shot empty_shot(PixelFormat format) {
  Shot shot;
  const auto lay_out = [&](std::array<int, 3> strides, std::array<int, 3> rows) {
    std::size_t at = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      shot.offset[i] = at;
      shot.stride[i] = strides[i];
      at += static_cast<std::size_t>(strides[i]) * static_cast<std::size_t>(rows[i]);
    }
    shot.bytes.assign(at, 0);
  };
  constexpr int rows = kHeight / 2;
  switch (format) {
    case PixelFormat::gray:
      lay_out({kWidth, 0, 0}, {kHeight, 0, 0});
      break;
    case PixelFormat::yuv420:
      lay_out({kWidth, kHalf, kHalf}, {kHeight, rows, rows});
      break;
    case PixelFormat::yuv422:
      lay_out({kWidth, kHalf, kHalf}, {kHeight, kHeight, kHeight});
      break;
    case PixelFormat::yuv444:
      lay_out({kWidth, kWidth, kWidth}, {kHeight, kHeight, kHeight});
      break;
    case PixelFormat::nv12:
    case PixelFormat::nv21:
      lay_out({kWidth, 2 * kHalf, 0}, {kHeight, rows, 0});
      break;
    case PixelFormat::yuyv:
      lay_out({4 * kHalf, 0, 0}, {kHeight, 0, 0});
      break;
    case PixelFormat::rgba:
    case PixelFormat::bgra:
      lay_out({4 * kWidth, 0, 0}, {kHeight, 0, 0});
      break;
  }
  return shot;
}

/// What stands where in a format: sample (x, y) of Y, U, V or of R, G, B, A.
std::uint8_t& sample(Shot& shot, PixelFormat format, int plane, int x, int y) {
  const auto at = [&](int p, int offset) -> std::uint8_t& {
    return shot.bytes[shot.offset[static_cast<std::size_t>(p)] +
                      static_cast<std::size_t>(y * shot.stride[static_cast<std::size_t>(p)] + offset)];
  };
  switch (format) {
    case PixelFormat::nv12:
      return plane == 0 ? at(0, x) : at(1, 2 * x + plane - 1);
    case PixelFormat::nv21:
      return plane == 0 ? at(0, x) : at(1, 2 * x + 2 - plane);
    case PixelFormat::yuyv:
      return plane == 0 ? at(0, 2 * x) : at(0, 4 * x + 2 * plane - 1);
    case PixelFormat::rgba:
      return at(0, 4 * x + plane);
    case PixelFormat::bgra:
      return at(0, 4 * x + (plane == 3 ? 3 : 2 - plane));
    default:
      return at(plane, x);
  }
}

void planes_of(PixelFormat format, int& count, int (&across)[4], int (&down)[4]) {
  count = format == PixelFormat::gray ? 1 : format >= PixelFormat::rgba ? 4 : 3;
  for (int p = 0; p < 4; ++p) {
    const bool chroma = count == 3 && p > 0 && format != PixelFormat::yuv444;
    const bool low = chroma && format != PixelFormat::yuv422 && format != PixelFormat::yuyv;
    across[p] = chroma ? kHalf : kWidth;
    down[p] = low ? kHeight / 2 : kHeight;
  }
}

Shot shot_of(PixelFormat format, std::size_t frame) {
  const Bytes luma = view(frame);
  Shot shot = empty_shot(format);
  int count, across[4], down[4];
  planes_of(format, count, across, down);
  for (int p = 0; p < count; ++p) {
    for (int y = 0; y < down[p]; ++y) {
      for (int x = 0; x < across[p]; ++x) {
        const std::uint8_t own = luma[static_cast<std::size_t>(y * kWidth + x)];
        sample(shot, format, p, x, y) = static_cast<std::uint8_t>(own >> p ^ 37 * p);
      }
    }
  }
  return shot;
}

struct Run {
  std::vector<Shot> steady;
  std::vector<std::array<double, 9>> corrections;
  long allocations = 0;
  LiveCounts counted;
};

Run run_stabilizer(LiveStabilizerOptions options, bool in_place = false) {
  std::vector<std::byte> memory(live_stabilizer_memory_size(options) + 1);
  LiveStabilizer* live = create_live_stabilizer(options, {}, std::span(memory).subspan(1));
  REQUIRE(live != nullptr);
  std::vector<Shot> shots;
  for (std::size_t t = 0; t < kFrames; ++t) shots.push_back(shot_of(options.format, t));
  Run run;
  run.steady.assign(kFrames, empty_shot(options.format));
  run.corrections.reserve(kFrames);
  std::size_t out = 0;
  const auto keep = [&](const LiveCorrection& due, Shot& drawn) {
    if (!due.due) return;
    CHECK(due.frame == out);
    std::array<double, 9> matrix;
    std::copy_n(due.homography, 9, matrix.begin());
    run.corrections.push_back(matrix);
    std::copy(drawn.bytes.begin(), drawn.bytes.end(), run.steady[out++].bytes.begin());
  };
  Shot target = empty_shot(options.format);
  const long before = allocation_count();
  bool sound = true;
  for (std::size_t t = 0; t < kFrames; ++t) {
    LiveCorrection due;
    Shot& drawn = in_place ? shots[t] : target;
    sound =
        sound && push(*live, shots[t].picture<const std::byte>(), false, drawn.picture<std::byte>(), due) == Status::ok;
    sound = sound && due.due == (t >= options.plan.latency);
    keep(due, drawn);
  }
  LiveCorrection due;
  do {
    sound = sound && flush(*live, target.picture<std::byte>(), due) == Status::ok;
    keep(due, target);
  } while (due.due);
  run.allocations = allocation_count() - before;
  CHECK(sound);
  CHECK(out == kFrames);
  run.counted = counts(*live);
  return run;
}

}  // namespace

TEST_CASE("every format shows its planes through the plan's corrections, and nothing is allocated") {
  // Luma alone tells the corrections: a plan of its own.
  const LiveStabilizerOptions plain = small_options(PixelFormat::gray, 3);
  std::vector<std::byte> memory(live_plan_memory_size(plain.plan));
  LivePlan* plan = create_live_plan(plain.plan, {}, memory);
  REQUIRE(plan != nullptr);
  std::vector<std::array<double, 9>> expected;
  LiveCorrection due;
  const auto keep = [&] {
    if (!due.due) return;
    expected.emplace_back();
    std::copy_n(due.homography, 9, expected.back().begin());
  };
  for (std::size_t t = 0; t < kFrames; ++t) {
    Bytes luma = view(t);
    REQUIRE(push(*plan, {luma.data(), kWidth, kHeight, kWidth}, false, due) == Status::ok);
    keep();
  }
  do {
    REQUIRE(flush(*plan, due) == Status::ok);
    keep();
  } while (due.due);
  REQUIRE(expected.size() == kFrames);

  for (int f = 0; f <= static_cast<int>(PixelFormat::bgra); ++f) {
    const auto format = static_cast<PixelFormat>(f);
    CAPTURE(f);
    LiveStabilizerOptions options = small_options(format, 3);
    options.chroma = static_cast<ChromaLocation>(f % 3);
    Run run = run_stabilizer(options);
    CHECK(run.allocations == 0);
    CHECK(run.counted.frames == kFrames);
    if (format < PixelFormat::rgba) CHECK(run.corrections == expected);
    const Run again = run_stabilizer(options, true);  // in place, the same
    options.threads = 2;
    const Run threaded = run_stabilizer(options);
    int count, across[4], down[4];
    planes_of(format, count, across, down);
    bool same = true;
    for (std::size_t t = 0; t < kFrames; ++t) {
      CHECK(again.steady[t].bytes == run.steady[t].bytes);
      CHECK(threaded.steady[t].bytes == run.steady[t].bytes);
      Shot shot = shot_of(format, t);
      const double* m = run.corrections[t].data();
      double map[9], chroma[9], largest = 0;
      for (int i = 0; i < 9; ++i) largest = std::max(largest, std::abs(m[i]));
      for (int i = 0; i < 9; ++i) map[i] = m[i] / largest;
      for (int i = 0; i < 9; ++i) map[i] /= m[8] / largest;
      const int sx = count == 3 && across[1] < kWidth ? 2 : 1, sy = count == 3 && down[1] < kHeight ? 2 : 1;
      chroma_map(std::span<const double, 9>(map, 9), sx, sy,
                 options.chroma == ChromaLocation::center ? 0.5 * (sx - 1) : 0.0,
                 options.chroma == ChromaLocation::topleft ? 0.0 : 0.5 * (sy - 1), chroma);
      for (int p = 0; p < count; ++p) {
        Bytes from(static_cast<std::size_t>(across[p] * down[p])), to = from;
        for (int y = 0; y < down[p]; ++y) {
          for (int x = 0; x < across[p]; ++x) {
            from[static_cast<std::size_t>(y * across[p] + x)] = sample(shot, format, p, x, y);
          }
        }
        const Image<const std::uint8_t> source{from.data(), across[p], down[p], across[p]};
        const Image<std::uint8_t> target{to.data(), across[p], down[p], across[p]};
        REQUIRE(warp({count == 3 && p > 0 ? chroma : map, 9}, {&source, 1}, {&target, 1}, Interpolation::bicubic) ==
                Status::ok);
        for (int y = 0; y < down[p]; ++y) {
          for (int x = 0; x < across[p]; ++x) {
            same = same && to[static_cast<std::size_t>(y * across[p] + x)] == sample(run.steady[t], format, p, x, y);
          }
        }
      }
    }
    CHECK(same);
  }
}

TEST_CASE("live pictures of ten bits, cuts, settings that change, and what is refused") {
  LiveStabilizerOptions options = small_options(PixelFormat::gray, 2);
  options.bit_depth = 10;
  std::vector<std::byte> memory(live_stabilizer_memory_size(options));
  LiveStabilizer* live = create_live_stabilizer(options, {}, memory);
  REQUIRE(live != nullptr);
  const Run eight = run_stabilizer(small_options(PixelFormat::gray, 2));
  std::vector<std::uint16_t> deep(std::size_t{kWidth} * kHeight), steady = deep;
  const Picture<const std::byte> in{{reinterpret_cast<const std::byte*>(deep.data())}, {2 * kWidth}};
  const Picture<std::byte> out{{reinterpret_cast<std::byte*>(steady.data())}, {2 * kWidth}};
  LiveCorrection due;
  std::size_t shown = 0;
  for (std::size_t t = 0; t < kFrames; ++t) {
    const Bytes luma = view(t);
    for (std::size_t i = 0; i < deep.size(); ++i) deep[i] = static_cast<std::uint16_t>(luma[i] << 2 | 1);
    REQUIRE(push(*live, in, false, out, due) == Status::ok);
    if (!due.due) continue;
    CHECK(std::equal(due.homography, due.homography + 9, eight.corrections[shown].begin()));
    CHECK(*std::max_element(steady.begin(), steady.end()) < 1024);
    CHECK(std::abs(steady[5000] / 4 - eight.steady[shown].bytes[5000]) <= 1);
    ++shown;
  }
  const Picture<const std::byte> missing{}, narrow{{in.planes[0]}, {kWidth}}, odd{{in.planes[0] + 1}, {2 * kWidth}};
  for (const auto& wrong : {missing, narrow, odd}) {
    CHECK(push(*live, wrong, false, out, due) == Status::invalid_argument);
  }
  CHECK(push(*live, in, false, {}, due) == Status::invalid_argument);
  REQUIRE(flush(*live, out, due) == Status::ok);
  CHECK(due.due);
  CHECK(push(*live, in, false, out, due) == Status::invalid_argument);  // until nothing is left
  REQUIRE(flush(*live, out, due) == Status::ok);
  REQUIRE(flush(*live, out, due) == Status::ok);
  CHECK(!due.due);
  CHECK(counts(*live).frames == kFrames);
  CHECK(push(*live, in, false, out, due) == Status::ok);

  // A cut that is seen; and settings.
  const LiveStabilizerOptions plain = small_options(PixelFormat::gray, 2);
  std::vector<std::byte> plan_memory(live_plan_memory_size(plain.plan));
  const auto run = [&](std::size_t cut, std::size_t changed, const LiveSettings& settings) {
    LivePlan* plan = create_live_plan(plain.plan, {}, plan_memory);
    REQUIRE(plan != nullptr);
    std::vector<std::array<double, 9>> found;
    for (std::size_t t = 0; t < 3 * kFrames; ++t) {
      const Bytes luma = view(t % kFrames + (t >= cut ? kFrames : 0), kFrames);
      if (t == changed) REQUIRE(change(*plan, settings) == Status::ok);
      REQUIRE(push(*plan, {luma.data(), kWidth, kHeight, kWidth}, false, due) == Status::ok);
      if (due.due) {
        found.emplace_back();
        std::copy_n(due.homography, 9, found.back().begin());
      }
    }
    CHECK(counts(*plan).cuts == (cut < 3 * kFrames));
    return found;
  };
  const LiveSettings same = plain.plan.settings;
  const auto base = run(3 * kFrames, 1000, same);
  CHECK(run(3 * kFrames, 20, same) == base);
  run(40, 1000, same);
  LiveSettings wide = same, off = same;
  wide.path.crop = 0.5;
  off.strength = 0;
  const auto wider = run(3 * kFrames, 20, wide), none = run(3 * kFrames, 20, off);
  CHECK(std::equal(base.begin(), base.begin() + 18, wider.begin()));
  const auto zoom = [](const auto& found) {
    double sum = 0;
    for (std::size_t t = found.size() - 20; t < found.size(); ++t) sum += found[t][0] / 20;
    return sum;
  };
  CHECK(zoom(wider) < zoom(base) - 0.05);
  CHECK(none.back() == std::array<double, 9>{1, 0, 0, 0, 1, 0, 0, 0, 1});
  for (std::size_t t = 18; t + 1 < none.size(); ++t) {  // without a jerk
    CHECK(std::abs(wider[t + 1][0] - wider[t][0]) < 0.03);
    CHECK(std::abs(none[t + 1][0] - none[t][0]) < 0.03);
  }
  LivePlan* plan = create_live_plan(plain.plan, {}, plan_memory);
  for (LiveSettings wrong : {same, same, same}) {
    static int which = 0;
    (which == 0 ? wrong.fps : which == 1 ? wrong.strength : wrong.path.crop) = std::nan("");
    ++which;
    CHECK(change(*plan, wrong) == Status::invalid_argument);
    LivePlanOptions made = plain.plan;
    made.settings = wrong;
    CHECK(live_plan_memory_size(made) == 0);
    CHECK(create_live_plan(made, {}, plan_memory) == nullptr);
  }
  CHECK(create_live_plan(plain.plan, {}, std::span(plan_memory).first(plan_memory.size() - 1)) == nullptr);
  options.format = PixelFormat::nv12;  // has eight bits alone
  CHECK(live_stabilizer_memory_size(options) == 0);
  options.bit_depth = 8;
  options.plan.latency = std::size_t{1} << 60;
  CHECK(live_stabilizer_memory_size(options) == 0);
}

TEST_CASE("the C face is the C++ one, says what is wrong, and takes structs that are older") {
  legato_video_live_options options = legato_video_live_options_default();
  legato_video_live_settings settings = legato_video_live_settings_default();
  options.width = kWidth;
  options.height = kHeight;
  options.latency = 3;
  options.format = LEGATO_VIDEO_GRAY;
  LiveStabilizerOptions own = small_options(PixelFormat::gray, 3);
  own.plan.settings.path = live_options(Preset::standard, kWidth);
  const Run expected = run_stabilizer(own);
  CHECK(std::strcmp(legato_video_live_reason(&options, &settings), "") == 0);
  std::vector<std::byte> memory(legato_video_live_memory(&options, &settings));
  legato_video_live* live = legato_video_live_create(&options, &settings, nullptr, memory.data(), memory.size());
  REQUIRE(live != nullptr);
  Bytes steady(std::size_t{kWidth} * kHeight);
  const legato_video_picture out = {{steady.data()}, {kWidth}};
  legato_video_live_result found = {};
  std::size_t shown = 0;
  const long before = allocation_count();
  long allocated = 0;
  const auto keep = [&] {
    if (!found.due) return;
    CHECK(std::equal(found.homography, found.homography + 9, expected.corrections[shown].begin()));
    CHECK(steady == expected.steady[shown].bytes);
    ++shown;
  };
  for (std::size_t t = 0; t < kFrames; ++t) {
    Bytes luma = view(t);
    const legato_video_picture in = {{luma.data()}, {kWidth}};
    const long at = allocation_count();
    REQUIRE(legato_video_live_push(live, &in, 0, &out, &found) == LEGATO_OK);
    allocated += allocation_count() - at;
    keep();
  }
  CHECK(allocated == 0);
  CHECK(before <= allocation_count());
  do {
    REQUIRE(legato_video_live_flush(live, &out, &found) == LEGATO_OK);
    keep();
  } while (found.due);
  CHECK(shown == kFrames);
  CHECK(legato_video_live_count(live).frames == kFrames);
  settings.crop = 0.3;
  CHECK(legato_video_live_change(live, &settings) == LEGATO_OK);
  settings.crop = 1.5;
  CHECK(legato_video_live_change(live, &settings) == LEGATO_INVALID_ARGUMENT);
  CHECK(std::strstr(legato_video_live_reason(&options, &settings), "crop") != nullptr);
  CHECK(legato_video_live_memory(&options, &settings) == 0);
  CHECK(legato_video_live_create(&options, &settings, nullptr, memory.data(), memory.size()) == nullptr);
  settings.crop = 0;

  legato_video_live_settings older = settings;
  older.size = offsetof(legato_video_live_settings, strength);
  older.strength = -1;  // not its own
  CHECK(legato_video_live_memory(&options, &older) == memory.size());
  older.size = sizeof older + 1;
  CHECK(std::strstr(legato_video_live_reason(&options, &older), "settings") != nullptr);
  const auto refused = [&](const char* name, auto change) {
    legato_video_live_options wrong = options;
    change(wrong);
    CHECK(std::strstr(legato_video_live_reason(&wrong, &settings), name) != nullptr);
    CHECK(legato_video_live_memory(&wrong, &settings) == 0);
    CHECK(legato_video_live_create(&wrong, &settings, nullptr, memory.data(), memory.size()) == nullptr);
  };
  refused("width", [](auto& o) { o.width = 0; });
  refused("latency", [](auto& o) { o.latency = std::size_t{1} << 30; });
  refused("predicted", [](auto& o) { o.predicted = -1; });
  refused("format", [](auto& o) { o.format = static_cast<legato_video_format>(99); });
  refused("bit_depth", [](auto& o) { o.bit_depth = 17; });
  refused("chroma", [](auto& o) { o.chroma = static_cast<legato_video_chroma>(3); });
  refused("interpolation", [](auto& o) { o.interpolation = static_cast<legato_video_interpolation>(-1); });
  refused("threads", [](auto& o) { o.threads = 0; });
  CHECK(legato_video_live_push(nullptr, &out, 0, &out, &found) == LEGATO_INVALID_ARGUMENT);
  CHECK(legato_video_live_push(live, nullptr, 0, &out, &found) == LEGATO_INVALID_ARGUMENT);
  CHECK(legato_video_live_flush(live, nullptr, &found) == LEGATO_INVALID_ARGUMENT);
  CHECK(legato_video_live_change(live, nullptr) == LEGATO_INVALID_ARGUMENT);
}
