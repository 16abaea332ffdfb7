#include "binding.h"

namespace legato::python {

void check(Status status, const std::string& what) {
  if (status == Status::ok) return;
  const py::object error =
      py::module_::import("legato.errors").attr("error_of_status")(static_cast<int>(status), status_text(status), what);
  PyErr_SetObject(py::type::of(error).ptr(), error.ptr());
  throw py::error_already_set();
}

}  // namespace legato::python

PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
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
  module.def(
      "last_isa", [] { return isa_name(last_isa()); },
      "Instruction set of the kernel copy that ran last in this thread.");
  python::bind_camera(module);
  python::bind_video(module);
  python::bind_rft(module);
  python::bind_rasp(module);
  python::bind_diffusion(module);
}
