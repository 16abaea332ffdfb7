#include "legato/diffusion.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <vector>

#include "binding.h"

namespace legato::python {
namespace {

using namespace diffusion;

/// Names of storage types as the Python side says them; 16-bit types travel as arrays of uint16.
template <class Work>
void with_storage(const std::string& storage, Work&& work) {
  if (storage == "float32") {
    work(float{});
  } else if (storage == "float64") {
    work(double{});
  } else if (storage == "float16") {
    work(Half{});
  } else if (storage == "bfloat16") {
    work(BFloat16{});
  } else {
    check(Status::invalid_argument, "storage");
  }
}

/// The numbers of an array that may be missing: then none.
template <class Storage>
std::span<const Storage> given(const std::optional<py::array>& array, const char* what) {
  return array ? stored<Storage>(*array, what) : std::span<const Storage>{};
}

using Seeds = py::array_t<std::uint64_t, py::array::c_style>;
using Counters = py::array_t<std::uint32_t, py::array::c_style>;

/// One seed: every sample has a stream of its own. More: one a sample.
Noise noise_of(const Seeds& seeds, bool shared, std::uint64_t first_stream, std::uint32_t step, std::uint32_t substep,
               bool philox) {
  Noise noise;
  noise.seeds = {seeds.data(), static_cast<std::size_t>(seeds.size())};
  noise.stride = shared ? 0 : 1;
  noise.first_stream = first_stream;
  noise.step = step;
  noise.substep = substep;
  noise.generator = philox ? Generator::philox : Generator::threefry;
  return noise;
}

std::span<const std::uint32_t> words(const Counters& array) {
  return {array.data(), static_cast<std::size_t>(array.size())};
}
std::span<std::uint32_t> words(Counters& array) {
  return {array.mutable_data(), static_cast<std::size_t>(array.size())};
}

void threefry_into(const Counters& counter, const Counters& key, int rounds, Counters& out) {
  const auto counters = words(counter), keys = words(key);
  const auto blocks = words(out);
  Status status;
  {
    const Unlocked unlocked;
    status = threefry4x32(counters, keys, rounds, blocks);
  }
  check(status, "rounds");
}

void philox_into(const Counters& counter, const Counters& key, Counters& out) {
  const auto counters = words(counter), keys = words(key);
  const auto blocks = words(out);
  Status status;
  {
    const Unlocked unlocked;
    status = philox4x32(counters, keys, blocks);
  }
  check(status, "key");
}

void normal_into(const std::string& storage, std::size_t samples, std::size_t elements, const Noise& noise,
                 py::array& out, int threads) {
  with_storage(storage, [&](auto kind) {
    using Storage = decltype(kind);
    const auto target = stored<Storage>(out, "out");
    Status status;
    {
      const Unlocked unlocked;
      status = normal<Storage>(noise, samples, elements, target, threads);
    }
    check(status, "seeds");
  });
}

void step_into(const std::string& storage, std::size_t samples, std::size_t elements, const Array& coefficients,
               const py::array& x, const py::array& cond, const std::optional<py::array>& uncond,
               const std::optional<py::array>& given_noise, const Noise& noise, py::array& out, int threads) {
  static_assert(sizeof(Coefficients) == 4 * sizeof(double));
  require(coefficients.size() % 4 == 0, "coefficients");
  with_storage(storage, [&](auto kind) {
    using Storage = decltype(kind);
    Step<Storage> step;
    step.samples = samples;
    step.elements = elements;
    step.coefficients = {reinterpret_cast<const Coefficients*>(coefficients.data()),
                         static_cast<std::size_t>(coefficients.size()) / 4};
    step.x = stored<Storage>(x, "x");
    step.cond = stored<Storage>(cond, "cond");
    step.uncond = given<Storage>(uncond, "uncond");
    step.given_noise = given<Storage>(given_noise, "given_noise");
    step.noise = noise;
    step.out = stored<Storage>(out, "out");
    Status status;
    {
      const Unlocked unlocked;
      status = apply_step(step, threads);
    }
    check(status, "step");
  });
}

/// A NumPy array as it is: C-contiguous, aligned, of native byte order.
struct Plain {
  void* data;
  int type, axes;
  const Py_intptr_t* shape;
  bool writable;

