// What the binding files share: arrays in and out as spans, the GIL let go for a run, objects that one thread at a time
// works on, and the one mapping from Status to exceptions.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>

#include "legato/core.hpp"

namespace legato::python {

namespace py = pybind11;

/// C-contiguous float64; the Python side has converted and checked already, so nothing is converted here.
using Array = py::array_t<double, py::array::c_style>;

inline std::span<const double> input(const Array& array) {
  return {array.data(), static_cast<std::size_t>(array.size())};
}
inline std::span<double> output(Array& array) { return {array.mutable_data(), static_cast<std::size_t>(array.size())}; }

/// The GIL let go while this lives. On the main thread, where Python handles signals, run calls meanwhile ask for them
/// every `kPeriod`; a handler that raises stops the run, and check() throws what it raised. A thread that wants the GIL
/// back from an interpreter that has gone sleeps until the process ends: Python would end it, through frames that must
/// not be unwound.
class Unlocked {
 public:
  /// `asking` false: signals wait, for a run of milliseconds that must not end half done.
  explicit Unlocked(bool asking = true);
  ~Unlocked();
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;

 private:
  static constexpr std::chrono::milliseconds kPeriod{50};
  static bool asked(void* self) noexcept;

  PyThreadState* state_;
  std::chrono::steady_clock::time_point next_;
  std::optional<Interruption> interruption_;
};

/// Guards an object with state: one thread at a time holds a Turn, and others wait for theirs. A Turn is taken while
/// the GIL is let go and given back before it is taken again, so that nobody waits for the one with the other in hand.
class Turns {
  friend class Turn;
  std::mutex mutex_;
  std::atomic<std::thread::id> holder_;
};

class Turn {
 public:
  /// Throws where this very thread has the turn: a signal handler that uses what the signal interrupted.
  explicit Turn(Turns& turns);
  ~Turn();
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  Turns& turns_;
};

/// Throws what a signal handler raised during a run, or legato.errors.error_of_status(code, what) unless `status` is
/// ok.
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
/// What `check` throws of signal handlers, where a status goes to Python as a number.
void check_signals();

/// From now on this module knows which thread is Python's main thread.
void know_main_thread();

void bind_camera(py::module_& module);
void bind_video(py::module_& module);
void bind_rft(py::module_& module);
void bind_rasp(py::module_& module);
void bind_diffusion(py::module_& module);

}  // namespace legato::python
