// What the binding files share: arrays in and out as spans, and the one mapping from Status to exceptions.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <span>
#include <string>

#include "legato/core.hpp"

namespace legato::python {

namespace py = pybind11;

/// C-contiguous float64; the Python side has converted and checked already, so nothing is converted here.
using Array = py::array_t<double, py::array::c_style>;

inline std::span<const double> input(const Array& array) {
  return {array.data(), static_cast<std::size_t>(array.size())};
}
inline std::span<double> output(Array& array) { return {array.mutable_data(), static_cast<std::size_t>(array.size())}; }

/// Throws legato.errors.error_of_status(code, what) unless `status` is ok.
void check(Status status, const std::string& what);

/// For what the surface cannot see, because only the array knows it.
inline void require(bool holds, const char* what) {
  if (!holds) check(Status::invalid_argument, what);
}

/// The numbers of an array whose type is chosen when it runs: as wide as T, C-contiguous.
template <class T>
std::span<const T> stored(const py::array& array, const char* what) {
  require(array.itemsize() == sizeof(T) && (array.flags() & py::array::c_style) != 0, what);
  return {static_cast<const T*>(array.data()), static_cast<std::size_t>(array.size())};
}
template <class T>
std::span<T> stored(py::array& array, const char* what) {
  require(array.itemsize() == sizeof(T) && (array.flags() & py::array::c_style) != 0, what);
  return {static_cast<T*>(array.mutable_data()), static_cast<std::size_t>(array.size())};
}

void bind_camera(py::module_& module);
void bind_video(py::module_& module);
void bind_rft(py::module_& module);
void bind_rasp(py::module_& module);
void bind_diffusion(py::module_& module);

}  // namespace legato::python