  bool read(PyObject* object) {
    const auto& numpy = py::detail::npy_api::get();
    if (Py_TYPE(object) != numpy.PyArray_Type_) return false;
    const auto* array = py::detail::array_proxy(object);
    const auto* descriptor = py::detail::array_descriptor_proxy(array->descr);
    constexpr int needed = py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    data = array->data;
    type = descriptor->type_num;
    axes = array->nd;
    shape = array->dimensions;
    writable = (array->flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_) != 0;
    return (array->flags & needed) == needed && descriptor->byteorder == '=';
  }
  bool like(const Plain& other) const {
    return type == other.type && axes == other.axes && std::equal(shape, shape + axes, other.shape);
  }
  /// Whether an array of the same shape and type shares memory with this one without being the same.
  bool cuts(const Plain& other) const {
    std::size_t bytes = type == py::detail::npy_api::NPY_FLOAT_ ? sizeof(float) : sizeof(double);
    for (int i = 0; i < axes; ++i) bytes *= static_cast<std::size_t>(shape[i]);
    const auto here = reinterpret_cast<std::uintptr_t>(data), there = reinterpret_cast<std::uintptr_t>(other.data);
    return here != there && here < there + bytes && there < here + bytes;
  }
};

/// A float or an int; false, without an error, for anything else.
bool read_number(PyObject* object, double& value) {
  if (!PyFloat_CheckExact(object) && !PyLong_CheckExact(object)) return false;
  value = PyFloat_AsDouble(object);
  if (value == -1.0 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    return false;
  }
  return true;
}

/// An int from 0 to `most`, likewise.
bool read_whole(PyObject* object, std::uint64_t most, std::uint64_t& value) {
  if (!PyLong_CheckExact(object)) return false;
  value = PyLong_AsUnsignedLongLong(object);
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    return false;
  }
  return value <= most;
}

/// (a, b, c), where b is shared out by a guidance scale, or (a, cond, uncond, c).
bool read_coefficients(PyObject* object, double scale, Coefficients& by) {
  double n[4];
  Py_ssize_t count = 3;
  if (PyTuple_CheckExact(object)) {
    count = PyTuple_GET_SIZE(object);
    if (count != 3 && (count != 4 || scale != 1)) return false;
    for (Py_ssize_t i = 0; i < count; ++i) {
      if (!read_number(PyTuple_GET_ITEM(object, i), n[i])) return false;
    }
  } else {
    Plain table;
    if (!table.read(object) || table.type != py::detail::npy_api::NPY_DOUBLE_ || table.axes != 1 ||
        table.shape[0] != 3) {
      return false;
    }
    std::copy_n(static_cast<const double*>(table.data), 3, n);
  }
  by = count == 4 ? Coefficients{n[0], n[1], n[2], n[3]} : Coefficients{n[0], n[1] * scale, n[1] * (1 - scale), n[2]};
  return true;
}

template <class Storage>
Status step_plain(const Plain& x, const Plain& cond, const Plain* uncond, const Coefficients& by, const Noise& noise,
                  void* out, int threads) {
  Step<Storage> step;
  step.samples = static_cast<std::size_t>(x.shape[0]);
  step.elements = 1;
  for (int i = 1; i < x.axes; ++i) step.elements *= static_cast<std::size_t>(x.shape[i]);
  step.coefficients = {&by, 1};
  const std::size_t all = step.samples * step.elements;  // of an array, so that it fits; the others are like it
  step.x = {static_cast<const Storage*>(x.data), all};
  step.cond = {static_cast<const Storage*>(cond.data), all};
  if (uncond != nullptr) step.uncond = {static_cast<const Storage*>(uncond->data), all};
  step.noise = noise;
  step.out = {static_cast<Storage*>(out), all};
  const Unlocked unlocked;
  return apply_step(step, threads);
}

/// The usual call of apply_step without ceremony: NumPy arrays of one native type, one set of coefficients, one seed.
/// Declines with None whatever is not that, wrong arguments and a chosen backend too: the Python side looks at those.
PyObject* step_quickly(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 11) Py_RETURN_NONE;
  Plain x, cond, uncond, out;
  double scale;
  Coefficients by;
  std::uint64_t seed, step = 0xffffffffu, substep, first, threads;
  const bool guided = args[3] != Py_None, fresh = args[9] == Py_None;
  if (!x.read(args[0]) || x.axes == 0 || !cond.read(args[1]) || !cond.like(x)) Py_RETURN_NONE;
  if (guided && (!uncond.read(args[3]) || !uncond.like(x))) Py_RETURN_NONE;
  if (!read_number(args[4], scale) || (!guided && scale != 1) || !read_coefficients(args[2], scale, by)) Py_RETURN_NONE;
  if (!read_whole(args[5], ~std::uint64_t{0}, seed) || !read_whole(args[6], 0xfffffffeu, step) ||
      !read_whole(args[7], 0xffffffffu, substep) || !read_whole(args[8], ~std::uint64_t{0}, first) ||
      !read_whole(args[10], 1u << 16, threads)) {
    Py_RETURN_NONE;
  }
  if (threads == 0 || (!fresh && (!out.read(args[9]) || !out.like(x) || !out.writable))) Py_RETURN_NONE;
  if (!fresh && (out.cuts(x) || out.cuts(cond) || (guided && out.cuts(uncond)))) Py_RETURN_NONE;
  const char* backend = std::getenv("LEGATO_BACKEND");
  if (backend != nullptr && *backend != 0) Py_RETURN_NONE;
  const Noise noise{.seeds = {&seed, 1},
                    .first_stream = first,
                    .step = static_cast<std::uint32_t>(step),
                    .substep = static_cast<std::uint32_t>(substep)};
  try {
    py::object result = py::reinterpret_borrow<py::object>(args[9]);
    if (fresh) {
      result = py::array(py::dtype(x.type), std::vector<py::ssize_t>(x.shape, x.shape + x.axes));
      out.read(result.ptr());
    }
    const Plain* other = guided ? &uncond : nullptr;
    const int team = static_cast<int>(threads);
    Status status = Status::invalid_argument;
    if (x.type == py::detail::npy_api::NPY_FLOAT_) {
      status = step_plain<float>(x, cond, other, by, noise, out.data, team);
    } else if (x.type == py::detail::npy_api::NPY_DOUBLE_) {
      status = step_plain<double>(x, cond, other, by, noise, out.data, team);
    }
    check_signals();
    return status == Status::ok ? result.release().ptr() : Py_NewRef(Py_None);
  } catch (py::error_already_set& error) {
    error.restore();
    return nullptr;
  }
}

