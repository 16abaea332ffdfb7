#include "legato/video.hpp"

#include <cstddef>
#include <memory>
#include <vector>

#include "binding.h"

namespace legato::python {
namespace {

using namespace video;

/// A plane (h, w), or packed pixels (h, w, 3); the Python side has checked the inner strides.
template <class Sample, class Array>
Image<Sample> image_of(Array& array, Sample* data) {
  return {data, static_cast<int>(array.shape(1)), static_cast<int>(array.shape(0)),
          static_cast<std::ptrdiff_t>(array.strides(0)) / static_cast<std::ptrdiff_t>(sizeof(Sample))};
}

template <class Sample, class Call>
void warp_planes(const Array& map, const std::vector<py::array>& sources, std::vector<py::array>& targets, Call call) {
  std::vector<Image<const Sample>> from;
  std::vector<Image<Sample>> to;
  for (const auto& array : sources) from.push_back(image_of(array, static_cast<const Sample*>(array.data())));
  for (auto& array : targets) to.push_back(image_of(array, static_cast<Sample*>(array.mutable_data())));
  Status status;
  {
    const auto matrix = input(map);
    const py::gil_scoped_release release;
    status = call(matrix, std::span<const Image<const Sample>>(from), std::span<const Image<Sample>>(to));
  }
  check(status, "correction");
}

void warp_into(const Array& map, const std::vector<py::array>& sources, std::vector<py::array> targets, int bit_depth,
               int interpolation, int threads) {
  const auto kind = static_cast<Interpolation>(interpolation);
  if (bit_depth == 8) {
    warp_planes<std::uint8_t>(map, sources, targets,
                              [=](auto matrix, auto from, auto to) { return warp(matrix, from, to, kind, threads); });
  } else {
    warp_planes<std::uint16_t>(map, sources, targets, [=](auto matrix, auto from, auto to) {
      return warp(matrix, from, to, bit_depth, kind, threads);
    });
  }
}

void warp_packed_into(const Array& map, const py::array& source, py::array target, int interpolation, int threads) {
  const auto from = image_of(source, static_cast<const std::uint8_t*>(source.data()));
  const auto to = image_of(target, static_cast<std::uint8_t*>(target.mutable_data()));
  Status status;
  {
    const auto matrix = input(map);
    const py::gil_scoped_release release;
    const std::size_t size = warp_packed_workspace_size(from.width, from.height, to.width, to.height);
    const auto memory = std::make_unique_for_overwrite<std::byte[]>(size);
    status = warp_packed(matrix, from, to, static_cast<Interpolation>(interpolation), {memory.get(), size}, threads);
  }
  check(status, "correction");
}

}  // namespace

void bind_video(py::module_& module) {
  using py::arg;
  module.def("video_warp", &warp_into, arg("map").noconvert(), arg("sources"), arg("targets"), arg("bit_depth"),
             arg("interpolation"), arg("threads"), "Up to three planes of one size through one homography.");
  module.def("video_warp_packed", &warp_packed_into, arg("map").noconvert(), arg("source"), arg("target"),
             arg("interpolation"), arg("threads"), "Packed pixels of three bytes through a homography.");
}

}  // namespace legato::python
