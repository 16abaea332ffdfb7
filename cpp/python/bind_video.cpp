#include "legato/live.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <tuple>
#include <vector>

#include "binding.h"

namespace legato::python {
namespace {

using namespace video;

using Floats = py::array_t<float, py::array::c_style>;
using Bytes = py::array_t<std::uint8_t, py::array::c_style>;

/// A plane (h, w), or with `packed` pixels (h, w, 3), in memory of its own width: samples of the type, one after
/// another in a row.
template <class Sample, class Array>
Image<Sample> image_of(Array& array, Sample* data, const char* what, bool packed = false) {
  constexpr py::ssize_t size = sizeof(Sample);
  require(array.itemsize() == size && array.ndim() == (packed ? 3 : 2), what);
  const py::ssize_t height = array.shape(0), width = array.shape(1), pixel = packed ? 3 * size : size;
  require(height <= kLongestSide && width <= kLongestSide && array.strides(0) % size == 0, what);
  require(width < 2 || array.strides(1) == pixel, what);
  if (packed) require(array.shape(2) == 3 && array.strides(2) == size, what);
  // The stride of a single row has no meaning, and NumPy writes what it likes.
  const py::ssize_t stride = height > 1 ? array.strides(0) / size : width * pixel / size;
  return {data, static_cast<int>(width), static_cast<int>(height), stride};
}

// Of chroma on the luma grid: steps sx and sy, offsets ox and oy.
using Steps = std::tuple<int, int, double, double>;

template <class Sample, class Call>
void warp_planes(const Array& map, const std::vector<py::array>& sources, std::vector<py::array>& targets,
                 const Steps& siting, Call call) {
  std::vector<Image<const Sample>> from;
  std::vector<Image<Sample>> to;
  for (const auto& array : sources) from.push_back(image_of(array, static_cast<const Sample*>(array.data()), "source"));
  for (auto& array : targets) to.push_back(image_of(array, static_cast<Sample*>(array.mutable_data()), "target"));
  Status status;
  {
    const auto matrix = input(map);
    const Unlocked unlocked;
    const std::span<const Image<const Sample>> planes(from);
    const std::span<const Image<Sample>> drawn(to);
    const auto [sx, sy, ox, oy] = siting;
    const bool subsampled = sx != 1 || sy != 1;
    if (!subsampled || planes.size() < 2 || planes.size() != drawn.size() || matrix.size() != 9) {
      status = call(matrix, planes, drawn);
    } else {
      double chroma[9];
      chroma_map(matrix.template first<9>(), sx, sy, ox, oy, chroma);
      status = call(matrix, planes.first(1), drawn.first(1));
      if (status == Status::ok) status = call(std::span<const double>(chroma), planes.subspan(1), drawn.subspan(1));
    }
  }
  check(status, "correction");
}

void warp_into(const Array& map, const std::vector<py::array>& sources, std::vector<py::array> targets, int bit_depth,
               const Steps& siting, int interpolation, int threads) {
  const auto kind = static_cast<Interpolation>(interpolation);
  if (bit_depth == 8) {
    warp_planes<std::uint8_t>(map, sources, targets, siting,
                              [=](auto matrix, auto from, auto to) { return warp(matrix, from, to, kind, threads); });
  } else {
    warp_planes<std::uint16_t>(map, sources, targets, siting, [=](auto matrix, auto from, auto to) {
      return warp(matrix, from, to, bit_depth, kind, threads);
    });
  }
}

void warp_packed_into(const Array& map, const py::array& source, py::array target, int interpolation, int threads) {
  const auto from = image_of(source, static_cast<const std::uint8_t*>(source.data()), "source", true);
  const auto to = image_of(target, static_cast<std::uint8_t*>(target.mutable_data()), "target", true);
  Status status;
  {
    const auto matrix = input(map);
    const Unlocked unlocked;
    const std::size_t size = warp_packed_workspace_size(from.width, from.height, to.width, to.height);
    const auto memory = std::make_unique_for_overwrite<std::byte[]>(size);
    status = warp_packed(matrix, from, to, static_cast<Interpolation>(interpolation), {memory.get(), size}, threads);
  }
  check(status, "correction");
}

/// A tracker with the memory it lives in, for one thread at a time.
class TrackerBox {
 public:
  TrackerBox(int width, int height, int model, const py::array& mask, int bit_depth, const std::array<int, 4>& region)
      : bit_depth_(bit_depth) {
    TrackerOptions options;
    options.model = static_cast<Model>(model);
    options.region = {region[0], region[1], region[2], region[3]};
    const auto hidden = stored<std::uint8_t>(mask, "mask");
    {
      const Unlocked unlocked;
      const std::size_t size = tracker_memory_size(width, height, options);
      memory_ = std::make_unique_for_overwrite<std::byte[]>(size);
      tracker_ = create_tracker(width, height, options, hidden, {memory_.get(), size});
    }
    check_signals();
    if (tracker_ == nullptr) check(Status::invalid_argument, "size");
  }

