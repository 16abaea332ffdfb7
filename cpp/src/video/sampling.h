// Positions under a homography, and pictures between their samples.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "legato/video.hpp"

namespace legato::video {

struct Point {
  float x, y;
};

inline Point mapped(const double* h, double x, double y) {
  const double w = h[6] * x + h[7] * y + h[8];
  if (!(w > 1e-9)) return {-1e6f, -1e6f};
  const double px = (h[0] * x + h[1] * y + h[2]) / w, py = (h[3] * x + h[4] * y + h[5]) / w;
  return {static_cast<float>(std::clamp(px, -1e6, 1e6)), static_cast<float>(std::clamp(py, -1e6, 1e6))};
}

/// The inverse up to scale, its last entry made positive.
inline bool invert(const double* h, double* out) {
  out[0] = h[4] * h[8] - h[5] * h[7], out[1] = h[2] * h[7] - h[1] * h[8], out[2] = h[1] * h[5] - h[2] * h[4];
  out[3] = h[5] * h[6] - h[3] * h[8], out[4] = h[0] * h[8] - h[2] * h[6], out[5] = h[2] * h[3] - h[0] * h[5];
  out[6] = h[3] * h[7] - h[4] * h[6], out[7] = h[1] * h[6] - h[0] * h[7], out[8] = h[0] * h[4] - h[1] * h[3];
  const double scale = out[8];
  if (!std::isfinite(scale) || scale == 0) return false;
  for (int i = 0; i < 9; ++i) out[i] /= scale;
  return true;
}

inline void cubic_weights(float t, float* w) {
  const float u = 1 - t, tu = (t * u) * -0.75f;
  w[0] = tu * u;
  w[3] = tu * t;
  w[1] = (1.25f * t - 2.25f) * (t * t) + 1;
  w[2] = ((1 - w[0]) - w[1]) - w[3];
}

/// Bicubic, edges replicated; the position is near the picture.
template <class Sample>
float sample(const Image<const Sample>& image, float x, float y) {
  x = std::clamp(x, -1.0f, static_cast<float>(image.width));
  y = std::clamp(y, -1.0f, static_cast<float>(image.height));
  const int left = static_cast<int>(x + 2) - 3, top = static_cast<int>(y + 2) - 3;  // of four by four
  float across[4], down[4], sums[4] = {};
  cubic_weights(x - static_cast<float>(left + 1), across);
  cubic_weights(y - static_cast<float>(top + 1), down);
  if (left >= 0 && top >= 0 && left + 3 < image.width && top + 3 < image.height) {
    const Sample* row = image.data + top * image.stride + left;
    for (int r = 0; r < 4; ++r, row += image.stride) {
      for (int c = 0; c < 4; ++c) sums[c] += down[r] * static_cast<float>(row[c]);
    }
  } else {
    for (int r = 0; r < 4; ++r) {
      const Sample* row = image.data + std::clamp(top + r, 0, image.height - 1) * image.stride;
      for (int c = 0; c < 4; ++c)
        sums[c] += down[r] * static_cast<float>(row[std::clamp(left + c, 0, image.width - 1)]);
    }
  }
  return (across[0] * sums[0] + across[1] * sums[1]) + (across[2] * sums[2] + across[3] * sums[3]);
}

/// Bilinear, edges replicated: for chroma, and for what is averaged afterwards.
template <class Sample>
float sample_linear(const Image<const Sample>& image, float x, float y) {
  x = std::clamp(x, 0.0f, static_cast<float>(image.width - 1));
  y = std::clamp(y, 0.0f, static_cast<float>(image.height - 1));
  const int left = static_cast<int>(x), top = static_cast<int>(y);
  const float fx = x - static_cast<float>(left), fy = y - static_cast<float>(top);
  const Sample* row = image.data + top * image.stride + left;
  const std::ptrdiff_t right = left + 1 < image.width ? 1 : 0, below = top + 1 < image.height ? image.stride : 0;
  const auto at = [row](std::ptrdiff_t offset) { return static_cast<float>(row[offset]); };
  const float a = at(0) + fx * (at(right) - at(0)), b = at(below) + fx * (at(below + right) - at(below));
  return a + fy * (b - a);
}

}  // namespace legato::video
