#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "binding.h"
#include "legato/rasp.hpp"

namespace legato::python {
namespace {

using namespace rasp;

using Integers = py::array_t<std::int64_t, py::array::c_style>;
using Ids = py::array_t<std::int32_t, py::array::c_style>;
using Truth = py::array_t<std::uint8_t, py::array::c_style>;
using MaybeIntegers = std::optional<Integers>;
using TermTuple = std::tuple<MaybeIntegers, MaybeIntegers, int, std::uintptr_t>;  // the last: of a compiled predicate
using TableTuple = std::tuple<Ids, Ids, Truth>;

using Size = std::pair<std::size_t, std::size_t>;  // rows, n

template <class T>
std::span<const T> in(const py::array_t<T, py::array::c_style>& array) {
  return {array.data(), static_cast<std::size_t>(array.size())};
}
std::span<const std::int64_t> in(const MaybeIntegers& array) {
  return array ? in(*array) : std::span<const std::int64_t>{};
}

Shape shape_of(const Size& shape, const MaybeIntegers& lengths, bool causal) {
  Shape out;
  out.rows = shape.first;
  out.length = shape.second;
  require(!lengths || static_cast<std::size_t>(lengths->size()) == shape.first, "lengths");
  out.lengths = in(lengths);
  out.causal = causal;
  return out;
}

Aggregation aggregation_of(const MaybeIntegers& value, int reduction, int rounding, std::int64_t fallback,
                           double real_fallback) {
  Aggregation out;
  out.value = in(value);
  out.reduction = static_cast<Reduction>(reduction);
  out.rounding = static_cast<Rounding>(rounding);
  out.fallback = fallback;
  out.real_fallback = real_fallback;
  return out;
}

std::vector<Term> terms_of(const std::vector<TermTuple>& tuples) {
  std::vector<Term> terms;
  terms.reserve(tuples.size());
  for (const auto& [key, query, compare, predicate] : tuples) {
    terms.push_back({in(key), in(query), static_cast<Compare>(compare), reinterpret_cast<Called>(predicate)});
  }
  return terms;
}

std::vector<Table> tables_of(const std::vector<TableTuple>& tuples) {
  std::vector<Table> tables;
  tables.reserve(tuples.size());
  for (const auto& [key, query, truth] : tuples) {
    require(truth.ndim() == 2, "truth");
    tables.push_back({in(key), in(query), in(truth), static_cast<std::size_t>(truth.shape(0)),
                      static_cast<std::size_t>(truth.shape(1))});
  }
  return tables;
}

struct Free {
  void operator()(std::byte* memory) const { std::free(memory); }
};

/// Memory that is not zeroed; in huge pages where it is large, because touching it for the first time would otherwise
/// cost more than the arithmetic.
std::unique_ptr<std::byte, Free> workspace_of(std::size_t size) {
  if (size == 0) return {};  // refused
  constexpr std::size_t kHuge = std::size_t{1} << 21;
  if (size < 2 * kHuge) {
    auto* memory = static_cast<std::byte*>(std::malloc(size));
    if (memory == nullptr) throw std::bad_alloc();
    return std::unique_ptr<std::byte, Free>(memory);
  }
  const std::size_t rounded = (size + kHuge - 1) / kHuge * kHuge;
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(kHuge, rounded));
  if (memory == nullptr) throw std::bad_alloc();
#if defined(__linux__)
  madvise(memory, rounded, MADV_HUGEPAGE);
#endif
  return std::unique_ptr<std::byte, Free>(memory);
}

std::span<std::int64_t> writable(Integers& array) {
  return {array.mutable_data(), static_cast<std::size_t>(array.size())};
}

/// out: the int64 or float64 result, or a tuple (count, sum, best) of totals with the sign to add them with.
struct Where {
  std::optional<Integers> integers;
  std::optional<Array> reals;
  std::optional<Integers> count, sum, best;

