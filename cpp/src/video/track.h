// What the compiled copies of the tracker share.
#pragma once

#include <cstddef>
#include <cstdint>

namespace legato::video {

constexpr int kPadding = 32;  // replicated pixels around each level
constexpr int kMostLevels = 5;
// The way back begins at home, and so may do without the coarsest levels: it is home or lost within 28 px.
constexpr int kReturnLevels = 3;
// A point that begins near where it goes is found or lost within 14 px, and then home or lost within 7.
constexpr int kNearLevels = 2, kNearReturnLevels = 1;
constexpr int kWindow = 15, kReach = 7;
constexpr int kMostSteps = 10;
constexpr int kCompany = 4;             // points that are followed side by side
constexpr float kLeastStep = 0.01f;     // of a step, pixels of the level
constexpr double kLeastLikeness = 0.7;  // correlation of the windows of a point that was found
// px, of where its texture puts a point in what is left between its windows: what stands on noise has 0.12 to 0.15,
// whatever the noise.
constexpr double kMostPointSd = 0.105;
constexpr float kLeastSlope = 0.25f;  // mean squared slope in the weakest direction, levels per pixel

struct Level {
  std::uint8_t* data;  // pixel (0, 0) inside the padding
  int width, height;
  std::ptrdiff_t stride;
};

}  // namespace legato::video
