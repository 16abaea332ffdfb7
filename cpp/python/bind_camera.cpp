#include "legato/camera.hpp"

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "binding.h"

namespace legato::python {
namespace {

using namespace camera;

std::string matrix_name(const char* argument, std::size_t index) {
  return std::string(argument) + "[" + std::to_string(index) + "]";
}

/// The calling thread's workspace, not zeroed: the kernels write before they read. Up to 16 MB stay with the thread:
/// mapping fresh pages for every window costs as much as solving it.
class Workspace {
 public:
  explicit Workspace(std::size_t size) : size_(size) {
    constexpr std::size_t kept = std::size_t{16} << 20;
    thread_local std::unique_ptr<std::byte[]> memory;
    thread_local std::size_t capacity = 0;
    if (size > kept) {
      own_ = std::make_unique_for_overwrite<std::byte[]>(size);
    } else if (size > capacity) {
      memory = std::make_unique_for_overwrite<std::byte[]>(size);
      capacity = size;
    }
    at_ = size > kept ? own_.get() : memory.get();
  }
  std::span<std::byte> span() const { return {at_, size_}; }

 private:
  std::unique_ptr<std::byte[]> own_;
  std::byte* at_;
  std::size_t size_;
};

void log_into(const Array& homographies, Array& logs, int threads) {
  std::size_t bad = 0;
  Status status;
  {
    const auto in = input(homographies);
    const auto out = output(logs);
    const Unlocked unlocked;
    status = log_homography(in, out, bad, threads);
  }
  check(status, matrix_name("homography", bad));
}

void exp_into(const Array& logs, Array& homographies, int threads) {
  std::size_t bad = 0;
  Status status;
  {
    const auto in = input(logs);
    const auto out = output(homographies);
    const Unlocked unlocked;
    status = exp_homography(in, out, bad, threads);
  }
  check(status, matrix_name("log", bad));
}

PathModel model_of(const std::string& name) {
  constexpr std::array<const char*, 4> names = {"homography", "affine", "similarity", "translation"};
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (name == names[i]) return static_cast<PathModel>(i);
  }
  check(Status::invalid_argument, "model");
  return {};
}

PathOptions options_of(const std::string& model, double crop, double window_scale, const std::array<double, 4>& weights,
                       double anisotropy, double shear, double keystone, double keystone_ratio, double acceleration,
                       double roll_weight, double bound, double inset, double pixel, int relinearize, double tolerance,
                       int max_iterations) {
  PathOptions o;
  o.model = model_of(model);
  o.crop = crop;
  o.window_scale = window_scale;
  for (std::size_t i = 0; i < 4; ++i) o.weights[i] = weights[i];
  o.anisotropy = anisotropy;
  o.shear = shear;
  o.keystone = keystone;
  o.keystone_ratio = keystone_ratio;
  o.acceleration = acceleration;
  o.roll_weight = roll_weight;
  o.bound = bound;
  o.inset = inset;
  o.pixel = pixel;
  o.relinearize = relinearize;
  o.solver.tolerance = tolerance;
  o.solver.max_iterations = max_iterations;
  return o;
}

void crop_rows_into(const Array& log, double aspect, const PathOptions& options, Array& matrix, Array& bound) {
  check(crop_rows(input(log), aspect, options, output(matrix), output(bound)), "log");
}

void contain_into(const Array& corrections, double aspect, const PathOptions& options, Array& contained) {
  std::size_t bad = 0;
  Status status;
  {
    const auto in = input(corrections);
    const auto out = output(contained);
    const Unlocked unlocked;
    status = contain(in, aspect, options, out, bad);
  }
  check(status, matrix_name("corrections", bad));
}

py::dict path_into(const Array& motion, double aspect, const PathOptions& options, const Array& fixed,
                   const Array& frame_weight, const Array& salient, double salient_weight, const Array& targets,
                   double target_weight, Array& corrections, Array& logs, Array& violation) {
  require(salient.ndim() == 3, "salient");
  PathResult result;
  Status status;
  {
    const auto in = input(motion), held = input(fixed), weight = input(frame_weight);
    const auto out = output(corrections), out_logs = output(logs), out_violation = output(violation);
    Subjects subjects;
    subjects.salient = input(salient);
    subjects.points = static_cast<std::size_t>(salient.shape(1));
    subjects.salient_weight = salient_weight;
    subjects.targets = input(targets);
    subjects.target_weight = target_weight;
    const Unlocked unlocked;
    const Workspace workspace(path_workspace_size(in.size() / 9, options, subjects.points));
    status = smooth_path(in, aspect, options, held, weight, workspace.span(), out, out_logs, out_violation, result,
                         subjects);
  }
  const bool told =
      status == Status::infeasible || status == Status::iteration_limit || status == Status::numerical_trouble;
  check(told ? Status::ok : status, "motion, frame " + std::to_string(result.bad_frame));
  py::dict out;
  out["status"] = static_cast<int>(status);
  out["bad_frame"] = result.bad_frame;
  out["objective"] = result.objective;
  out["gap"] = result.gap;
  out["keystone_ratio"] = result.keystone_ratio;
  out["iterations"] = result.iterations;
  out["rounds"] = result.rounds;
  return out;
}

/// A stream in memory of its own, for one thread at a time.
class OwnedStream {
 public:
  OwnedStream(const PathOptions& path, double aspect, std::size_t window, std::size_t stride, int predicted,
              std::size_t points, double salient_weight, double target_weight, std::size_t first)
      : points_(points), first_(first), taken_(first) {
    const StreamOptions options{path, aspect, window, stride, predicted, points, salient_weight, target_weight};
    const std::size_t size = path_stream_memory_size(options);
    memory_ = std::make_unique_for_overwrite<std::byte[]>(size);
    stream_ = create_path_stream(options, {memory_.get(), size});
    require(stream_ != nullptr, "options, window, stride or predicted");
  }

