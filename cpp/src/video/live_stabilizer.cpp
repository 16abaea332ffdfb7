// The pictures of live video: kept, and drawn when their time has come (live.hpp: LiveStabilizer). Whatever their
// format, they wait and are drawn as planes.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>

#include "core/core.h"
#include "legato/live.hpp"

namespace legato::video {
namespace {

constexpr int kMostSamplePlanes = 4;

/// The planes a picture is kept in: one or three of YUV, or four of colors.
struct Layout {
  int planes = 0, sx = 1, sy = 1, bytes = 1;  // subsampling of chroma, bytes of a sample
  int width = 0, height = 0;

  bool chroma(int plane) const { return planes == 3 && plane > 0; }
  int across(int plane) const { return chroma(plane) ? (width + sx - 1) / sx : width; }
  int down(int plane) const { return chroma(plane) ? (height + sy - 1) / sy : height; }
  Size size(int plane) const {
    const Size samples = Size{static_cast<std::size_t>(across(plane))} * static_cast<std::size_t>(down(plane));
    return samples * static_cast<std::size_t>(bytes);
  }
};

bool planar(PixelFormat format) { return format <= PixelFormat::yuv444; }
bool colored(PixelFormat format) { return format >= PixelFormat::rgba; }

Layout layout_of(const LiveStabilizerOptions& o) {
  Layout l;
  l.width = o.plan.width;
  l.height = o.plan.height;
  l.planes = o.format == PixelFormat::gray ? 1 : colored(o.format) ? 4 : 3;
  l.sx = l.planes == 3 && o.format != PixelFormat::yuv444 ? 2 : 1;
  l.sy = o.format == PixelFormat::yuv420 || o.format == PixelFormat::nv12 || o.format == PixelFormat::nv21 ? 2 : 1;
  l.bytes = o.bit_depth > 8 ? 2 : 1;
  return l;
}

bool usable(const LiveStabilizerOptions& o) {
  return o.format >= PixelFormat::gray && o.format <= PixelFormat::bgra && o.chroma >= ChromaLocation::left &&
         o.chroma <= ChromaLocation::topleft && o.interpolation >= Interpolation::bilinear &&
         o.interpolation <= Interpolation::lanczos && o.threads >= 1 && o.bit_depth >= 8 &&
         o.bit_depth <= (planar(o.format) ? 16 : 8) && o.plan.width <= kLongestSide && o.plan.height <= kLongestSide;
}

/// Where the samples of one of our planes stand in a picture of the caller's: which of its planes, the first byte, and
/// the bytes from sample to sample.
struct Place {
  int plane, offset, step;
};

Place place_of(PixelFormat format, int plane, int bytes) {
  switch (format) {
    case PixelFormat::nv12:
      return plane == 0 ? Place{0, 0, 1} : Place{1, plane - 1, 2};
    case PixelFormat::nv21:
      return plane == 0 ? Place{0, 0, 1} : Place{1, 2 - plane, 2};
    case PixelFormat::yuyv:
      return plane == 0 ? Place{0, 0, 2} : Place{0, 2 * plane - 1, 4};
    case PixelFormat::rgba:
    case PixelFormat::bgra:
      return {0, plane, 4};
    default:
      return {plane, 0, bytes};
  }
}

/// Whether a picture has the planes of its format, in rows that hold them.
template <class Byte>
bool holds(const Picture<Byte>& picture, const Layout& layout, PixelFormat format) {
  for (int plane = 0; plane < layout.planes; ++plane) {
    const Place at = place_of(format, plane, layout.bytes);
    const auto row = static_cast<std::ptrdiff_t>(at.offset) + at.step * (layout.across(plane) - 1) + layout.bytes;
    const auto address = reinterpret_cast<std::uintptr_t>(picture.planes[at.plane]);
    if (address == 0 || address % static_cast<std::uintptr_t>(layout.bytes) != 0 ||
        picture.strides[at.plane] % layout.bytes != 0 || std::abs(picture.strides[at.plane]) < row) {
      return false;
    }
  }
  return true;
}

template <class Sample>
Image<Sample> image_at(std::byte* samples, int width, int height, std::ptrdiff_t stride) {
  return {reinterpret_cast<Sample*>(samples), width, height, stride / static_cast<std::ptrdiff_t>(sizeof(Sample))};
}

}  // namespace

class LiveStabilizer {
 public:
  LiveStabilizerOptions options;
  Layout layout;
  LivePlan* plan = nullptr;
  std::byte* kept[kMostSamplePlanes] = {};   // latency + 1 of each plane
  std::byte* drawn[kMostSamplePlanes] = {};  // of formats that are not planar: a picture before its samples are mixed
  std::uint8_t* brightness = nullptr;        // where luma is not a plane of bytes
  std::size_t taken = 0;                     // in the clip

