// Values on a grid, extended to where nothing is known of them.
#pragma once

#include <algorithm>
#include <cstddef>

#include "core/core.h"

namespace legato::video {

/// Weighted values on a grid, extended smoothly to where the weights vanish: pull-push (Gortler et al., SIGGRAPH 1996,
/// section 3.4). A fine level knows what it has weights for; the rest is left to the coarse ones.
class Extension {
 public:
  static constexpr int kMostLevels = 16, kMostChannels = 4;

  /// Laid out in the arena for a grid of `width` x `height` cells and at most so many channels; counts only, if the
  /// arena does.
  Extension(int width, int height, int channels, Arena& arena) noexcept {
    rows_ = arena.take<float>(cells(width, height));
    for (levels_ = 0; levels_ < kMostLevels; ++levels_) {
      Level& level = level_[levels_];
      level.width = width;
      level.height = height;
      level.weights = arena.take<float>(cells(width, height));
      for (int c = 0; c < channels; ++c) level.values[c] = arena.take<float>(cells(width, height));
      if (std::min(width, height) <= 3) {
        ++levels_;
        break;
      }
      width = (width + 1) / 2;
      height = (height + 1) / 2;
    }
  }

  /// What is to be extended: [height][width] values of a channel times their weights, and the weights.
  float* values(int channel) noexcept { return level_[0].values[channel]; }
  float* weights() noexcept { return level_[0].weights; }

  void clear(int channels) noexcept {
    const std::size_t count = cells(level_[0].width, level_[0].height);
    for (int c = 0; c < channels; ++c) std::fill_n(values(c), count, 0.0f);
    std::fill_n(weights(), count, 0.0f);
  }

  /// Leaves the extended values in values(). `trust`: of the coarse value, in units of a fine cell's weight.
  void run(int channels, float trust) noexcept {
    for (int i = 1; i < levels_; ++i) {
      const Level &fine = level_[i - 1], &coarse = level_[i];
      pull(fine.weights, fine, coarse.weights, coarse);
      for (int c = 0; c < channels; ++c) pull(fine.values[c], fine, coarse.values[c], coarse);
    }
    Level& last = level_[levels_ - 1];
    for (int c = 0; c < channels; ++c) {
      for (int i = 0; i < last.width * last.height; ++i) last.values[c][i] /= last.weights[i] + 1e-9f;
    }
    for (int i = levels_ - 2; i >= 0; --i) push(level_[i + 1], level_[i], channels, trust);
  }

 private:
  struct Level {
    float* values[kMostChannels];
    float* weights;
    int width, height;
  };

  static std::size_t cells(int width, int height) noexcept {
    return static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
  }

  /// Half the size, by the tent 1 3 3 1.
  void pull(const float* from, const Level& fine, float* to, const Level& coarse) noexcept {
    const int across = coarse.width, last = fine.width - 1;
    for (int y = 0; y < fine.height; ++y) {
      const float* in = from + y * fine.width;
      float* out = rows_ + y * across;
      const auto tent = [in](int a, int b, int c, int d) {
        return 0.125f * (in[a] + in[d]) + 0.375f * (in[b] + in[c]);
      };
      const int inner = std::max((fine.width - 1) / 2, 1);
      out[0] = tent(0, 0, std::min(1, last), std::min(2, last));
      for (int x = 1; x < inner; ++x) out[x] = tent(2 * x - 1, 2 * x, 2 * x + 1, 2 * x + 2);
      for (int x = inner; x < across; ++x) {
        out[x] = tent(2 * x - 1, std::min(2 * x, last), std::min(2 * x + 1, last), std::min(2 * x + 2, last));
      }
    }
    for (int y = 0; y < coarse.height; ++y) {
      const float* row[4];
      for (int r = 0; r < 4; ++r) row[r] = rows_ + std::clamp(2 * y + r - 1, 0, fine.height - 1) * across;
      for (int x = 0; x < across; ++x) {
        to[y * across + x] = 0.125f * (row[0][x] + row[3][x]) + 0.375f * (row[1][x] + row[2][x]);
      }
    }
  }

  /// Twice the size, bilinear between the middles of cells, for what the fine level does not know.
  void push(const Level& coarse, const Level& fine, int channels, float trust) noexcept {
    float *up = rows_, *whole = rows_ + coarse.width;  // a row each: together at most two fine ones
    const int half = fine.width / 2;
    for (int y = 0; y < fine.height; ++y) {
      const int near = std::min(y / 2, coarse.height - 1);
      const int far = std::clamp(near + (y % 2 == 0 ? -1 : 1), 0, coarse.height - 1);
      for (int x = 0; x < fine.width; ++x) whole[x] = 1 / (fine.weights[y * fine.width + x] + trust);
      for (int c = 0; c < channels; ++c) {
        const float *a = coarse.values[c] + near * coarse.width, *b = coarse.values[c] + far * coarse.width;
        for (int x = 0; x < coarse.width; ++x) up[x] = 0.75f * a[x] + 0.25f * b[x];
        float* here = fine.values[c] + y * fine.width;
        const auto put = [&](int x, float value) { here[x] = (here[x] + trust * value) * whole[x]; };
        put(0, up[0]);
        for (int x = 1; x < half; ++x) {
          put(2 * x - 1, 0.75f * up[x - 1] + 0.25f * up[x]);
          put(2 * x, 0.25f * up[x - 1] + 0.75f * up[x]);
        }
        const int end = coarse.width - 1;
        for (int x = std::max(2 * half - 1, 1); x < fine.width; ++x) {
          const int at = std::min(x / 2, end), other = std::clamp(at + (x % 2 == 0 ? -1 : 1), 0, end);
          put(x, 0.75f * up[at] + 0.25f * up[other]);
        }
      }
    }
  }

  Level level_[kMostLevels];
  int levels_;
  float* rows_;
};

}  // namespace legato::video