void sums_into(const std::string& storage, std::size_t samples, std::size_t elements, const py::array& cond,
               const py::array& uncond, const std::optional<py::array>& x, Array& out, int threads) {
  with_storage(storage, [&](auto kind) {
    using Storage = decltype(kind);
    const auto c = stored<Storage>(cond, "cond"), u = stored<Storage>(uncond, "uncond"), at = given<Storage>(x, "x");
    const auto target = output(out);
    Status status;
    {
      const Unlocked unlocked;
      status = guidance_sums(samples, elements, c, u, at, target, threads);
    }
    check(status, "cond, uncond, x or out");
  });
}

/// A mixture or a cloud in arrays that the object keeps alive.
struct ModelArrays {
  std::optional<Array> log_weights, means, variances, rotations;
  std::optional<py::array> point_weights;
  std::shared_ptr<void> packed;
  std::size_t points = 0, columns = 0;
  bool isotropic = false;
  bool wide = false;  // a cloud of doubles

  std::size_t components() const { return means ? static_cast<std::size_t>(means->shape(0)) : 0; }
  std::size_t dimension() const { return means ? static_cast<std::size_t>(means->shape(1)) : columns; }
};

ModelArrays mixture_of(const Array& log_weights, const Array& means, const Array& variances,
                       const std::optional<Array>& rotations) {
  require(means.ndim() == 2, "means");
  ModelArrays model;
  model.log_weights = log_weights;
  model.means = means;
  model.variances = variances;
  model.rotations = rotations;
  model.isotropic = variances.ndim() == 1;
  return model;
}

