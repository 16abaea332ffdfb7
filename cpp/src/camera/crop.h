// The window that the crop leaves, and what keeps it inside the frame: shared by crop_rows(), contain() and paths.
#pragma once

#include <algorithm>
#include <cstddef>

#include "legato/camera.hpp"
#include "legato/math/homography.h"

namespace legato::camera {

using Matrix = math::Matrix3<double>;

inline Matrix read(const double* x) {
  Matrix m;
  std::copy_n(x, 9, m.at);
  return m;
}

struct Window {
  double corner[4][2];   // TL TR BR BL
  double half[2];        // allowed |x|, |y| of a corner
  double area, side[2];  // smallest area, width, height
};

Window window_of(double aspect, const PathOptions& options);

/// How far a corner of the window lies outside the frame (frame widths); 0 where none does.
double violation_of(const Window& w, const Matrix& transform);

/// Crop, area and side rows linearized at p, over the nine entries: G p' <= h.
void linear_rows(const Window& w, const double* p, double (&g)[kCropRows][9], double (&h)[kCropRows]);

/// Rows that keep exp(-p) point inside the window, linearized at p: left, right, top, bottom.
constexpr std::size_t kPointRows = 4;
void salient_rows(const Window& w, const double* point, const double* p, double (&g)[kPointRows][9],
                  double (&h)[kPointRows]);

/// What is wrong with the options, each for itself, or null; and whether they, and the aspect ratio, make sense so.
const char* problem(const PathOptions& o);
bool usable(const PathOptions& o);
bool usable(const PathOptions& o, double aspect);

}  // namespace legato::camera
