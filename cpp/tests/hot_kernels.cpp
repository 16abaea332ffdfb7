// The hot kernels one at a time, as often as told, for counting their instructions: benchmarks/instructions.py. The
// inputs are drawn by a generator of our own, so that every run does the same work.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "legato/camera.hpp"
#include "legato/core.hpp"
#include "legato/diffusion.hpp"
#include "legato/rft.hpp"
#include "legato/video.hpp"
#ifdef LEGATO_WITH_RASP
#include "legato/rasp.hpp"
#endif

namespace {

using legato::Status;

class Draws {
 public:
  double unit() {  // xorshift64*, [0, 1)
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<double>((state_ * 0x2545f4914f6cdd1dULL) >> 11) * 0x1p-53;
  }
  double around(double size) { return size * (2 * unit() - 1); }
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(unit() * static_cast<double>(n)); }

 private:
  std::uint64_t state_ = 0x9e3779b97f4a7c15ULL;
};

bool fine(Status status) { return status == Status::ok; }

std::vector<double> motion(std::size_t frames, double size) {
  Draws draws;
  std::vector<double> logs(9 * frames), found(9 * frames);
  for (std::size_t t = 1; t < frames; ++t) {
    for (std::size_t i = 0; i < 8; ++i) logs[9 * t + i] = draws.around(size);
    logs[9 * t + 8] = -logs[9 * t] - logs[9 * t + 4];
  }
  std::size_t bad = 0;
  if (!fine(legato::camera::exp_homography(logs, found, bad))) std::abort();
  return found;
}

bool log_homography(int repeats) {
  const std::vector<double> from = motion(1000, 0.02);
  std::vector<double> logs(from.size());
  std::size_t bad = 0;
  bool good = true;
  while (repeats-- > 0) good = fine(legato::camera::log_homography(from, logs, bad)) && good;
  return good;
}

bool smooth_path(int repeats) {
  constexpr std::size_t kFrames = 60;
  const std::vector<double> from = motion(kFrames, 0.004);
  const legato::camera::PathOptions options;
  std::vector<std::byte> workspace(legato::camera::path_workspace_size(kFrames, options));
  std::vector<double> corrections(9 * kFrames), logs(9 * kFrames), violation(kFrames);
  legato::camera::PathResult result;
  bool good = true;
  while (repeats-- > 0)
    good = fine(legato::camera::smooth_path(from, 0.5625, options, {}, {}, workspace, corrections, logs, violation,
                                            result)) &&
           good;
  return good;
}

// A texture whose details are a few pixels wide, moved by (dx, 0).
std::vector<std::uint8_t> picture(int width, int height, int dx) {
  std::vector<std::uint8_t> drawn(static_cast<std::size_t>(width) * static_cast<std::size_t>(height));
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      std::uint32_t cell = static_cast<std::uint32_t>((x + dx + 64) / 5 * 73856093) ^
                           static_cast<std::uint32_t>((y + 64) / 5 * 19349663);
      cell = (cell ^ (cell >> 13)) * 0x85ebca6bU;
      drawn[static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x)] =
          static_cast<std::uint8_t>(40 + (cell >> 24) % 176);
    }
  return drawn;
}

bool warp(legato::video::Interpolation interpolation, int repeats) {
  constexpr int kWidth = 320, kHeight = 180;
  const std::vector<std::uint8_t> from = picture(kWidth, kHeight, 0);
  std::vector<std::uint8_t> to(from.size());
  const double map[9] = {0.93, -0.024, 15, 0.024, 0.93, 4.5, 1.6e-5, -1.2e-5, 1};
  const legato::video::Image<const std::uint8_t> source{from.data(), kWidth, kHeight, kWidth};
  const legato::video::Image<std::uint8_t> target{to.data(), kWidth, kHeight, kWidth};
  bool good = true;
  while (repeats-- > 0) good = fine(legato::video::warp(map, {&source, 1}, {&target, 1}, interpolation)) && good;
  return good;
}

bool warp_bilinear(int repeats) { return warp(legato::video::Interpolation::bilinear, repeats); }
bool warp_bicubic(int repeats) { return warp(legato::video::Interpolation::bicubic, repeats); }