template <class Real>
std::shared_ptr<void> packed_points(const py::array& data) {
  constexpr std::align_val_t line{64};
  const auto points = static_cast<std::size_t>(data.shape(0)), dimension = static_cast<std::size_t>(data.shape(1));
  const auto numbers = stored<Real>(data, "data");
  const std::size_t size = packed_points_size(points, dimension);
  const std::shared_ptr<void> packed(::operator new(size * sizeof(Real), line),
                                     [](void* memory) { ::operator delete(memory, line); });
  Status status;
  {
    const Unlocked unlocked;
    status = pack_points<Real>(points, dimension, numbers, {static_cast<Real*>(packed.get()), size});
  }
  check(status, "data");
  return packed;
}

ModelArrays cloud_of(const py::array& data, const std::optional<py::array>& log_weights) {
  require(data.ndim() == 2, "data");
  ModelArrays model;
  model.points = static_cast<std::size_t>(data.shape(0));
  model.columns = static_cast<std::size_t>(data.shape(1));
  model.point_weights = log_weights;
  model.wide = data.itemsize() != sizeof(float);
  model.packed = data.itemsize() == sizeof(float) ? packed_points<float>(data) : packed_points<double>(data);
  return model;
}

template <class Real>
struct Held {
  Mixture mixture;
  PointCloud<Real> cloud;
  Model<Real> model;

  explicit Held(const ModelArrays& arrays) {
    if (arrays.means) {
      mixture.components = arrays.components();
      mixture.dimension = arrays.dimension();
      mixture.isotropic = arrays.isotropic;
      mixture.log_weights = input(*arrays.log_weights);
      mixture.means = input(*arrays.means);
      mixture.variances = input(*arrays.variances);
      if (arrays.rotations) mixture.rotations = input(*arrays.rotations);
      model.mixture = &mixture;
    } else {
      cloud.points = arrays.points;
      cloud.dimension = arrays.dimension();
      require(arrays.packed != nullptr && arrays.wide == (sizeof(Real) == sizeof(double)), "model");
      cloud.packed = {static_cast<const Real*>(arrays.packed.get()), packed_points_size(cloud.points, cloud.dimension)};
      cloud.log_weights = given<Real>(arrays.point_weights, "log_weights");
      model.cloud = &cloud;
    }
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
};

template <class Real>
using Reals = py::array_t<Real, py::array::c_style>;

template <class Real>
void evaluate_into(const ModelArrays& arrays, double alpha, double sigma, bool score, const Reals<Real>& x,
                   Reals<Real>& out, std::optional<Reals<Real>>& log_density, int threads) {
  require(x.ndim() == 2, "x");
  const Held<Real> held(arrays);
  const auto samples = static_cast<std::size_t>(x.shape(0));
  const auto from = stored<Real>(x, "x");
  const auto to = stored<Real>(out, "out");
  std::span<Real> density;
  if (log_density) {
    density = stored<Real>(*log_density, "log_density");
    require(density.size() == samples, "log_density");
  }
  Status status;
  {
    const Unlocked unlocked;
    const std::size_t size = evaluate_workspace_size(arrays.components(), arrays.dimension(), threads);
    const auto memory = std::make_unique_for_overwrite<std::byte[]>(size);
    status = evaluate<Real>(held.model, alpha, sigma, score ? Output::score : Output::denoised, samples, from, to,
                            density, {memory.get(), size}, threads);
  }
  check(status, "model");
}

/// Rows as the Python side writes them: the ten numbers of diffusion::Row, step, substep, output.
constexpr std::size_t kRowNumbers = 13;

template <class Real>
void chains_into(const ModelArrays& cond, const ModelArrays& uncond, const Array& rows, const Noise& noise,
                 Reals<Real>& x, int threads) {
  const Held<Real> held_cond(cond), held_uncond(uncond);
  require(x.ndim() == 2, "x");
  require(rows.ndim() == 2 && rows.shape(1) == kRowNumbers, "rows");
  const auto samples = static_cast<std::size_t>(x.shape(0));
  const auto state = stored<Real>(x, "x");
  std::vector<Row> table(static_cast<std::size_t>(rows.shape(0)));
  for (std::size_t i = 0; i < table.size(); ++i) {
    const double* r = rows.data() + kRowNumbers * i;
    table[i] = {r[0],
                r[1],
                r[2],
                r[3],
                r[4],
                r[5],
                r[6],
                r[7],
                r[8],
                r[9],
                static_cast<std::uint32_t>(r[10]),
                static_cast<std::uint32_t>(r[11]),
                r[12] != 0 ? Output::score : Output::denoised};
  }
  Status status;
  {
    const Unlocked unlocked;
    const std::size_t size =
        chains_workspace_size(std::max(cond.components(), uncond.components()), cond.dimension(), threads);
    const auto memory = std::make_unique_for_overwrite<std::byte[]>(size);
    status = run_chains<Real>(held_cond.model, held_uncond.model, table, noise, samples, state, {memory.get(), size},
                              threads);
  }
  check(status, "model");
}

template <class Real>
void bind_exact(py::module_& module, const char* evaluate_name, const char* chains_name) {
  using py::arg;
  module.def(evaluate_name, &evaluate_into<Real>, arg("model"), arg("alpha"), arg("sigma"), arg("score"),
             arg("x").noconvert(), arg("out").noconvert(), arg("log_density").noconvert(), arg("threads"),
             "Denoised mean or score of (n, d) points, and the log density of a mixture where asked for.");
  module.def(chains_name, &chains_into<Real>, arg("cond"), arg("uncond"), arg("rows").noconvert(), arg("noise"),
             arg("x").noconvert(), arg("threads"), "Runs (R, 13) rows on (n, d) samples in place.");
}

}  // namespace

