#include "legato_live.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "legato/live.hpp"
#include "options.h"

namespace {

using legato::Status;
namespace video = legato::video;
using Options = legato_video_live_options;
using Settings = legato_video_live_settings;

legato_status c_status(Status status) { return static_cast<legato_status>(static_cast<int>(status)); }

Settings settings_defaults() {
  const video::LiveSettings s;
  Settings c = {};
  c.preset = LEGATO_VIDEO_STANDARD;
  c.fps = s.fps;
  c.strength = s.strength;
  c.guard = s.guard;
  return c;
}

Options options_defaults() {
  const video::LiveStabilizerOptions o;
  Options c = {};
  c.latency = o.plan.latency;
  c.predicted = o.plan.predicted;
  c.format = static_cast<legato_video_format>(static_cast<int>(o.format));
  c.bit_depth = o.bit_depth;
  c.chroma = static_cast<legato_video_chroma>(static_cast<int>(o.chroma));
  c.interpolation = static_cast<legato_video_interpolation>(static_cast<int>(o.interpolation));
  c.threads = o.threads;
  return c;
}

video::LiveSettings settings_of(const Settings& c, int width) {
  video::LiveSettings s;
  s.path = video::live_options(static_cast<video::Preset>(static_cast<int>(c.preset)), width);
  if (c.crop != 0) {
    s.path.crop = c.crop;
    s.path.window_scale = 0;
  }
  s.fps = c.fps;
  s.strength = c.strength;
  s.guard = c.guard != 0;
  return s;
}

video::LiveStabilizerOptions options_of(const Options& c, const Settings& settings) {
  video::LiveStabilizerOptions o;
  o.plan.width = c.width;
  o.plan.height = c.height;
  o.plan.latency = c.latency;
  o.plan.predicted = c.predicted;
  o.plan.settings = settings_of(settings, c.width);
  o.format = static_cast<video::PixelFormat>(static_cast<int>(c.format));
  o.bit_depth = c.bit_depth;
  o.chroma = static_cast<video::ChromaLocation>(static_cast<int>(c.chroma));
  o.interpolation = static_cast<video::Interpolation>(static_cast<int>(c.interpolation));
  o.threads = c.threads;
  return o;
}

/// Why these settings make no sense; empty where they do.
const char* wrong_in(const Settings& s) {
  if (s.preset < LEGATO_VIDEO_GENTLE || s.preset > LEGATO_VIDEO_FOLLOW) return "preset: expected one of its names";
  if (!(s.crop >= 0 && s.crop < 1)) return "crop: expected a number from 0, the preset's, to below 1";
  if (!(s.fps >= 1e-3 && s.fps <= 1e6)) return "fps: expected a number from 0.001 to 1000000";
  if (!(s.strength >= 0 && s.strength <= 1)) return "strength: expected a number from 0 to 1";
  return "";
}

/// The same of both structs, which are read into `options` and `settings`.
const char* wrong_in(const Options* given, const Settings* wanted, Options& options, Settings& settings) {
  const auto known = legato::c::read(given, options_defaults());
  const auto known_settings = legato::c::read(wanted, settings_defaults());
  if (!known) return "options: expected what legato_video_live_options_default() gives";
  if (!known_settings) return "settings: expected what legato_video_live_settings_default() gives";
  options = *known;
  settings = *known_settings;
  const Options& o = options;
  if (std::min(o.width, o.height) < 1 || std::max(o.width, o.height) > video::kLongestSide) {
    return "width, height: expected 1 to 32766 pixels";
  }
  if (o.latency >= std::size_t{1} << 24) return "latency: expected below 16777216 frames";
  if (o.predicted < 0 || o.predicted > 1000) return "predicted: expected 0 to 1000";
  if (o.format < LEGATO_VIDEO_GRAY || o.format > LEGATO_VIDEO_BGRA) return "format: expected one of its names";
  if (o.bit_depth < 8 || o.bit_depth > (o.format <= LEGATO_VIDEO_YUV444 ? 16 : 8)) {
    return "bit_depth: expected 8, or up to 16 of gray and planar YUV";
  }
  if (o.chroma < LEGATO_VIDEO_CHROMA_LEFT || o.chroma > LEGATO_VIDEO_CHROMA_TOPLEFT) {
    return "chroma: expected one of its names";
  }
  if (o.interpolation < LEGATO_VIDEO_BILINEAR || o.interpolation > LEGATO_VIDEO_LANCZOS) {
    return "interpolation: expected one of its names";
  }
  if (o.threads < 1) return "threads: expected at least 1";
  const char* wrong = wrong_in(settings);
  if (*wrong != '\0') return wrong;
  if (video::live_stabilizer_memory_size(options_of(options, settings)) > 0) return "";
  return settings.crop != 0 ? "crop: expected room beside the half pixel at each edge, and memory for so many pictures"
                            : "options: no memory has room for so many pictures";
}

video::LiveStabilizer* stabilizer_of(legato_video_live* live) { return reinterpret_cast<video::LiveStabilizer*>(live); }

template <class Byte>
video::Picture<Byte> picture_of(const legato_video_picture& c) {
  video::Picture<Byte> picture;
  for (int i = 0; i < 3; ++i) {
    picture.planes[i] = static_cast<Byte*>(c.planes[i]);
    picture.strides[i] = c.strides[i];
  }
  return picture;
}

legato_status hand_out(Status status, const video::LiveCorrection& found, legato_video_live_result* result) {
  if (result == nullptr) return c_status(status);
  result->due = found.due;
  result->frame = found.frame;
  std::copy_n(found.homography, 9, result->homography);
  result->rest = found.rest;
  return c_status(status);
}

}  // namespace