bool fill(int repeats) {
  constexpr int kWidth = 320, kHeight = 180;
  const std::vector<std::uint8_t> frame = picture(kWidth, kHeight, 0), neighbor = picture(kWidth, kHeight, -24);
  std::vector<std::uint8_t> drawn = frame;
  const std::size_t size = legato::video::pyramid_memory_size(kWidth, kHeight, 1);
  std::vector<std::byte> memory[2] = {std::vector<std::byte>(size), std::vector<std::byte>(size)};
  const legato::video::Image<const std::uint8_t> planes[2] = {{frame.data(), kWidth, kHeight, kWidth},
                                                              {neighbor.data(), kWidth, kHeight, kWidth}};
  legato::video::Pyramid* pyramids[2];
  for (int i = 0; i < 2; ++i) {
    pyramids[i] = legato::video::create_pyramid(kWidth, kHeight, 1, memory[i]);
    if (pyramids[i] == nullptr || !fine(legato::video::fill_pyramid(*pyramids[i], planes[i]))) return false;
  }
  const double map[9] = {1, 0, -20, 0, 1, 0, 0, 0, 1};
  legato::video::FillSource<std::uint8_t> source;
  source.planes[0] = planes[1];
  source.pyramid = pyramids[1];
  source.map[2] = 24;
  const legato::video::Image<std::uint8_t> target{drawn.data(), kWidth, kHeight, kWidth};
  const legato::video::FrameSize cells = legato::video::fill_cells(kWidth, kHeight);
  std::vector<float> errors(static_cast<std::size_t>(cells.width) * static_cast<std::size_t>(cells.height));
  std::vector<std::byte> workspace(legato::video::fill_workspace_size(*pyramids[0], kWidth, kHeight, 1));
  legato::video::FillOptions options;
  options.most_error = 1000;  // the texture is harsh, and a membrane is not what is counted
  legato::video::FillResult found;
  bool good = true;
  while (repeats-- > 0) {
    good = fine(legato::video::fill(map, *pyramids[0], {&source, 1}, {&target, 1}, {}, options, workspace, errors,
                                    found)) &&
           found.sources == 1 && found.membrane < 0.01 && good;
  }
  return good;
}

bool tracker(int repeats) {
  constexpr int kWidth = 320, kHeight = 180;
  const std::vector<std::uint8_t> frames[2] = {picture(kWidth, kHeight, 0), picture(kWidth, kHeight, 3)};
  std::vector<std::byte> memory(legato::video::tracker_memory_size(kWidth, kHeight, {}));
  legato::video::Tracker* const tracker = legato::video::create_tracker(kWidth, kHeight, {}, {}, memory);
  if (tracker == nullptr) return false;
  bool good = true;
  for (int i = 0; i <= 2 * repeats; ++i) {
    const legato::video::Image<const std::uint8_t> luma{frames[i % 2].data(), kWidth, kHeight, kWidth};
    legato::video::Motion found;
    good = fine(legato::video::push(*tracker, luma, found)) && (found.first || found.ok) && good;
  }
  return good;
}

bool normal(int repeats) {
  std::vector<float> out(65536);
  const std::uint64_t seed = 7;
  const legato::diffusion::Noise noise{.seeds = {&seed, 1}};
  bool good = true;
  while (repeats-- > 0) good = fine(legato::diffusion::normal<float>(noise, 1, out.size(), out)) && good;
  return good;
}

bool guided_step(int repeats) {
  Draws draws;
  std::vector<float> x(65536), cond(x.size()), uncond(x.size()), out(x.size());
  for (std::vector<float>* array : {&x, &cond, &uncond})
    for (float& value : *array) value = static_cast<float>(draws.around(2));
  const legato::diffusion::Coefficients coefficients{0.9, -1, 0.8, 0};
  const legato::diffusion::Step<float> step{.samples = 1,
                                            .elements = x.size(),
                                            .coefficients = {&coefficients, 1},
                                            .x = x,
                                            .cond = cond,
                                            .uncond = uncond,
                                            .out = out};
  bool good = true;
  while (repeats-- > 0) good = fine(legato::diffusion::apply_step(step)) && good;
  return good;
}