  py::tuple push(const py::array& luma, Array& homography, Array& corner_covariance) {
    require(homography.size() == 9 && corner_covariance.size() == 64, "homography or corner_covariance");
    Motion motion;
    Status status;
    if (bit_depth_ == 8) {
      const auto image = image_of(luma, static_cast<const std::uint8_t*>(luma.data()), "luma");
      const Unlocked unlocked;
      const Turn turn(turns_);
      status = video::push(*tracker_, image, motion);
    } else {
      const auto image = image_of(luma, static_cast<const std::uint16_t*>(luma.data()), "luma");
      const Unlocked unlocked;
      const Turn turn(turns_);
      status = video::push(*tracker_, image, bit_depth_, motion);
    }
    check(status, "luma");
    std::copy_n(motion.homography, 9, output(homography).data());
    std::copy_n(motion.corner_covariance, 64, output(corner_covariance).data());
    return py::make_tuple(motion.first, motion.ok, motion.duplicate, static_cast<int>(motion.model), motion.inliers,
                          motion.confidence, motion.residual_px);
  }

  py::array_t<float> matches() {
    std::vector<float> found;
    {
      const Unlocked unlocked;
      const Turn turn(turns_);
      const auto points = video::matches(*tracker_);
      found.assign(points.begin(), points.end());
    }
    return py::array_t<float>({static_cast<py::ssize_t>(found.size() / 4), py::ssize_t{4}}, found.data());
  }

  void reset() {
    const Unlocked unlocked;
    const Turn turn(turns_);
    video::reset(*tracker_);
  }

 private:
  Turns turns_;
  std::unique_ptr<std::byte[]> memory_;
  Tracker* tracker_ = nullptr;
  int bit_depth_;
};

/// A live plan with the memory it lives in, for one thread at a time. Signals do not interrupt it: a push takes
/// milliseconds, and one picture in is one picture out.
class LivePlanBox {
 public:
  LivePlanBox(int width, int height, const camera::PathOptions& path, double fps, std::size_t latency, double strength,
              bool guard, const py::array& mask) {
    LivePlanOptions options;
    options.width = width;
    options.height = height;
    options.latency = latency;
    options.settings = {path, fps, strength, guard};
    const auto hidden = stored<std::uint8_t>(mask, "mask");
    const std::size_t size = live_plan_memory_size(options);
    memory_ = std::make_unique_for_overwrite<std::byte[]>(size);
    plan_ = create_live_plan(options, hidden, {memory_.get(), size});
    require(plan_ != nullptr, "size, options, fps, latency, strength or mask");
  }

  Array push(const py::array& luma, bool cut) {
    const auto image = image_of(luma, static_cast<const std::uint8_t*>(luma.data()), "luma");
    std::vector<double> out;
    Status status;
    {
      const Unlocked unlocked(false);
      const Turn turn(turns_);
      LiveCorrection due;
      status = video::push(*plan_, image, cut, due);
      if (due.due) out.assign(due.homography, due.homography + 9);
    }
    return answer(status, out, "luma");
  }