  std::size_t pending() {
    const Unlocked unlocked;
    const Turn turn(turns_);
    return pending_frames(*stream_);
  }

  /// Takes frames until corrections come out or none is left; motion that is NaN is missing.
  py::dict take(const Array& motion, const Array& weight, const Array& salient, const Array& targets,
                std::size_t begin) {
    const auto f = input(motion), w = input(weight), s = input(salient), c = input(targets);
    require(f.size() == 9 * w.size() && s.size() == 2 * points_ * w.size() && c.size() == 2 * w.size(), "motion");
    Found found;
    std::size_t t = begin;
    {
      const Unlocked unlocked;
      const Turn turn(turns_);
      StreamResult result;
      Status status = Status::ok;
      while (t < w.size() && result.corrections.empty()) {
        const StreamFrame frame{f.subspan(9 * t, 9), w[t], s.subspan(2 * points_ * t, 2 * points_),
                                c.subspan(2 * t, 2)};
        status = push(*stream_, frame, result);
        if (!usable(status)) break;
        ++t;
        ++taken_;
      }
      found = copied(status, result);
    }
    return answer(found, t);
  }

  py::dict end_scene() {
    Found found;
    {
      const Unlocked unlocked;
      const Turn turn(turns_);
      StreamResult result;
      const Status status = finish(*stream_, result);
      found = copied(status, result);
    }
    return answer(found, 0);
  }

 private:
  static bool usable(Status status) {
    return status == Status::ok || status == Status::iteration_limit || status == Status::numerical_trouble;
  }
  /// A result of its own: the stream's stands in the stream's memory, which the next thread may write.
  struct Found {
    Status status = Status::ok;
    StreamResult result;  // but for the spans
    std::vector<double> corrections, violation;
    std::size_t frame = 0;
  };
  Found copied(Status status, const StreamResult& result) const {
    return {status,
            result,
            {result.corrections.begin(), result.corrections.end()},
            {result.violation.begin(), result.violation.end()},
            taken_};
  }
  py::dict answer(const Found& found, std::size_t taken) const {
    const bool told = usable(found.status) || found.status == Status::infeasible;
    check(told ? Status::ok : found.status, "motion, frame " + std::to_string(found.frame));
    py::dict out;
    out["status"] = static_cast<int>(found.status);
    out["taken"] = taken;
    out["first_frame"] = first_ + found.result.first_frame;
    out["bad_frame"] = first_ + found.result.solve.bad_frame;
    out["gap"] = found.result.solve.gap;
    out["iterations"] = found.result.solve.iterations;
    const auto n = static_cast<py::ssize_t>(found.violation.size());
    out["violation"] = Array(n, found.violation.data());
    out["corrections"] = Array({found.corrections.empty() ? 0 : n, py::ssize_t{9}}, found.corrections.data());
    return out;
  }