void bind_diffusion(py::module_& module) {
  using py::arg;
  py::class_<Noise>(module, "DiffusionNoise", "legato::diffusion::Noise; keeps the seeds alive.")
      .def(py::init(&noise_of), py::keep_alive<1, 2>(), arg("seeds").noconvert(), arg("shared"), arg("first_stream"),
           arg("step"), arg("substep"), arg("philox"));
  module.def("diffusion_threefry4x32", &threefry_into, arg("counter").noconvert(), arg("key").noconvert(),
             arg("rounds"), arg("out").noconvert(), "Threefry4x32 blocks of (n, 4) counters under (n, 4) keys.");
  module.def("diffusion_philox4x32", &philox_into, arg("counter").noconvert(), arg("key").noconvert(),
             arg("out").noconvert(), "Philox4x32-10 blocks of (n, 4) counters under (n, 2) keys.");
  module.def("diffusion_normal", &normal_into, arg("storage"), arg("samples"), arg("elements"), arg("noise"),
             arg("out").noconvert(), arg("threads"), "Standard normals of (samples, elements) into out.");
  module.def("diffusion_step", &step_into, arg("storage"), arg("samples"), arg("elements"),
             arg("coefficients").noconvert(), arg("x").noconvert(), arg("cond").noconvert(), arg("uncond").noconvert(),
             arg("given_noise").noconvert(), arg("noise"), arg("out").noconvert(), arg("threads"),
             "The fused step; coefficients (1, 4) or (samples, 4): a, cond, uncond, noise.");
  static PyMethodDef quick{"diffusion_step_quickly",
                           reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&step_quickly)), METH_FASTCALL,
                           "diffusion_step_quickly(x: object, eps: object, coef: object, eps_uncond: object, "
                           "guidance_scale: object, seed: object, step: object, substep: object, first_sample: object, "
                           "out: object, threads: object) -> object\n\n"
                           "apply_step for plain arguments; None if they are not."};
  module.attr("diffusion_step_quickly") = py::reinterpret_steal<py::object>(PyCFunction_New(&quick, nullptr));
  module.def("diffusion_sums", &sums_into, arg("storage"), arg("samples"), arg("elements"), arg("cond").noconvert(),
             arg("uncond").noconvert(), arg("x").noconvert(), arg("out").noconvert(), arg("threads"),
             "c.c, u.u, c.u, sum c, sum u, x.c, x.u, x.x of each sample into (samples, 8).");
  py::class_<ModelArrays>(module, "DiffusionModel", "A Gaussian mixture or a point cloud; keeps its arrays alive.")
      .def_static("mixture", &mixture_of, arg("log_weights").noconvert(), arg("means").noconvert(),
                  arg("variances").noconvert(), arg("rotations").noconvert())
      .def_static("cloud", &cloud_of, arg("data").noconvert(), arg("log_weights").noconvert());
  bind_exact<float>(module, "diffusion_evaluate_f32", "diffusion_chains_f32");
  bind_exact<double>(module, "diffusion_evaluate_f64", "diffusion_chains_f64");
}

}  // namespace legato::python
