// Live video: pictures in, steady pictures out, one for one, a fixed number of frames later. Memory is the caller's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "legato/camera.hpp"
#include "legato/video.hpp"

LEGATO_SURFACE_BEGIN

namespace legato::video {

/// Named settings, those of legato.video.PRESETS.
enum class Preset : int { gentle, standard, smooth, steady, full, tripod, follow };

/// What a preset plans live video by, at 30 frames a second, for frames `width` pixels wide.
camera::PathOptions live_options(Preset preset, int width) noexcept;

/// What may be changed while a live video runs. The view goes over from one to the other in a second and a half.
struct LiveSettings {
  camera::PathOptions path;  ///< for 30 frames a second; the weights are adapted to `fps`
  double fps = 30;
  double strength = 1;  ///< share of the correction that is applied, 0 to 1
  bool guard = true;    ///< leave pictures as they are while they would not become steadier
};

struct LivePlanOptions {
  int width = 0, height = 0;
  std::size_t latency = 10;  ///< pictures that follow a picture before it comes out, from 0 up
  int predicted = 15;        ///< as in camera::LiveOptions
  TrackerOptions tracker;
  LiveSettings settings;
};

/// How the picture whose time has come is drawn.
struct LiveCorrection {
  bool due = false;                                    ///< whether there is one; all below is of it
  std::size_t frame = 0;                               ///< its number in the clip
  double homography[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};  ///< output pixel to input pixel
  double rest = 0;                                     ///< share of the picture that the guard leaves as it is
};

struct LiveCounts {
  std::size_t frames = 0;      ///< taken
  std::size_t failed = 0;      ///< whose motion could not be measured; it is bridged
  std::size_t duplicates = 0;  ///< that repeat the one before
  std::size_t cuts = 0;        ///< that begin another scene; nothing is smoothed across
  std::size_t rested = 0;      ///< that came out by half or more as they are
};

/// From luma to corrections, for a caller that draws by itself: the tracker, a test for cuts, the live path, the crop
/// and the guard. Lives in the caller's memory; no call allocates. Needs no destruction.
class LivePlan;
/// Bytes; 0 for options that make no sense or that no memory holds.
std::size_t live_plan_memory_size(const LivePlanOptions& options) noexcept;
/// mask: as of create_tracker. Null when the memory is too small or an argument makes no sense.
LivePlan* create_live_plan(const LivePlanOptions& options, std::span<const std::uint8_t> mask,
                           std::span<std::byte> memory) noexcept;
/// Takes a picture's luma, of eight bits; what is due is the picture `latency` before. cut: the caller knows that a
/// scene begins here; else cuts are recognized. invalid_argument for a wrong image, and from the first flush() to the
/// one that has nothing left; the picture then counts as not taken.
Status push(LivePlan& plan, const Image<const std::uint8_t>& luma, bool cut, LiveCorrection& correction) noexcept;
/// Ends the clip: each call gives the next picture that is still held, and the one that finds none starts another clip.
Status flush(LivePlan& plan, LiveCorrection& correction) noexcept;
/// invalid_argument for settings that make no sense; the old ones then stay.
Status change(LivePlan& plan, const LiveSettings& settings) noexcept;
const LiveCounts& counts(const LivePlan& plan) noexcept;

// --- With pictures --------------------------------------------------------------------------------------------------

enum class PixelFormat : int {
  gray,
  yuv420,  ///< planar, as yuv422 and yuv444 are: Y, U, V
  yuv422,
  yuv444,
  nv12,  ///< Y, then U and V in turn
  nv21,  ///< Y, then V and U in turn
  yuyv,  ///< Y U Y V
  rgba,
  bgra,
};

/// Where a chroma sample sits among the luma samples it covers (ITU-T H.273, figure 7).
enum class ChromaLocation : int { left, center, topleft };

struct LiveStabilizerOptions {
  LivePlanOptions plan;
  PixelFormat format = PixelFormat::yuv420;
  int bit_depth = 8;  ///< 9 to 16 of gray and planar YUV alone: 16-bit samples with so many significant low bits
  ChromaLocation chroma = ChromaLocation::left;
  Interpolation interpolation = Interpolation::bicubic;
  int threads = 1;  ///< of the warp; above 1 each picture starts threads
};

/// A picture in the caller's memory: the planes its format has, the bytes from row to row. Chroma sides are rounded up.
template <class Byte>
struct Picture {
  Byte* planes[3] = {};
  std::ptrdiff_t strides[3] = {};
};

/// A LivePlan together with the pictures that wait: `latency` + 1 of them, in the caller's memory.
class LiveStabilizer;
std::size_t live_stabilizer_memory_size(const LiveStabilizerOptions& options) noexcept;
LiveStabilizer* create_live_stabilizer(const LiveStabilizerOptions& options, std::span<const std::uint8_t> mask,
                                       std::span<std::byte> memory) noexcept;
/// Takes a picture, which is copied, and draws the one that is due, if any, into `steady`; that may be the same memory.
Status push(LiveStabilizer& stabilizer, const Picture<const std::byte>& picture, bool cut,
            const Picture<std::byte>& steady, LiveCorrection& correction) noexcept;
/// As of LivePlan: each call draws one.
Status flush(LiveStabilizer& stabilizer, const Picture<std::byte>& steady, LiveCorrection& correction) noexcept;
Status change(LiveStabilizer& stabilizer, const LiveSettings& settings) noexcept;
const LiveCounts& counts(const LiveStabilizer& stabilizer) noexcept;
FrameSize frame_size(const LiveStabilizer& stabilizer) noexcept;

}  // namespace legato::video

LEGATO_SURFACE_END