  Array flush() {
    std::vector<double> out;
    Status status;
    {
      const Unlocked unlocked(false);
      const Turn turn(turns_);
      LiveCorrection due;
      do {
        status = video::flush(*plan_, due);
        if (due.due) out.insert(out.end(), due.homography, due.homography + 9);
      } while (due.due);
    }
    return answer(status, out, "motion");
  }

  void change(const camera::PathOptions& path, double fps, double strength, bool guard) {
    Status status;
    {
      const Unlocked unlocked(false);
      const Turn turn(turns_);
      status = video::change(*plan_, {path, fps, strength, guard});
    }
    check(status, "options, fps or strength");
  }

  py::tuple counts() {
    LiveCounts found;
    {
      const Unlocked unlocked(false);
      const Turn turn(turns_);
      found = video::counts(*plan_);
    }
    return py::make_tuple(found.frames, found.failed, found.duplicates, found.cuts, found.rested);
  }

 private:
  static Array answer(Status status, const std::vector<double>& out, const char* what) {
    check(status, what);
    return Array({static_cast<py::ssize_t>(out.size() / 9), py::ssize_t{3}, py::ssize_t{3}}, out.data());
  }

  Turns turns_;
  std::unique_ptr<std::byte[]> memory_;
  LivePlan* plan_ = nullptr;
};

/// A pyramid with the memory it lives in; nothing changes it once it is made.
class PyramidBox {
 public:
  PyramidBox(const py::array& luma, int factor) {
    const auto image = image_of(luma, static_cast<const std::uint8_t*>(luma.data()), "luma");
    Status status;
    {
      const Unlocked unlocked;
      const std::size_t size = pyramid_memory_size(image.width, image.height, factor);
      memory_ = std::make_unique_for_overwrite<std::byte[]>(size);
      pyramid_ = create_pyramid(image.width, image.height, factor, {memory_.get(), size});
      status = pyramid_ == nullptr ? Status::invalid_argument : fill_pyramid(*pyramid_, image);
    }
    check(status, "luma");
  }

  py::array_t<float> corners(std::size_t most) const {
    std::vector<float> points(2 * most);
    std::size_t count;
    {
      const Unlocked unlocked;
      const std::size_t size = corners_workspace_size(*pyramid_);
      const auto memory = std::make_unique_for_overwrite<std::byte[]>(size);
      count = find_corners(*pyramid_, {memory.get(), size}, points);
    }
    check_signals();
    return py::array_t<float>({static_cast<py::ssize_t>(count), py::ssize_t{2}}, points.data());
  }

  void follow(const PyramidBox& to, const Floats& points, double round_trip_px, Floats& moved, Bytes& found) const {
    const auto count = static_cast<std::size_t>(found.size());
    const std::span<const float> from{points.data(), static_cast<std::size_t>(points.size())};
    const std::span<float> out{moved.mutable_data(), static_cast<std::size_t>(moved.size())};
    const std::span<std::uint8_t> flags{found.mutable_data(), count};
    Status status;
    {
      const Unlocked unlocked;
      status = video::follow(*pyramid_, *to.pyramid_, from, round_trip_px, out, flags);
    }
    check(status, "points");
  }

  const Pyramid& pyramid() const { return *pyramid_; }

 private:
  std::unique_ptr<std::byte[]> memory_;
  Pyramid* pyramid_ = nullptr;
};

/// fill() with a workspace that stays from picture to picture, for one thread at a time.
class FillerBox {
 public:
  // Planes, pyramid, map and distance of a source.
  using Source = std::tuple<std::vector<py::array>, const PyramidBox*, Array, int>;

