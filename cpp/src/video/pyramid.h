// Pyramids of gray pictures, as the tracker sees them: laid out, searched for corners, compared, followed from one to
// the next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <utility>

#include "core/core.h"
#include "legato/video.hpp"
#include "video/track.h"

namespace legato::video {

struct Pyramid {
  int width, height, factor;  // of the frames, and what they are reduced by
  int levels;
  Level level[kMostLevels];
  std::uint32_t* sums;  // a row of the frame
};

constexpr int kReferenceWidth = 640;  // thresholds in pixels of the work image grow with it beyond this width
constexpr int kCellsAcross = 6, kCellsDown = 4;

/// Width and height of the work image.
std::pair<int, int> work_size(int width, int height, int factor);
bool is_frame_size(int width, int height);

template <class Sample>
bool shows(const Image<const Sample>& image, int width, int height) {
  return image.data != nullptr && image.width == width && image.height == height && std::abs(image.stride) >= width;
}

/// Laid out only where `build` says so; else, and without memory, null.
Pyramid* lay_out_pyramid(int width, int height, int factor, Arena& arena, bool build);

/// The level that corners are sought on: the work image, or its half where that is large. On clips of known motion
/// corners of the half of 640 x 360 cost a quarter of the accuracy.
int corner_level(int width, int height);

/// Bytes that corners_of() needs for a level of that size.
std::size_t corners_workspace_size(const Level& level);

/// The best corners, at most so many, spread over the picture, in pixels of the work image; `usable` is a mask of the
/// level, or null.
std::size_t corners_of(const Pyramid& p, const std::uint8_t* usable, std::span<std::byte> workspace, float* points,
                       std::size_t most);

/// Whether two pictures differ by less than a motion worth measuring would make. A shift by d pixels changes a picture
/// by about d times its mean slope; on a half-size copy the noise of sensor and codec is averaged down.
bool repeats(const Pyramid& previous, const Pyramid& current);

/// Correlation, 0 to 1, of two pictures of one size without their slow parts: within blocks, about the block's means.
/// Neither a change of exposure nor a vignette tells of motion.
double agreement(const std::uint8_t* a, std::ptrdiff_t a_stride, const Level& b);

/// The level pictures are compared on: quarter size where that leaves enough.
int agreement_level(const Pyramid& p);

/// Follows `count` points. `start`: where they are likely to be found, or null. `sd` takes the predicted standard
/// deviation of each point found, in pixels; null: points beyond kMostPointSd are not found.
void follow_points(const Pyramid& from, const Pyramid& to, const float* points, const float* start, std::size_t count,
                   float round_trip, float* moved, std::uint8_t* found, float* sd);

}  // namespace legato::video