  Where(const py::object& out) {
    if (py::isinstance<py::tuple>(out)) {
      const auto totals = out.cast<py::tuple>();
      require(totals.size() == 3, "totals");
      count = totals[0].cast<Integers>();
      if (!totals[1].is_none()) sum = totals[1].cast<Integers>();
      if (!totals[2].is_none()) best = totals[2].cast<Integers>();
    } else if (py::isinstance<Integers>(out)) {
      integers = py::reinterpret_borrow<Integers>(out);
    } else if (py::isinstance<Array>(out)) {
      reals = py::reinterpret_borrow<Array>(out);
    } else {
      throw py::type_error("out: expected an int64 or float64 array, or totals");
    }
  }
  Sink sink(int sign) {
    Sink to;
    if (integers) to.out = writable(*integers);
    if (reals) to.real = output(*reals);
    if (count) to.count = writable(*count);
    if (sum) to.sum = writable(*sum);
    if (best) to.best = writable(*best);
    to.sign = sign;
    return to;
  }
};

bool fast_route(const std::vector<int>& compares) {
  std::vector<Compare> conjunction;
  for (const int compare : compares) conjunction.push_back(static_cast<Compare>(compare));
  return has_fast_route(conjunction);
}

void conjunction_into(const Size& shape, const MaybeIntegers& lengths, bool causal,
                      const std::vector<TermTuple>& tuples, const MaybeIntegers& value, int reduction, int rounding,
                      std::int64_t fallback, double real_fallback, const py::object& out, int sign, int threads) {
  const Shape form = shape_of(shape, lengths, causal);
  const Aggregation how = aggregation_of(value, reduction, rounding, fallback, real_fallback);
  const std::vector<Term> terms = terms_of(tuples);
  std::vector<Compare> compares;
  for (const Term& term : terms) compares.push_back(term.compare);
  Where where(out);
  const Sink sink = where.sink(sign);
  Status status;
  {
    const Unlocked unlocked;
    const std::size_t size = conjunction_workspace_size(form, compares, how.reduction, threads);
    const auto memory = workspace_of(size);
    status = aggregate_conjunction(form, terms, how, {memory.get(), size}, sink, threads);
  }
  check(status, "select");
}

void table_into(const Size& shape, const MaybeIntegers& lengths, bool causal, const TableTuple& tuple,
                const MaybeIntegers& value, int reduction, int rounding, std::int64_t fallback, double real_fallback,
                const py::object& out, int sign, int threads) {
  const Shape form = shape_of(shape, lengths, causal);
  const Aggregation how = aggregation_of(value, reduction, rounding, fallback, real_fallback);
  const std::vector<Table> tables = tables_of({tuple});
  Where where(out);
  const Sink sink = where.sink(sign);
  Status status;
  {
    const Unlocked unlocked;
    const std::size_t size = table_workspace_size(tables[0], threads);
    const auto memory = std::make_unique_for_overwrite<std::byte[]>(size);
    status = aggregate_table(form, tables[0], how, {memory.get(), size}, sink, threads);
  }
  check(status, "select");
}

void formula_into(const Size& shape, const MaybeIntegers& lengths, bool causal,
                  const std::vector<TermTuple>& term_tuples, const std::vector<TableTuple>& table_tuples,
                  const std::vector<int>& formula, const MaybeIntegers& value, int reduction, int rounding,
                  std::int64_t fallback, double real_fallback, const py::object& out, int sign, int threads) {
  const Shape form = shape_of(shape, lengths, causal);
  const Aggregation how = aggregation_of(value, reduction, rounding, fallback, real_fallback);
  const std::vector<Term> terms = terms_of(term_tuples);
  const std::vector<Table> tables = tables_of(table_tuples);
  Where where(out);
  const Sink sink = where.sink(sign);
  Status status;
  {
    const Unlocked unlocked;
    status = aggregate_formula(form, terms, tables, formula, how, sink, threads);
  }
  check(status, status == Status::call_failed ? "select: pred" : "select");
}

/// The truth table, and the first pair in it for which the predicate failed, if there is one.
std::pair<Truth, std::optional<std::size_t>> truth_of(std::uintptr_t predicate, const Integers& keys,
                                                      const Integers& queries) {
  Truth truth({keys.size(), queries.size()});
  const auto rows = in(keys), columns = in(queries);
  const std::span<std::uint8_t> out{truth.mutable_data(), static_cast<std::size_t>(truth.size())};
  std::size_t bad = 0;
  Status status;
  {
    const Unlocked unlocked;
    status = fill_truth(reinterpret_cast<Called>(predicate), rows, columns, out, bad);
  }
  if (status == Status::call_failed) return {truth, bad};
  check(status, "predicate");
  return {truth, std::nullopt};
}

void finish_into(const Size& shape, const MaybeIntegers& lengths, int reduction, int rounding, std::int64_t fallback,
                 double real_fallback, const py::object& totals, const py::object& out) {
  const Shape form = shape_of(shape, lengths, true);
  const Aggregation how = aggregation_of(std::nullopt, reduction, rounding, fallback, real_fallback);
  Where from(totals), to(out);
  const Sink source = from.sink(1), sink = to.sink(1);
  Status status;
  {
    const Unlocked unlocked;
    status = finish(form, how, source, sink);
  }
  check(status, "select");
}

/// A stream in memory that grows: what it was given before is run again where it moves. With the GIL, or one thread at
/// a time.
class GrowingStream {
 public:
  explicit GrowingStream(const Integers& words) : words_(in(words).begin(), in(words).end()) { move_to(kFirst); }

