// What a frame lacks, from its neighbors: pieces of fill.cpp that have a meaning of their own.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "core/core.h"

namespace legato::video {

/// Weighted values on a grid, extended smoothly to where the weights vanish: pull-push (Gortler et al., SIGGRAPH 1996,
/// section 3.4). A fine level knows what it has weights for; the rest is left to the coarse ones.
class Extension {
 public:
  static constexpr int kMostLevels = 16, kMostChannels = 3;

  /// Laid out in the arena for a grid of `width` x `height` cells and at most so many channels; counts only, if the
  /// arena does.
  Extension(int width, int height, int channels, Arena& arena) noexcept {
    for (levels_ = 0; levels_ < kMostLevels; ++levels_) {
      Level& level = level_[levels_];
      level.width = width;
      level.height = height;
      const auto cells = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
      level.values = arena.take<float>(cells * static_cast<std::size_t>(channels));
      level.weights = arena.take<float>(cells);
      if (std::min(width, height) <= 3) {
        ++levels_;
        break;
      }
      width = (width + 1) / 2;
      height = (height + 1) / 2;
    }
  }

  /// What is to be extended: [height][width][channels] values times their weights, and [height][width] weights.
  float* values() noexcept { return level_[0].values; }
  float* weights() noexcept { return level_[0].weights; }

  void clear(int channels) noexcept {
    const auto cells = static_cast<std::size_t>(level_[0].width) * static_cast<std::size_t>(level_[0].height);
    std::fill_n(values(), cells * static_cast<std::size_t>(channels), 0.0f);
    std::fill_n(weights(), cells, 0.0f);
  }

  /// Leaves the extended values in values(). `trust`: of the coarse value, in units of a fine cell's weight.
  void run(int channels, float trust) noexcept {
    for (int i = 1; i < levels_; ++i) pull(level_[i - 1], level_[i], channels);
    Level& last = level_[levels_ - 1];
    for (int i = 0; i < last.width * last.height; ++i) {
      for (int c = 0; c < channels; ++c) last.values[i * channels + c] /= last.weights[i] + 1e-9f;
    }
    for (int i = levels_ - 2; i >= 0; --i) push(level_[i + 1], level_[i], channels, trust);
  }

 private:
  struct Level {
    float *values, *weights;
    int width, height;
  };

  static void pull(const Level& fine, const Level& coarse, int channels) noexcept {
    constexpr float kTent[4] = {0.125f, 0.375f, 0.375f, 0.125f};
    for (int y = 0; y < coarse.height; ++y) {
      for (int x = 0; x < coarse.width; ++x) {
        float sums[kMostChannels] = {}, weight = 0;
        for (int r = 0; r < 4; ++r) {
          const int row = std::clamp(2 * y + r - 1, 0, fine.height - 1) * fine.width;
          for (int k = 0; k < 4; ++k) {
            const int at = row + std::clamp(2 * x + k - 1, 0, fine.width - 1);
            const float share = kTent[r] * kTent[k];
            weight += share * fine.weights[at];
            for (int c = 0; c < channels; ++c) sums[c] += share * fine.values[at * channels + c];
          }
        }
        const int at = y * coarse.width + x;
        coarse.weights[at] = weight;
        for (int c = 0; c < channels; ++c) coarse.values[at * channels + c] = sums[c];
      }
    }
  }

  static void push(const Level& coarse, const Level& fine, int channels, float trust) noexcept {
    for (int y = 0; y < fine.height; ++y) {
      const int near_y = std::min(y / 2, coarse.height - 1);
      const int far_y = std::clamp(near_y + (y % 2 == 0 ? -1 : 1), 0, coarse.height - 1);
      for (int x = 0; x < fine.width; ++x) {
        const int near_x = std::min(x / 2, coarse.width - 1);
        const int far_x = std::clamp(near_x + (x % 2 == 0 ? -1 : 1), 0, coarse.width - 1);
        const int a = near_y * coarse.width, b = far_y * coarse.width, at = y * fine.width + x;
        const float whole = 1 / (fine.weights[at] + trust);
        for (int c = 0; c < channels; ++c) {
          const auto value = [&](int cell) { return coarse.values[cell * channels + c]; };
          const float up = 0.5625f * value(a + near_x) + 0.1875f * (value(a + far_x) + value(b + near_x)) +
                           0.0625f * value(b + far_x);
          float& here = fine.values[at * channels + c];
          here = (here + trust * up) * whole;
        }
      }
    }
  }

  Level level_[kMostLevels];
  int levels_;
};

}  // namespace legato::video