  Turns turns_;
  std::unique_ptr<std::byte[]> memory_;
  PathStream* stream_ = nullptr;
  std::size_t points_, first_, taken_;  // number of the first frame, and of the next: for messages
};

/// A live path in memory of its own, for one thread at a time. Signals do not interrupt it: a push takes milliseconds,
/// and one picture in is one picture out.
class OwnedLivePath {
 public:
  OwnedLivePath(const PathOptions& path, double aspect, std::size_t latency, int predicted) {
    const LiveOptions options{path, aspect, latency, predicted};
    const std::size_t size = live_path_memory_size(options);
    memory_ = std::make_unique_for_overwrite<std::byte[]>(size);
    path_ = create_live_path(options, {memory_.get(), size});
    require(path_ != nullptr, "options, latency or predicted");
  }

  std::size_t pending() {
    const py::gil_scoped_release unlocked;
    const Turn turn(turns_);
    return pending_frames(*path_);
  }

  Array take(const std::optional<Array>& motion, bool cut) {
    const auto f = motion ? input(*motion) : std::span<const double>{};
    require(!motion || f.size() == 9, "motion");
    return answer([&](std::span<const double>& out) { return camera::push(*path_, f, cut, out); });
  }

  Array end() {
    return answer([&](std::span<const double>& out) { return camera::finish(*path_, out); });
  }

  void change(const PathOptions& options) {
    Status status;
    {
      const py::gil_scoped_release unlocked;
      const Turn turn(turns_);
      status = set_options(*path_, options);
    }
    check(status, "options");
  }

 private:
  template <class Call>
  Array answer(const Call& call) {
    std::vector<double> out;  // the path's own memory may be written by the next thread
    Status status;
    {
      const py::gil_scoped_release unlocked;
      const Turn turn(turns_);
      std::span<const double> corrections;
      status = call(corrections);
      out.assign(corrections.begin(), corrections.end());
    }
    check(status, "motion");
    return Array({static_cast<py::ssize_t>(out.size() / 9), py::ssize_t{3}, py::ssize_t{3}}, out.data());
  }

  Turns turns_;
  std::unique_ptr<std::byte[]> memory_;
  LivePath* path_ = nullptr;
};

py::dict solve_banded_into(const Array& velocity, const Array& weights, const Array& quadratic, const Array& linear,
                           const Array& acceleration, const Array& row_matrix, const Array& row_bound,
                           const Array& lower, const Array& upper, std::size_t pinned, std::size_t soft_rows,
                           double penalty, double offset, double tolerance, int max_iterations, Array& path) {
  require(path.ndim() == 2, "path");
  require(weights.size() == 27, "weights");
  require(lower.size() == 8 && upper.size() == 8, "bounds");
  require(row_bound.ndim() == 1 || row_bound.ndim() == 2, "row_bound");
  BandedProblem problem;
  problem.frames = static_cast<std::size_t>(path.shape(0));
  problem.pinned = pinned;
  problem.soft_rows = soft_rows;
  problem.penalty = penalty;
  problem.constant = offset;
  problem.rows = static_cast<std::size_t>(row_bound.shape(row_bound.ndim() - 1));
  problem.velocity = input(velocity);
  for (std::size_t i = 0; i < 27; ++i) problem.weights[i / 9][i % 9] = weights.data()[i];
  problem.quadratic = input(quadratic);
  problem.quadratic_stride = quadratic.ndim() == 3 ? 64 : 0;
  problem.linear = input(linear);
  problem.acceleration = input(acceleration);
  problem.row_matrix = input(row_matrix);
  problem.row_matrix_stride = row_matrix.ndim() == 3 ? 8 * problem.rows : 0;
  problem.row_bound = input(row_bound);
  problem.row_bound_stride = row_bound.ndim() == 2 ? problem.rows : 0;
  for (std::size_t i = 0; i < 8; ++i) {
    problem.lower[i] = lower.data()[i];
    problem.upper[i] = upper.data()[i];
  }
  SolverOptions options;
  options.tolerance = tolerance;
  options.max_iterations = max_iterations;
  SolverResult result;
  Status status;
  {
    const auto out = output(path);
    const Unlocked unlocked;
    const Workspace workspace(banded_workspace_size(problem));
    status = solve_banded(problem, options, workspace.span(), out, {}, result);
  }
  const bool told = status == Status::iteration_limit || status == Status::numerical_trouble;
  check(told ? Status::ok : status, "the program, frame " + std::to_string(result.bad_frame));
  py::dict out;
  out["status"] = static_cast<int>(status);
  out["objective"] = result.objective;
  out["gap"] = result.gap;
  out["iterations"] = result.iterations;
  return out;
}

}  // namespace