  py::tuple fill(const Array& map, const PyramidBox& pyramid, const std::vector<Source>& sources,
                 std::vector<py::array> targets, int bit_depth, const Steps& siting, double fade_frames,
                 double most_error, Floats& errors) {
    FillOptions options;
    options.fade_frames = fade_frames;
    options.most_error = most_error;
    const auto [sx, sy, ox, oy] = siting;
    const Siting chroma{sx, sy, ox, oy};
    const auto matrix = input(map);
    const std::span<float> cells{errors.mutable_data(), static_cast<std::size_t>(errors.size())};
    FillResult result;
    Status status;
    if (bit_depth == 8) {
      const auto from = sources_of<std::uint8_t>(sources);
      const auto to = targets_of<std::uint8_t>(targets);
      status = run(pyramid, to, sources.size(), [&](std::span<std::byte> memory) {
        return video::fill(matrix, pyramid.pyramid(), from, to, chroma, options, memory, cells, result);
      });
    } else {
      const auto from = sources_of<std::uint16_t>(sources);
      const auto to = targets_of<std::uint16_t>(targets);
      status = run(pyramid, to, sources.size(), [&](std::span<std::byte> memory) {
        return video::fill(matrix, pyramid.pyramid(), from, to, chroma, bit_depth, options, memory, cells, result);
      });
    }
    check(status, "correction");
    return py::make_tuple(result.outside, result.membrane, result.error, result.sources);
  }

 private:
  template <class Sample>
  static std::vector<FillSource<Sample>> sources_of(const std::vector<Source>& sources) {
    std::vector<FillSource<Sample>> made;
    for (const auto& [planes, pyramid, map, distance] : sources) {
      FillSource<Sample>& source = made.emplace_back();
      require(planes.size() <= kMostPlanes && map.size() == 9 && pyramid != nullptr, "sources");
      for (std::size_t p = 0; p < planes.size(); ++p) {
        source.planes[p] = image_of(planes[p], static_cast<const Sample*>(planes[p].data()), "source");
      }
      source.pyramid = &pyramid->pyramid();
      std::copy_n(map.data(), 9, source.map);
      source.distance = distance;
    }
    return made;
  }

  template <class Sample>
  static std::vector<Image<Sample>> targets_of(std::vector<py::array>& targets) {
    std::vector<Image<Sample>> made;
    require(!targets.empty(), "targets");
    for (auto& plane : targets) {
      made.push_back(image_of(plane, static_cast<Sample*>(plane.mutable_data()), "target"));
    }
    return made;
  }

  template <class Sample, class Call>
  Status run(const PyramidBox& pyramid, const std::vector<Image<Sample>>& targets, std::size_t sources, Call call) {
    const Unlocked unlocked;
    const Turn turn(turns_);
    const std::size_t size =
        fill_workspace_size(pyramid.pyramid(), targets[0].width, targets[0].height, std::max<std::size_t>(sources, 1));
    if (size > size_) {
      memory_.reset();
      memory_ = std::make_unique_for_overwrite<std::byte[]>(size);
      size_ = size;
    }
    return call(std::span<std::byte>{memory_.get(), size_});
  }

