// Video kernels: planar warp, robust motion fit, tracker. Spans and images in and out; memory is the caller's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "legato/core.hpp"

LEGATO_SURFACE_BEGIN

namespace legato::video {

enum class Interpolation : int {
  bilinear = 0,
  bicubic = 1,  ///< four taps, Keys 1981 with a = -0.75
  lanczos = 2,  ///< eight taps, a = 4, weights normalized
};

/// One plane of samples. `stride` is the distance between rows in samples; it may be negative.
template <class Sample>
struct Image {
  Sample* data = nullptr;
  int width = 0, height = 0;
  std::ptrdiff_t stride = 0;
};

constexpr int kLongestSide = 32766;
constexpr std::size_t kMostPlanes = 3;

/// Resamples up to three planes of one size through one homography: the output pixel (x, y) shows the source at
/// map (x, y, 1), bilinear, bicubic or Lanczos; positions outside take the value of the nearest edge.
///
/// map: [3][3] row-major, output pixel to source pixel, pixel centers at integers; its scale has no meaning.
/// sources, targets: the same number of planes, the sources of one size, the targets of one size, no memory shared.
/// bit_depth: 8 for bytes; 9 to 16 for 16-bit samples, which never exceed (1 << bit_depth) - 1 in the result.
///
/// Positions are quantized to 1/512 px, within 0.01 px of the exact map. The result has the same bits on every
/// instruction set and for every number of threads.
/// Returns invalid_argument for wrong sizes, not_finite for a map with NaN or infinity.
Status warp(std::span<const double> map, std::span<const Image<const std::uint8_t>> sources,
            std::span<const Image<std::uint8_t>> targets, Interpolation interpolation, int threads = 1) noexcept;
Status warp(std::span<const double> map, std::span<const Image<const std::uint16_t>> sources,
            std::span<const Image<std::uint16_t>> targets, int bit_depth, Interpolation interpolation,
            int threads = 1) noexcept;

/// The same for packed pixels of three bytes (BGR, RGB, YUV 4:4:4). Width is in pixels, stride in bytes.
/// Bytes of its workspace; 0 for sizes that make no sense.
std::size_t warp_packed_workspace_size(int source_width, int source_height, int target_width,
                                       int target_height) noexcept;
Status warp_packed(std::span<const double> map, const Image<const std::uint8_t>& source,
                   const Image<std::uint8_t>& target, Interpolation interpolation, std::span<std::byte> workspace,
                   int threads = 1) noexcept;

/// The map of a chroma plane: S^-1 map S, with S = [[sx, 0, ox], [0, sy, oy], [0, 0, 1]] from chroma samples to luma
/// pixels.
void chroma_map(std::span<const double, 9> map, int sx, int sy, double ox, double oy,
                std::span<double, 9> chroma) noexcept;

/// Kinds of motion, richest first, and the one that is none.
enum class Model : int { homography = 0, affine = 1, similarity = 2, translation = 3, identity = 4 };

struct FitOptions {
  Model model = Model::homography;
  double threshold_px = 0.5;    ///< of the truncated score that hypotheses are chosen by
  double least_sigma_px = 0.1;  ///< matches are never taken for more exact than this
  int hypotheses = 2000;        ///< at most; the search stops when a better one is unlikely
  std::uint32_t seed = 1;       ///< the same seed and matches give the same bits
};

struct FitResult {
  double matrix[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};  ///< pixels here to pixels there
  double residual_px = 0;                          ///< median distance of the inliers
  double corner_sd_px = 0;                         ///< predicted standard deviation of a frame corner
  /// Predicted covariance, px^2, of where the motion puts the frame's corners: x and y of the top left, the top right,
  /// the bottom left and the bottom right one; [8][8].
  double corner_covariance[64] = {};
  int inliers = 0, hypotheses = 0;
  bool found = false;  ///< false: too few matches, degenerate, or no motion a camera makes between frames
};

/// Robust fit of a motion to matches: hypotheses from the fewest points in closed form, a truncated squared error as
/// their score, then Geman-McClure reweighted least squares over the model's subgroup of SL(3).
/// here, there: [n][2] pixels of a picture of width x height; inlier: [n], set to 0 or 1.
/// At most a million; beyond, the workspace has no size (0).
std::size_t fit_workspace_size(std::size_t matches) noexcept;
Status fit_motion(std::span<const float> here, std::span<const float> there, int width, int height,
                  const FitOptions& options, std::span<std::byte> workspace, std::span<std::uint8_t> inlier,
                  FitResult& result) noexcept;

/// A rectangle of a frame, in pixels; a width or height of zero: the whole frame.
struct Region {
  int x = 0, y = 0, width = 0, height = 0;
};

struct TrackerOptions {
  Model model = Model::homography;
  int longest_work_side = 960;  ///< the frame is reduced by a whole factor until its longer side is at most this
  double round_trip_px = 0.5;   ///< how far from home a point may return, in pixels of the work image
  Region region = {};           ///< where the picture may be used, besides what a mask says
};

struct Motion {
  double homography[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};  ///< this frame to the one before it, pixels at full size
  double confidence = 0, residual_px = 0;
  double corner_covariance[64] = {};  ///< as in FitResult, at full size; zero for a repeated frame
  int inliers = 0, matches = 0;
  Model model = Model::identity;
  bool first = false, ok = false, duplicate = false;
};

constexpr std::size_t kMostMatches = 224;

/// A tracker lives in the caller's memory: two image pyramids and scratch. push() allocates nothing.
struct Tracker;
/// Null, or why tracker_memory_size and create_tracker refuse these: one English sentence, static storage.
const char* tracker_problem(int width, int height, const TrackerOptions& options) noexcept;
/// Bytes; 0 for sizes or options that create_tracker refuses.
std::size_t tracker_memory_size(int width, int height, const TrackerOptions& options) noexcept;
/// `mask`: empty, or [height][width] at full size, nonzero where the picture may be used. Null when the memory is too
/// small or an argument makes no sense. The tracker needs no destruction.
Tracker* create_tracker(int width, int height, const TrackerOptions& options, std::span<const std::uint8_t> mask,
                        std::span<std::byte> memory) noexcept;
struct FrameSize {
  int width, height;
};
FrameSize frame_size(const Tracker& tracker) noexcept;
/// Takes the next frame. `motion.first` is set for the first one. A frame whose motion cannot be found gives ok =
/// false; a run of repeated frames counts as its first.
Status push(Tracker& tracker, const Image<const std::uint8_t>& luma, Motion& motion) noexcept;
/// The same of samples with 9 to 16 bits. They are rounded to eight after the frame is reduced, and what exceeds the
/// bit depth counts as white.
Status push(Tracker& tracker, const Image<const std::uint16_t>& luma, int bit_depth, Motion& motion) noexcept;
/// Matches of the last push: [motion.matches][4], here x y, there x y, pixels at full size, inliers first.
std::span<const float> matches(const Tracker& tracker) noexcept;
/// The next frame counts as the first.
void reset(Tracker& tracker) noexcept;

/// The stages of a tracker, for a caller that has points of its own. All work on level 0 of a pyramid: pixels of the
/// frame reduced by `factor`.
struct Pyramid;
/// Bytes; 0 for sizes that create_pyramid refuses. `factor`: at most 250.
std::size_t pyramid_memory_size(int width, int height, int factor) noexcept;
Pyramid* create_pyramid(int width, int height, int factor, std::span<std::byte> memory) noexcept;
Status fill_pyramid(Pyramid& pyramid, const Image<const std::uint8_t>& luma) noexcept;
Status fill_pyramid(Pyramid& pyramid, const Image<const std::uint16_t>& luma, int bit_depth) noexcept;
/// Corners, best first, at most one to a cell of a grid; returns how many. points: [n][2].
std::size_t corners_workspace_size(const Pyramid& pyramid) noexcept;
std::size_t find_corners(const Pyramid& pyramid, std::span<std::byte> workspace, std::span<float> points) noexcept;
/// Pyramidal Lucas-Kanade of [n][2] points from one picture to the other, forward and backward; found: [n], 0 or 1.
/// `round_trip_px` of zero: forward alone.
Status follow(const Pyramid& from, const Pyramid& to, std::span<const float> points, double round_trip_px,
              std::span<float> moved, std::span<std::uint8_t> found) noexcept;

/// Where chroma sits on the luma grid: sample (i, j) at (sx i + ox, sy j + oy).
struct Siting {
  int sx = 1, sy = 1;
  double ox = 0, oy = 0;
};

/// A frame that lends its pixels to another one.
template <class Sample>
struct FillSource {
  Image<const Sample> planes[kMostPlanes];
  const Pyramid* pyramid = nullptr;
  double map[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};  ///< the frame to be completed to this one, luma pixels
  int distance = 1;                             ///< frames between the two
};

struct FillOptions {
  double fade_frames = 3.5;  ///< a source's weight falls by e over so many frames
  double most_error = 40;    ///< predicted, gray levels of 256, from which a smooth membrane is drawn instead
};

struct FillResult {
  double outside = 0;   ///< share of the picture that shows what lies outside of the frame
  double membrane = 0;  ///< share of the picture that no source shows well enough
  double error = 0;     ///< predicted, gray levels of 256, mean over what was filled
  int sources = 0;      ///< that were looked at
};

/// Cells of the map of predicted errors for a picture of width x height: the first dimension across.
FrameSize fill_cells(int width, int height) noexcept;
/// Bytes; 0 for sizes that fill() refuses. `sources`: how many at most.
std::size_t fill_workspace_size(const Pyramid& pyramid, int width, int height, std::size_t sources) noexcept;
/// Completes a picture that warp() drew of a frame: what lies outside of the frame is taken from its neighbors, aligned
/// by their motion and by points followed near the seam, matched in color there, and blended by predicted error.
///
/// map: as of warp(). pyramid: of the frame; its size is the frame's. sources: nearest first; their pyramids have the
/// frame's size and factor. targets: luma, and both chroma planes or none, as warp() wrote them; the frame's own pixels
/// stay, but for a feather of some pixels along the seam.
/// errors: [cells down][cells across], predicted error in gray levels of 256 of what was filled in the cell; 0 where
/// nothing was, infinity where no source reaches.
/// The result has the same bits on every instruction set.
Status fill(std::span<const double> map, const Pyramid& pyramid, std::span<const FillSource<std::uint8_t>> sources,
            std::span<const Image<std::uint8_t>> targets, const Siting& siting, const FillOptions& options,
            std::span<std::byte> workspace, std::span<float> errors, FillResult& result) noexcept;
Status fill(std::span<const double> map, const Pyramid& pyramid, std::span<const FillSource<std::uint16_t>> sources,
            std::span<const Image<std::uint16_t>> targets, const Siting& siting, int bit_depth,
            const FillOptions& options, std::span<std::byte> workspace, std::span<float> errors,
            FillResult& result) noexcept;

}  // namespace legato::video

LEGATO_SURFACE_END