  void clear() { reset(*stream_); }
  bool real() const { return gives_real(*stream_); }

  /// The output at one more token, or None where these instructions do not compute it.
  py::object push_one(std::int64_t token) {
    if (tokens_of(*stream_).size() == capacity_of(*stream_)) move_to(4 * capacity_of(*stream_));
    std::int64_t out = 0;
    const Status status = push(*stream_, {&token, 1}, {&out, 1});
    if (status == Status::numerical_trouble) return py::none();
    check(status, "token");
    if (real()) return py::float_(std::bit_cast<double>(out));
    return py::int_(out);
  }

  /// The outputs at tokens that nothing comes before, or None.
  py::object whole(const Integers& tokens) {
    const auto given = in(tokens);
    clear();
    make_room(given.size());
    py::array out = real() ? py::array(Array(tokens.size())) : py::array(Integers(tokens.size()));
    return append(given, stored<std::int64_t>(out, "out")) ? py::object(out) : py::none();
  }

  /// Appends tokens; the output at the last, or None.
  py::object last_of(const Integers& tokens) {
    const auto given = in(tokens);
    require(!given.empty(), "tokens");
    make_room(tokens_of(*stream_).size() + given.size());
    std::vector<std::int64_t> out(given.size());
    bool sound = false;
    {
      const Unlocked unlocked;
      status_ = push(*stream_, given, out);
    }
    sound = settled();
    if (!sound) return py::none();
    if (real()) return py::float_(std::bit_cast<double>(out.back()));
    return py::int_(out.back());
  }

  /// The tokens after `token`, at most `most`, and whether all of them were computed.
  std::pair<Integers, bool> generated(std::int64_t token, std::optional<std::int64_t> stop, std::size_t most) {
    std::vector<std::int64_t> found;
    bool sound = true, stopped = false;
    while (sound && !stopped && found.size() < most) {
      if (tokens_of(*stream_).size() == capacity_of(*stream_)) move_to(4 * capacity_of(*stream_));
      const std::size_t before = found.size();
      const std::size_t room = capacity_of(*stream_) - tokens_of(*stream_).size();
      found.resize(before + std::min(room, most - before));
      std::size_t written = 0;
      {
        const Unlocked unlocked;
        status_ = generate(*stream_, token, stop ? &*stop : nullptr, std::span(found).subspan(before), written);
      }
      sound = settled();
      found.resize(before + written);
      if (written > 0) token = found.back();
      stopped = stop && written > 0 && token == *stop;
    }
    return {Integers(static_cast<py::ssize_t>(found.size()), found.data()), sound};
  }

