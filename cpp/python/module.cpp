#include <stdexcept>

#include "binding.h"

namespace legato::python {

void bind_calls(py::module_& module);

namespace {

std::atomic<unsigned long> main_thread{0};

/// Takes the GIL back. A finalizing interpreter ends a thread that asks for it, by an exception of the C library that
/// no frame may swallow; it gets no further than here.
void lock_again(PyThreadState* state) {
  try {
    PyEval_RestoreThread(state);
  } catch (...) {
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
}

}  // namespace

void know_main_thread() {
  const auto ask = [] {
    const py::object thread = py::module_::import("threading").attr("main_thread")();
    main_thread = thread.attr("ident").cast<unsigned long>();
  };
  ask();
  const py::module_ os = py::module_::import("os");
  if (!py::hasattr(os, "register_at_fork")) return;
  os.attr("register_at_fork")(py::arg("after_in_child") =
                                  py::cpp_function([] { main_thread = PyThread_get_thread_ident(); }));
}

Unlocked::Unlocked() : state_(PyEval_SaveThread()) {
  if (PyThread_get_thread_ident() != main_thread.load(std::memory_order_relaxed)) return;
  next_ = std::chrono::steady_clock::now() + kPeriod;
  interruption_.emplace(&Unlocked::asked, this);
}

Unlocked::~Unlocked() {
  interruption_.reset();
  lock_again(state_);
}

bool Unlocked::asked(void* self) noexcept {
  auto& own = *static_cast<Unlocked*>(self);
  if (std::chrono::steady_clock::now() < own.next_) return false;
  PyEval_RestoreThread(own.state_);
  const bool raised = PyErr_CheckSignals() != 0;
  own.state_ = PyEval_SaveThread();
  own.next_ = std::chrono::steady_clock::now() + kPeriod;
  return raised;
}

Turn::Turn(Turns& turns) : turns_(turns) {
  const auto own = std::this_thread::get_id();
  if (turns_.holder_.load(std::memory_order_relaxed) == own) {
    throw std::runtime_error("this object is at work: a signal handler must not use what the signal interrupted");
  }
  turns_.mutex_.lock();
  turns_.holder_.store(own, std::memory_order_relaxed);
}

Turn::~Turn() {
  turns_.holder_.store(std::thread::id(), std::memory_order_relaxed);
  turns_.mutex_.unlock();
}

void check_signals() {
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
}

void check(Status status, const std::string& what) {
  check_signals();
  if (status == Status::ok) return;
  const py::object error =
      py::module_::import("legato.errors").attr("error_of_status")(static_cast<int>(status), status_text(status), what);
  PyErr_SetObject(py::type::of(error).ptr(), error.ptr());
  throw py::error_already_set();
}

}  // namespace legato::python

static int pybind11_exec__core(PyObject*);

PYBIND11_MODULE_EXEC(_core, module) {
  namespace py = pybind11;
  using namespace legato;
  module.doc() = "The compiled core of Legato. Private: call it through the families.";
  if (isa_problem()[0] != '\0') {
    throw py::import_error(std::string(isa_problem()) + " (the best here is " + isa_name(best_isa()) + ")");
  }
  module.def("version", &version, "Version of the compiled core.");
  module.def("build_text", &build_text, "Compiler and architecture of the compiled core.");
  module.def("active_isa", [] { return isa_name(active_isa()); }, "Instruction set the kernels run.");
  module.def("best_isa", [] { return isa_name(best_isa()); }, "Best instruction set of this processor.");
  module.def("set_work_of_helper", &set_work_of_helper, py::arg("nanoseconds"),
             "Threads of a call start where each has so much work; with 0 all that are asked for. For tests.");
  module.def("helpers_started", &helpers_started, "Helper threads that calls of this process have started so far.");
  module.def(
      "last_isa", [] { return isa_name(last_isa()); },
      "Instruction set of the kernel copy that ran last in this thread.");
  python::know_main_thread();
  python::bind_camera(module);
  python::bind_video(module);
  python::bind_rft(module);
  python::bind_rasp(module);
  python::bind_diffusion(module);
  python::bind_calls(module);
}

/// pybind11's own state is made for the main interpreter, and asking for it in another waits for ever.
static int execute(PyObject* module) {
  if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
    PyErr_SetString(PyExc_ImportError,
                    "legato cannot be imported in a subinterpreter: its core and NumPy keep one state "
                    "for the process; import it in the main interpreter");
    return -1;
  }
  return pybind11_exec__core(module);
}

// What PYBIND11_MODULE would write, but for the check of the interpreter before the first call of pybind11.
extern "C" PYBIND11_EXPORT PyObject* PyInit__core();
extern "C" PYBIND11_EXPORT PyObject* PyInit__core() {
  PYBIND11_CHECK_PYTHON_VERSION
  static PyModuleDef_Slot slots[] = {{Py_mod_exec, reinterpret_cast<void*>(&execute)},
#if PY_VERSION_HEX >= 0x030C0000
                                     {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
                                     {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
                                     {0, nullptr}};
  static PyModuleDef definition{PyModuleDef_HEAD_INIT, "_core", nullptr, 0, nullptr, slots, nullptr, nullptr, nullptr};
  return PyModuleDef_Init(&definition);
}