  bool lay_out(Arena& arena, std::span<const std::uint8_t> mask) {
    const auto plan_memory = arena.take_workspace(live_plan_memory_size(options.plan));
    for (int p = 0; p < layout.planes; ++p) {
      kept[p] = arena.take<std::byte>(layout.size(p) * (Size{options.plan.latency} + 1));
      if (!planar(options.format)) drawn[p] = arena.take<std::byte>(layout.size(p));
    }
    if (layout.bytes > 1 || colored(options.format)) {
      brightness = arena.take<std::uint8_t>(Size{static_cast<std::size_t>(layout.width)} *
                                            static_cast<std::size_t>(layout.height));
    }
    if (arena.overflowed() || plan_memory.empty()) return false;
    plan = create_live_plan(options.plan, mask, plan_memory);
    return plan != nullptr;
  }

  std::byte* slot(std::size_t frame, int plane) const {
    return kept[plane] + layout.size(plane).value() * (frame % (options.plan.latency + 1));
  }

  void keep(const Picture<const std::byte>& picture) {
    for (int p = 0; p < layout.planes; ++p) {
      const Place at = place_of(options.format, p, layout.bytes);
      const int across = layout.across(p);
      const auto row = static_cast<std::size_t>(across * layout.bytes);
      for (int y = 0; y < layout.down(p); ++y) {
        const std::byte* from = picture.planes[at.plane] + y * picture.strides[at.plane] + at.offset;
        std::byte* to = slot(taken, p) + row * static_cast<std::size_t>(y);
        if (at.step == layout.bytes) {
          std::memcpy(to, from, row);
        } else {
          for (int x = 0; x < across; ++x) to[x] = from[x * at.step];
        }
      }
    }
  }

  /// Luma of eight bits of the picture that was kept last.
  Image<const std::uint8_t> luma() const {
    const auto samples = static_cast<std::size_t>(layout.width) * static_cast<std::size_t>(layout.height);
    const auto* first = reinterpret_cast<const std::uint8_t*>(slot(taken, 0));
    Image<const std::uint8_t> image{first, layout.width, layout.height, layout.width};
    if (brightness == nullptr) return image;
    image.data = brightness;
    if (layout.bytes > 1) {  // samples above the depth are against the rules, but must not wrap around to dark
      const auto* deep = reinterpret_cast<const std::uint16_t*>(first);
      const int shift = options.bit_depth - 8;
      for (std::size_t i = 0; i < samples; ++i) {
        brightness[i] = static_cast<std::uint8_t>(std::min(deep[i] >> shift, 255));
      }
      return image;
    }
    const bool blue_first = options.format == PixelFormat::bgra;
    const auto* green = reinterpret_cast<const std::uint8_t*>(slot(taken, 1));
    const auto* last = reinterpret_cast<const std::uint8_t*>(slot(taken, 2));
    const auto *red = blue_first ? last : first, *blue = blue_first ? first : last;
    for (std::size_t i = 0; i < samples; ++i) {  // BT.601 with 14 bits
      brightness[i] = static_cast<std::uint8_t>((1868 * blue[i] + 9617 * green[i] + 4899 * red[i] + 8192) >> 14);
    }
    return image;
  }

  /// Planes `from` to `end`, which have one size, through one map.
  template <class Sample>
  Status draw_planes(const double* map, std::size_t frame, int from, int end, const Picture<std::byte>& steady) {
    Image<const Sample> sources[kMostPlanes];
    Image<Sample> targets[kMostPlanes];
    const auto count = static_cast<std::size_t>(end - from);
    const int across = layout.across(from), down = layout.down(from);
    const std::ptrdiff_t packed = std::ptrdiff_t{across} * layout.bytes;
    for (std::size_t i = 0; i < count; ++i) {
      const int p = from + static_cast<int>(i);
      sources[i] = image_at<const Sample>(slot(frame, p), across, down, packed);
      const bool straight = planar(options.format) && p < 3;
      targets[i] = straight ? image_at<Sample>(steady.planes[p], across, down, steady.strides[p])
                            : image_at<Sample>(drawn[p], across, down, packed);
      if (!std::equal(map, map + 9, kIdentity)) continue;
      for (int y = 0; y < down; ++y) {  // no rounding of any kind, whatever the interpolation
        std::memcpy(targets[i].data + y * targets[i].stride, sources[i].data + y * sources[i].stride,
                    static_cast<std::size_t>(packed));
      }
    }
    if (std::equal(map, map + 9, kIdentity)) return Status::ok;
    const std::span<const double> matrix(map, 9);
    const std::span<const Image<const Sample>> read(sources, count);
    const std::span<const Image<Sample>> written(targets, count);
    if constexpr (sizeof(Sample) == 1) {
      return warp(matrix, read, written, options.interpolation, options.threads);
    } else {
      return warp(matrix, read, written, options.bit_depth, options.interpolation, options.threads);
    }
  }