void bind_camera(py::module_& module) {
  using py::arg;
  module.def("camera_log_homography", &log_into, arg("homography").noconvert(), arg("log").noconvert(), arg("threads"),
             "Logarithms of (n, 9) homographies into (n, 9).");
  module.def("camera_exp_homography", &exp_into, arg("log").noconvert(), arg("homography").noconvert(), arg("threads"),
             "Exponentials of (n, 9) logarithms into (n, 9).");
  py::class_<PathOptions>(module, "CameraPathOptions", "legato::camera::PathOptions, lengths in frame widths.")
      .def(py::init(&options_of), py::kw_only(), arg("model") = "homography", arg("crop"), arg("window_scale"),
           arg("weights"), arg("anisotropy"), arg("shear"), arg("keystone"), arg("keystone_ratio"),
           arg("acceleration") = 0.0, arg("roll_weight") = 1.0, arg("bound"), arg("inset"), arg("pixel"),
           arg("relinearize"), arg("tolerance"), arg("max_iterations"));
  module.def("camera_crop_rows", &crop_rows_into, arg("log").noconvert(), arg("aspect"), arg("options"),
             arg("row_matrix").noconvert(), arg("row_bound").noconvert(),
             "Crop, area and side rows of one frame linearized at log, into (13, 9) and (13,).");
  module.def("camera_contain", &contain_into, arg("corrections").noconvert(), arg("aspect"), arg("options"),
             arg("contained").noconvert(), "Corrections (n, 9) shrunk until the exact window is inside, into (n, 9).");
  py::class_<OwnedStream>(module, "CameraPathStream", "legato::camera::PathStream in memory of its own.")
      .def(py::init<const PathOptions&, double, std::size_t, std::size_t, int, std::size_t, double, double,
                    std::size_t>(),
           arg("options"), arg("aspect"), arg("window"), arg("stride"), arg("predicted"), arg("points"),
           arg("salient_weight"), arg("target_weight"), arg("first"))
      .def_property_readonly("pending", &OwnedStream::pending, "Frames taken whose corrections have not come out.")
      .def("push", &OwnedStream::take, arg("motion").noconvert(), arg("weight").noconvert(), arg("salient").noconvert(),
           arg("targets").noconvert(), arg("begin"), "Takes frames from `begin` on until corrections come out.")
      .def("finish", &OwnedStream::end_scene, "Ends the scene.");
  py::class_<OwnedLivePath>(module, "CameraLivePath", "legato::camera::LivePath in memory of its own.")
      .def(py::init<const PathOptions&, double, std::size_t, int>(), arg("options"), arg("aspect"), arg("latency"),
           arg("predicted"))
      .def_property_readonly("pending", &OwnedLivePath::pending, "Frames taken whose corrections have not come out.")
      .def("push", &OwnedLivePath::take, arg("motion").noconvert().none(true), arg("cut"),
           "Takes a frame; the (0 or 1, 3, 3) corrections whose time has come.")
      .def("finish", &OwnedLivePath::end, "Ends the clip; the remaining (j, 3, 3) corrections.")
      .def("set_options", &OwnedLivePath::change, arg("options"), "Options of all that is not final yet.");
  module.def("camera_path_workspace_size", &path_workspace_size, arg("frames"), arg("options"), arg("points") = 0,
             "Bytes a solve of so many frames works in.");
  module.def("camera_smooth_path", &path_into, arg("motion").noconvert(), arg("aspect"), arg("options"),
             arg("fixed").noconvert(), arg("frame_weight").noconvert(), arg("salient").noconvert(),
             arg("salient_weight"), arg("targets").noconvert(), arg("target_weight"), arg("corrections").noconvert(),
             arg("logs").noconvert(), arg("violation").noconvert(), "Whole-clip camera path; lengths in frame widths.");
  module.def("camera_solve_banded", &solve_banded_into, arg("velocity").noconvert(), arg("weights").noconvert(),
             arg("quadratic").noconvert(), arg("linear").noconvert(), arg("acceleration").noconvert(),
             arg("row_matrix").noconvert(), arg("row_bound").noconvert(), arg("lower").noconvert(),
             arg("upper").noconvert(), arg("pinned"), arg("soft_rows"), arg("penalty"), arg("constant"),
             arg("tolerance"), arg("max_iterations"), arg("path").noconvert(),
             "The banded L1 program over (n, 8); the path holds the start and gets the solution.");
}

}  // namespace legato::python
