// A Python module of one's own on Legato's kernels: the geometric mean of homographies, by way of their logarithms.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <vector>

#include "legato/camera.hpp"

namespace py = pybind11;
using Matrices = py::array_t<double, py::array::c_style | py::array::forcecast>;

static void check(legato::Status status) {
  if (status != legato::Status::ok) throw std::invalid_argument(legato::status_text(status));
}

static Matrices mean(const Matrices& homographies) {
  const auto numbers = static_cast<std::size_t>(homographies.size());
  if (numbers == 0 || numbers % 9 != 0) throw std::invalid_argument("homographies: expected shape (n, 3, 3)");
  std::vector<double> logs(numbers), sum(9);
  std::size_t bad = 0;
  check(legato::camera::log_homography({homographies.data(), numbers}, logs, bad));
  for (std::size_t i = 0; i < numbers; ++i) sum[i % 9] += logs[i] / static_cast<double>(numbers / 9);
  Matrices out({3, 3});
  check(legato::camera::exp_homography(sum, {out.mutable_data(), 9}, bad));
  return out;
}

PYBIND11_MODULE(steady, module) { module.def("mean", &mean, py::arg("homographies")); }