extern "C" {

void legato_video_live_settings_init(legato_video_live_settings* settings, size_t size) {
  legato::c::write(settings_defaults(), settings, size);
}

void legato_video_live_options_init(legato_video_live_options* options, size_t size) {
  legato::c::write(options_defaults(), options, size);
}

size_t legato_video_live_memory(const legato_video_live_options* options, const legato_video_live_settings* settings) {
  Options o;
  Settings s;
  return *wrong_in(options, settings, o, s) == '\0' ? video::live_stabilizer_memory_size(options_of(o, s)) : 0;
}

const char* legato_video_live_reason(const legato_video_live_options* options,
                                     const legato_video_live_settings* settings) {
  Options o;
  Settings s;
  return wrong_in(options, settings, o, s);
}

legato_video_live* legato_video_live_create(const legato_video_live_options* options,
                                            const legato_video_live_settings* settings, const uint8_t* mask,
                                            void* memory, size_t memory_size) {
  Options o;
  Settings s;
  if (*wrong_in(options, settings, o, s) != '\0' || memory == nullptr) return nullptr;
  const std::size_t pixels = static_cast<std::size_t>(o.width) * static_cast<std::size_t>(o.height);
  return reinterpret_cast<legato_video_live*>(video::create_live_stabilizer(
      options_of(o, s), {mask, mask != nullptr ? pixels : 0}, {static_cast<std::byte*>(memory), memory_size}));
}

legato_status legato_video_live_push(legato_video_live* live, const legato_video_picture* picture, int cut,
                                     const legato_video_picture* steady, legato_video_live_result* result) {
  if (live == nullptr || picture == nullptr || steady == nullptr) return LEGATO_INVALID_ARGUMENT;
  video::LiveCorrection found;
  const Status status = video::push(*stabilizer_of(live), picture_of<const std::byte>(*picture), cut != 0,
                                    picture_of<std::byte>(*steady), found);
  return hand_out(status, found, result);
}

legato_status legato_video_live_flush(legato_video_live* live, const legato_video_picture* steady,
                                      legato_video_live_result* result) {
  if (live == nullptr || steady == nullptr || result == nullptr) return LEGATO_INVALID_ARGUMENT;
  video::LiveCorrection found;
  const Status status = video::flush(*stabilizer_of(live), picture_of<std::byte>(*steady), found);
  return hand_out(status, found, result);
}

legato_status legato_video_live_change(legato_video_live* live, const legato_video_live_settings* settings) {
  const auto known = legato::c::read(settings, settings_defaults());
  if (live == nullptr || !known || *wrong_in(*known) != '\0') return LEGATO_INVALID_ARGUMENT;
  video::LiveStabilizer& stabilizer = *stabilizer_of(live);
  return c_status(video::change(stabilizer, settings_of(*known, video::frame_size(stabilizer).width)));
}

legato_video_live_counts legato_video_live_count(const legato_video_live* live) {
  if (live == nullptr) return {};
  const video::LiveCounts& found = video::counts(*reinterpret_cast<const video::LiveStabilizer*>(live));
  return {found.frames, found.failed, found.duplicates, found.cuts, found.rested};
}

}  // extern "C"