  template <class Sample>
  Status draw(const double* map, std::size_t frame, const Picture<std::byte>& steady) {
    if (layout.planes != 3) {
      const Status status = draw_planes<Sample>(map, frame, 0, std::min(layout.planes, 3), steady);
      return layout.planes < 4 || status != Status::ok ? status : draw_planes<Sample>(map, frame, 3, 4, steady);
    }
    const Status status = draw_planes<Sample>(map, frame, 0, 1, steady);
    if (status != Status::ok) return status;
    if (std::equal(map, map + 9, kIdentity)) return draw_planes<Sample>(map, frame, 1, 3, steady);
    double chroma[9];
    const double ox = options.chroma == ChromaLocation::center ? 0.5 * (layout.sx - 1) : 0.0;
    const double oy = options.chroma == ChromaLocation::topleft ? 0.0 : 0.5 * (layout.sy - 1);
    chroma_map(std::span<const double, 9>(map, 9), layout.sx, layout.sy, ox, oy, chroma);
    return draw_planes<Sample>(chroma, frame, 1, 3, steady);
  }

  Status show(const LiveCorrection& correction, const Picture<std::byte>& steady) {
    // The scale of a homography has no meaning, but the identity is known by its entries.
    double map[9], largest = 0;
    for (const double x : correction.homography) largest = std::max(largest, std::abs(x));
    for (int i = 0; i < 9; ++i) map[i] = correction.homography[i] / largest;
    const double last = std::abs(map[8]) > 1e-9 ? map[8] : 1.0;
    for (double& x : map) x /= last;
    const Status status = layout.bytes == 1 ? draw<std::uint8_t>(map, correction.frame, steady)
                                            : draw<std::uint16_t>(map, correction.frame, steady);
    if (status == Status::ok && !planar(options.format)) mix(steady);
    return status;
  }

  void mix(const Picture<std::byte>& steady) const {
    for (int p = 0; p < layout.planes; ++p) {
      const Place at = place_of(options.format, p, 1);
      const int across = layout.across(p);
      for (int y = 0; y < layout.down(p); ++y) {
        const std::byte* from = drawn[p] + std::ptrdiff_t{y} * across;
        std::byte* to = steady.planes[at.plane] + y * steady.strides[at.plane] + at.offset;
        for (int x = 0; x < across; ++x) to[x * at.step] = from[x];
      }
    }
  }
};

std::size_t live_stabilizer_memory_size(const LiveStabilizerOptions& options) noexcept {
  if (!usable(options) || live_plan_memory_size(options.plan) == 0) return 0;
  Arena counter;
  LiveStabilizer counted;
  counted.options = options;
  counted.layout = layout_of(options);
  counter.take<LiveStabilizer>(1);
  counted.lay_out(counter, {});
  return counter.size();
}

LiveStabilizer* create_live_stabilizer(const LiveStabilizerOptions& options, std::span<const std::uint8_t> mask,
                                       std::span<std::byte> memory) noexcept {
  if (memory.data() == nullptr || !is_enough(memory, live_stabilizer_memory_size(options))) return nullptr;
  Arena arena(memory);
  LiveStabilizer* stabilizer = ::new (arena.take<LiveStabilizer>(1)) LiveStabilizer;
  stabilizer->options = options;
  stabilizer->layout = layout_of(options);
  return stabilizer->lay_out(arena, mask) ? stabilizer : nullptr;
}

Status push(LiveStabilizer& stabilizer, const Picture<const std::byte>& picture, bool cut,
            const Picture<std::byte>& steady, LiveCorrection& correction) noexcept {
  correction = LiveCorrection{};
  const Layout& layout = stabilizer.layout;
  const PixelFormat format = stabilizer.options.format;
  if (!holds(picture, layout, format) || !holds(steady, layout, format)) return Status::invalid_argument;
  stabilizer.keep(picture);
  const Status status = push(*stabilizer.plan, stabilizer.luma(), cut, correction);
  if (status == Status::invalid_argument) return status;
  ++stabilizer.taken;
  const Status drawn = correction.due ? stabilizer.show(correction, steady) : Status::ok;
  return status != Status::ok ? status : drawn;
}

Status flush(LiveStabilizer& stabilizer, const Picture<std::byte>& steady, LiveCorrection& correction) noexcept {
  correction = LiveCorrection{};
  if (!holds(steady, stabilizer.layout, stabilizer.options.format)) return Status::invalid_argument;
  const Status status = flush(*stabilizer.plan, correction);
  if (!correction.due) {
    stabilizer.taken = 0;
    return status;
  }
  const Status drawn = stabilizer.show(correction, steady);
  return status != Status::ok ? status : drawn;
}

Status change(LiveStabilizer& stabilizer, const LiveSettings& settings) noexcept {
  return change(*stabilizer.plan, settings);
}

const LiveCounts& counts(const LiveStabilizer& stabilizer) noexcept { return counts(*stabilizer.plan); }

FrameSize frame_size(const LiveStabilizer& stabilizer) noexcept {
  return {stabilizer.layout.width, stabilizer.layout.height};
}

}  // namespace legato::video
