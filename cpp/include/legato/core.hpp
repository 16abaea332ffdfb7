// Legato's core surface: what every family shares. No allocation, no exceptions, no globals the caller can see.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

// What stands between these two is what a shared library exports. In a static one it is hidden like the rest: a module
// that holds a copy of the core does not hand it on.
#if defined(LEGATO_EXPORTS)
#define LEGATO_SURFACE_BEGIN _Pragma("GCC visibility push(default)")
#define LEGATO_SURFACE_END _Pragma("GCC visibility pop")
#else
#define LEGATO_SURFACE_BEGIN
#define LEGATO_SURFACE_END
#endif

LEGATO_SURFACE_BEGIN

namespace legato {

/// Outcome of a run call. Each face turns it into its own kind of error, once.
enum class Status : int {
  ok = 0,
  invalid_argument = 1,     ///< a size, an option or a combination that makes no sense
  not_finite = 2,           ///< NaN or infinity in the input
  singular = 3,             ///< a matrix that must be invertible is not
  no_principal_log = 4,     ///< a homography without a principal logarithm
  workspace_too_small = 5,  ///< the caller's memory is smaller than the size function says
  infeasible = 6,           ///< the constraints exclude every path
  iteration_limit = 7,      ///< stopped early; the result is feasible and its gap is certified
  numerical_trouble = 8,    ///< the factorization broke down; the iterate of the least gap is returned
  call_failed = 9,          ///< a function of the caller said that it failed
  cancelled = 10,           ///< an Interruption of this thread said so; outputs are partly written
};

/// One English sentence, static storage.
const char* status_text(Status status) noexcept;

/// A number of bytes or of items that perhaps no memory holds. Sums and products saturate where they would wrap, and a
/// size that has saturated stays so; it equals no number.
class Size {
 public:
  static constexpr std::size_t kMost = PTRDIFF_MAX;  // of an object, in bytes

  constexpr Size(std::size_t value) noexcept : value_(value < kMost ? value : kMost) {}

  constexpr bool fits() const noexcept { return value_ < kMost; }
  constexpr bool is(std::size_t number) const noexcept { return fits() && value_ == number; }
  /// What it is where it fits, else kMost.
  constexpr std::size_t value() const noexcept { return value_; }
  /// The same for a size function, which says 0 for "there is no such size".
  constexpr std::size_t or_zero() const noexcept { return fits() ? value_ : 0; }

  friend constexpr Size operator+(Size a, Size b) noexcept { return a.value_ + b.value_; }  // at most SIZE_MAX - 1
  friend constexpr Size operator*(Size a, Size b) noexcept {
    if (!a.fits() || !b.fits() || (b.value_ != 0 && a.value_ > kMost / b.value_)) return kMost;
    return a.value_ * b.value_;
  }

 private:
  std::size_t value_;
};

/// Whether `n` items of `numbers` numbers of type T each fit into memory.
template <class T>
constexpr bool fits_memory(std::size_t n, std::size_t numbers = 1) noexcept {
  return (Size{n} * numbers * sizeof(T)).fits();
}

/// Whether a workspace has the bytes that a size function returned, which is 0 where none has.
inline bool is_enough(std::span<const std::byte> workspace, std::size_t size) noexcept {
  return size > 0 && workspace.size() >= size;
}

/// A way to stop long run calls. While one lives, the run calls of its thread ask it between blocks of work, tens of
/// microseconds to some milliseconds apart, and once `asked` returns true they return Status::cancelled. `asked` is
/// called on this thread alone, whatever number of threads a run call has. Without one, nothing is ever asked. The last
/// one made counts, and they end in reverse order.
class Interruption {
 public:
  using Asked = bool (*)(void* context) noexcept;

  Interruption(Asked asked, void* context) noexcept;
  ~Interruption();
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;

  /// Whether a run call has been told to stop; asks nothing.
  bool stopped() const noexcept { return stopped_.load(std::memory_order_relaxed); }

 private:
  friend bool cancelled() noexcept;

  Asked asked_;
  void* context_;
  Interruption* outer_;
  std::atomic<bool> stopped_{false};
};

/// A run call with `threads` starts so many helper threads at most, and only as many as have this much work each, in
/// nanoseconds by the kernel's own estimate: small work stays on the calling thread.
constexpr double kWorkOfHelper = 300e3;

/// Sets another amount for the process; with 0 every thread asked for is started. For tests.
void set_work_of_helper(double nanoseconds) noexcept;

/// The helper threads that run calls of this process have started so far.
std::uint64_t helpers_started() noexcept;

/// Instruction sets a kernel may be compiled for. Order: each one contains those before it.
enum class Isa : int { baseline = 0, avx2 = 1, avx512 = 2 };

const char* isa_name(Isa isa) noexcept;

/// The best instruction set that both this build and this processor have.
Isa best_isa() noexcept;

/// The instruction set the kernels run: best_isa(), or what LEGATO_ISA names (read once, at the first use).
Isa active_isa() noexcept;

/// Empty, or why the value of LEGATO_ISA cannot be obeyed (active_isa() is then best_isa()).
const char* isa_problem() noexcept;

/// The instruction set of the kernel copy that ran last in this thread. Tests use it to prove a forced branch.
Isa last_isa() noexcept;

/// "0.1.0"
const char* version() noexcept;

/// Compiler and build flags, for reports.
const char* build_text() noexcept;

}  // namespace legato

LEGATO_SURFACE_END