bool token_stats(int repeats) {
  constexpr std::size_t kRows = 16, kColumns = 8192;
  Draws draws;
  std::vector<float> logits(kRows * kColumns), out(6 * kRows);
  for (float& value : logits) value = static_cast<float>(draws.around(5));
  std::vector<std::int64_t> ids(kRows);
  for (std::int64_t& id : ids) id = static_cast<std::int64_t>(draws.below(kColumns));
  const auto part = [&out](std::size_t i) { return std::span<float>(out).subspan(i * kRows, kRows); };
  const legato::rft::TokenStats stats{part(0), part(1), part(2), part(3), part(4), part(5)};
  const legato::rft::Logits given{std::as_bytes(std::span<const float>(logits)), legato::rft::FloatType::f32, kRows,
                                  kColumns};
  std::size_t bad = 0;
  bool good = true;
  while (repeats-- > 0) good = fine(legato::rft::token_stats(given, ids, 1.0, {}, stats, bad)) && good;
  return good;
}

bool gae(int repeats) {
  constexpr std::size_t kRows = 64, kSteps = 256;
  Draws draws;
  std::vector<float> rewards(kRows * kSteps), values(rewards.size()), advantages(rewards.size()),
      returns(rewards.size());
  for (std::size_t i = 0; i < rewards.size(); ++i) {
    rewards[i] = static_cast<float>(draws.around(1));
    values[i] = static_cast<float>(draws.around(1));
  }
  bool good = true;
  while (repeats-- > 0)
    good = fine(legato::rft::gae(std::span<const float>(rewards), std::span<const float>(values), {}, {}, kRows, 0.99,
                                 0.95, std::span<float>(advantages), std::span<float>(returns))) &&
           good;
  return good;
}

#ifdef LEGATO_WITH_RASP
bool aggregate(legato::rasp::Compare compare, legato::rasp::Reduction reduction, int repeats) {
  constexpr std::size_t kTokens = 4096;
  Draws draws;
  std::vector<std::int64_t> key(kTokens), query(kTokens), value(kTokens), out(kTokens);
  for (std::size_t i = 0; i < kTokens; ++i) {
    key[i] = static_cast<std::int64_t>(draws.below(50));
    query[i] = static_cast<std::int64_t>(draws.below(50));
    value[i] = static_cast<std::int64_t>(draws.below(50));
  }
  const legato::rasp::Term term{.key = key, .query = query, .compare = compare};
  const legato::rasp::Shape shape{.length = kTokens};
  std::vector<std::byte> workspace(legato::rasp::conjunction_workspace_size(shape, {&compare, 1}, reduction, 1));
  bool good = true;
  while (repeats-- > 0)
    good = fine(legato::rasp::aggregate_conjunction(shape, {&term, 1}, {.value = value, .reduction = reduction},
                                                    workspace, {.out = out}, 1)) &&
           good;
  return good;
}

bool mean_of_equal(int repeats) {
  return aggregate(legato::rasp::Compare::equal, legato::rasp::Reduction::mean, repeats);
}
bool largest_of_less(int repeats) {
  return aggregate(legato::rasp::Compare::less, legato::rasp::Reduction::max, repeats);
}
#endif

struct Kernel {
  std::string_view name;
  bool (*run)(int repeats);
};

constexpr Kernel kKernels[] = {
    {"log_homography", log_homography},
    {"smooth_path", smooth_path},
    {"warp_bilinear", warp_bilinear},
    {"warp_bicubic", warp_bicubic},
    {"fill", fill},
    {"tracker", tracker},
    {"normal", normal},
    {"guided_step", guided_step},
    {"token_stats", token_stats},
    {"gae", gae},
#ifdef LEGATO_WITH_RASP
    {"mean_of_equal", mean_of_equal},
    {"largest_of_less", largest_of_less},
#endif
};

}  // namespace

int main(int count, char** words) {
  if (count == 1) {
    for (const Kernel& kernel : kKernels)
      std::printf("%.*s\n", static_cast<int>(kernel.name.size()), kernel.name.data());
    return 0;
  }
  if (count != 3) {
    std::fprintf(stderr, "usage: %s [KERNEL REPEATS]\n", words[0]);
    return 2;
  }
  for (const Kernel& kernel : kKernels)
    if (kernel.name == words[1]) {
      if (kernel.run(std::atoi(words[2]))) return 0;
      std::fprintf(stderr, "%s: failed\n", words[1]);
      return 1;
    }
  std::fprintf(stderr, "%s: no such kernel\n", words[1]);
  return 2;
}