  Turns turns_;
  std::unique_ptr<std::byte[]> memory_;
  std::size_t size_ = 0;
};

py::tuple fit_into(const Floats& here, const Floats& there, int width, int height, int model, double threshold_px,
                   int hypotheses, std::uint32_t seed, Array& homography, Bytes& inlier, Array& corner_covariance) {
  require(homography.size() == 9 && corner_covariance.size() == 64, "homography or corner_covariance");
  FitOptions options;
  options.model = static_cast<Model>(model);
  options.threshold_px = threshold_px;
  options.hypotheses = hypotheses;
  options.seed = seed;
  FitResult result;
  Status status;
  {
    const std::span<const float> from{here.data(), static_cast<std::size_t>(here.size())};
    const std::span<const float> to{there.data(), static_cast<std::size_t>(there.size())};
    const std::span<std::uint8_t> flags{inlier.mutable_data(), static_cast<std::size_t>(inlier.size())};
    const Unlocked unlocked;
    const std::size_t size = fit_workspace_size(flags.size());
    const auto memory = std::make_unique_for_overwrite<std::byte[]>(size);
    status = fit_motion(from, to, width, height, options, {memory.get(), size}, flags, result);
  }
  check(status, "matches");
  std::copy_n(result.matrix, 9, output(homography).data());
  std::copy_n(result.corner_covariance, 64, output(corner_covariance).data());
  return py::make_tuple(result.found, result.inliers, result.hypotheses, result.residual_px, result.corner_sd_px);
}

}  // namespace

void bind_video(py::module_& module) {
  using py::arg;
  module.def("video_warp", &warp_into, arg("map").noconvert(), arg("sources"), arg("targets"), arg("bit_depth"),
             arg("siting"), arg("interpolation"), arg("threads"), "Luma and chroma through a homography of the luma.");
  module.def("video_warp_packed", &warp_packed_into, arg("map").noconvert(), arg("source"), arg("target"),
             arg("interpolation"), arg("threads"), "Packed pixels of three bytes through a homography.");
  module.def("video_fit_motion", &fit_into, arg("here").noconvert(), arg("there").noconvert(), arg("width"),
             arg("height"), arg("model"), arg("threshold_px"), arg("hypotheses"), arg("seed"),
             arg("homography").noconvert(), arg("inlier").noconvert(), arg("corner_covariance").noconvert(),
             "Robust fit of a motion to (n, 2) matches.");
  py::class_<TrackerBox>(module, "VideoTracker", "legato::video::Tracker in memory of its own.")
      .def(py::init<int, int, int, const py::array&, int, const std::array<int, 4>&>(), arg("width"), arg("height"),
           arg("model"), arg("mask"), arg("bit_depth"), arg("region"))
      .def("push", &TrackerBox::push, arg("luma"), arg("homography").noconvert(), arg("corner_covariance").noconvert(),
           "The motion of the next frame.")
      .def("matches", &TrackerBox::matches, "(m, 4) points of the last push, the inliers first.")
      .def("reset", &TrackerBox::reset, "The next frame counts as the first.");
  module.def(
      "video_live_options", [](int preset, int width) { return live_options(static_cast<Preset>(preset), width); },
      arg("preset"), arg("width"), "What a preset plans live video by, at 30 frames a second.");
  py::class_<LivePlanBox>(module, "VideoLivePlan", "legato::video::LivePlan in memory of its own.")
      .def(py::init<int, int, const camera::PathOptions&, double, std::size_t, double, bool, const py::array&>(),
           arg("width"), arg("height"), arg("options"), arg("fps"), arg("latency"), arg("strength"), arg("guard"),
           arg("mask"))
      .def("push", &LivePlanBox::push, arg("luma"), arg("cut"),
           "Takes a picture; the (0 or 1, 3, 3) corrections whose time has come, output pixel to input pixel.")
      .def("flush", &LivePlanBox::flush, "Ends the clip; the (j, 3, 3) corrections of the pictures still held.")
      .def("change", &LivePlanBox::change, arg("options"), arg("fps"), arg("strength"), arg("guard"),
           "Goes over to other settings.")
      .def("counts", &LivePlanBox::counts, "Pictures: taken, failed, duplicates, cuts, rested.");
  py::class_<PyramidBox>(module, "VideoPyramid", "legato::video::Pyramid in memory of its own.")
      .def(py::init<const py::array&, int>(), arg("luma"), arg("factor"))
      .def("corners", &PyramidBox::corners, arg("most"), "(n, 2) corners, best first.")
      .def("follow", &PyramidBox::follow, arg("to"), arg("points").noconvert(), arg("round_trip_px"),
           arg("moved").noconvert(), arg("found").noconvert(), "Pyramidal Lucas-Kanade of (n, 2) points.");
  py::class_<FillerBox>(module, "VideoFiller", "legato::video::fill with a workspace of its own.")
      .def(py::init<>())
      .def("fill", &FillerBox::fill, arg("map").noconvert(), arg("pyramid"), arg("sources"), arg("targets"),
           arg("bit_depth"), arg("siting"), arg("fade_frames"), arg("most_error"), arg("errors").noconvert(),
           "Completes a picture from other frames: (outside, membrane, error, sources).");
  module.def(
      "video_fill_cells",
      [](int width, int height) {
        const FrameSize cells = fill_cells(width, height);
        return std::make_tuple(cells.width, cells.height);
      },
      arg("width"), arg("height"), "Cells, across and down, of the map of errors of a filled picture.");
}

}  // namespace legato::python
