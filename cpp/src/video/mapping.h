// Positions under a homography.
#pragma once

#include <algorithm>
#include <cmath>

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

}  // namespace legato::video