  Integers tokens() const {
    const auto seen = tokens_of(*stream_);
    return Integers(static_cast<py::ssize_t>(seen.size()), seen.data());
  }

 private:
  static constexpr std::size_t kFirst = 256;

  bool settled() {
    if (status_ == Status::numerical_trouble) return false;
    check(status_, "tokens");
    return true;
  }
  bool append(std::span<const std::int64_t> given, std::span<std::int64_t> out) {
    status_ = push(*stream_, given, out);
    return settled();
  }
  void make_room(std::size_t n) {
    if (n > capacity_of(*stream_)) move_to(std::max(n, 4 * capacity_of(*stream_)));
  }
  void move_to(std::size_t capacity) {
    const std::size_t size = stream_memory_size(words_, capacity);
    require(size > 0, "words");
    auto memory = workspace_of(size);
    Stream* stream = create_stream(words_, capacity, {memory.get(), size});
    require(stream != nullptr, "words");
    if (stream_ != nullptr && !tokens_of(*stream_).empty()) {
      std::vector<std::int64_t> out(tokens_of(*stream_).size());
      check(push(*stream, tokens_of(*stream_), out), "tokens");
    }
    memory_ = std::move(memory);
    stream_ = stream;
  }

  std::vector<std::int64_t> words_;
  std::unique_ptr<std::byte, Free> memory_;
  Stream* stream_ = nullptr;
  Status status_ = Status::ok;
};

}  // namespace

void bind_rasp(py::module_& module) {
  using py::arg;
  py::class_<GrowingStream>(module, "RaspStream", "A causal program, by its words, token by token.")
      .def(py::init<const Integers&>(), arg("words"))
      .def("reset", &GrowingStream::clear, "Forget all tokens.")
      .def("push", &GrowingStream::push_one, arg("token"), "The output at one more token; None where it has none.")
      .def("whole", &GrowingStream::whole, arg("tokens"), "Forget all, then the outputs at these tokens, or None.")
      .def("last", &GrowingStream::last_of, arg("tokens"), "Append tokens; the output at the last of them, or None.")
      .def("generate", &GrowingStream::generated, arg("token"), arg("stop"), arg("most"),
           "Greedy generation from one more token: the outputs, and whether there was no trouble.")
      .def("tokens", &GrowingStream::tokens, "The tokens so far.");
  module.def("rasp_has_fast_route", &fast_route, arg("compares"),
             "Whether a conjunction of these comparisons has a sub-quadratic route.");
  module.def("rasp_conjunction", &conjunction_into, arg("shape"), arg("lengths"), arg("causal"), arg("terms"),
             arg("value"), arg("reduction"), arg("rounding"), arg("fallback"), arg("real_fallback"), arg("out"),
             arg("sign"), arg("threads"),
             "Select-aggregate over a conjunction of (key, query, compare, predicate) terms.");
  module.def("rasp_table", &table_into, arg("shape"), arg("lengths"), arg("causal"), arg("table"), arg("value"),
             arg("reduction"), arg("rounding"), arg("fallback"), arg("real_fallback"), arg("out"), arg("sign"),
             arg("threads"), "Select-aggregate over a truth table of (key ids, query ids, truth).");
  module.def("rasp_formula", &formula_into, arg("shape"), arg("lengths"), arg("causal"), arg("terms"), arg("tables"),
             arg("formula"), arg("value"), arg("reduction"), arg("rounding"), arg("fallback"), arg("real_fallback"),
             arg("out"), arg("sign"), arg("threads"), "Select-aggregate over a postfix formula, every pair in blocks.");
  module.def("rasp_truth", &truth_of, arg("predicate"), arg("keys"), arg("queries"),
             "Truth table of a compiled predicate, by its address, and the index of a pair for which it failed.");
  module.def("rasp_finish", &finish_into, arg("shape"), arg("lengths"), arg("reduction"), arg("rounding"),
             arg("fallback"), arg("real_fallback"), arg("totals"), arg("out"),
             "Outputs from totals (count, sum, best).");
}

}  // namespace legato::python
