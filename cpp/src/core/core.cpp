#include "core/core.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>

#ifndef LEGATO_VERSION
#error "LEGATO_VERSION comes from CMakeLists.txt"
#endif

namespace legato {
namespace {

thread_local Isa last = Isa::baseline;
thread_local Interruption* interruption = nullptr;
thread_local bool helping = false;  // another thread's run call: it asks

// To start and to join a thread costs some 70 microseconds of the caller's: with this much each, two threads take two
// thirds of one's time, and not longer than one where the work was taken for twice what it is.
std::atomic<double> work_of_helper{kWorkOfHelper};
std::atomic<std::uint64_t> started{0};

Isa detect() noexcept {
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  if (avx2 && avx512) return Isa::avx512;
  if (avx2) return Isa::avx2;
#endif
  return Isa::baseline;
}

struct Choice {
  Isa active;
  const char* problem;
};

Choice choose() noexcept {
  const Isa best = best_isa();
  const char* wanted = std::getenv("LEGATO_ISA");
  if (wanted == nullptr || *wanted == '\0') return {best, ""};
  for (const Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    if (std::strcmp(wanted, isa_name(isa)) == 0) {
      if (isa <= best) return {isa, ""};
      return {best, "LEGATO_ISA names an instruction set that this processor lacks"};
    }
  }
  return {best, "LEGATO_ISA: expected baseline, avx2 or avx512"};
}

const Choice& choice() noexcept {
  static const Choice made = choose();
  return made;
}

}  // namespace

const char* status_text(Status status) noexcept {
  switch (status) {
    case Status::ok:
      return "done";
    case Status::invalid_argument:
      return "an argument has a size or a value that makes no sense";
    case Status::not_finite:
      return "the input holds NaN or infinity";
    case Status::singular:
      return "a matrix that must be invertible is singular";
    case Status::no_principal_log:
      return "a homography has no principal logarithm";
    case Status::workspace_too_small:
      return "the workspace is smaller than its size function says";
    case Status::infeasible:
      return "the constraints exclude every path";
    case Status::iteration_limit:
      return "stopped at the iteration limit with a feasible path";
    case Status::numerical_trouble:
      return "the factorization broke down";
    case Status::call_failed:
      return "a function of the caller failed";
    case Status::cancelled:
      return "stopped by the caller";
  }
  return "unknown status";
}

Interruption::Interruption(Asked asked, void* context) noexcept
    : asked_(asked), context_(context), outer_(interruption) {
  interruption = this;
}

Interruption::~Interruption() { interruption = outer_; }

bool cancelled() noexcept {
  Interruption* const by = interruption;
  if (by == nullptr) return false;
  if (by->stopped()) return true;
  if (helping || !by->asked_(by->context_)) return false;
  by->stopped_.store(true, std::memory_order_relaxed);
  return true;
}

Status outcome() noexcept {
  return interruption != nullptr && interruption->stopped() ? Status::cancelled : Status::ok;
}

void set_work_of_helper(double nanoseconds) noexcept { work_of_helper.store(nanoseconds, std::memory_order_relaxed); }

std::uint64_t helpers_started() noexcept { return started.load(std::memory_order_relaxed); }
void note_helper() noexcept { started.fetch_add(1, std::memory_order_relaxed); }

std::size_t team_of(double nanoseconds, int threads) noexcept {
  const std::size_t most = std::min(static_cast<std::size_t>(std::max(threads, 1)), kMaxThreads);
  const double each = work_of_helper.load(std::memory_order_relaxed);
  if (!(nanoseconds < each * static_cast<double>(most - 1))) return most;
  return 1 + static_cast<std::size_t>(nanoseconds / each);
}

Crew::Crew(std::size_t helpers) noexcept : from_(interruption), working_(helpers) {}

void Crew::join() noexcept {
  interruption = from_;
  helping = true;
}

void Crew::leave() noexcept {
  const std::lock_guard lock(mutex_);
  if (--working_ == 0) left_.notify_one();
}

void Crew::wait() noexcept {
  if (from_ == nullptr) return;
  std::unique_lock lock(mutex_);
  while (!left_.wait_for(lock, std::chrono::milliseconds(20), [&] { return working_ == 0; })) {
    lock.unlock();
    cancelled();
    lock.lock();
  }
}

const char* isa_name(Isa isa) noexcept {
  switch (isa) {
    case Isa::baseline:
      return "baseline";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
  }
  return "unknown";
}

Isa best_isa() noexcept {
  static const Isa best = detect();
  return best;
}

Isa active_isa() noexcept { return choice().active; }
const char* isa_problem() noexcept { return choice().problem; }
Isa last_isa() noexcept { return last; }
void note_isa(Isa isa) noexcept { last = isa; }

const char* version() noexcept { return LEGATO_VERSION; }

const char* build_text() noexcept {
  return
#if defined(__clang__)
      "clang " __clang_version__
#elif defined(__GNUC__)
      "gcc " __VERSION__
#else
      "unknown compiler"
#endif
#if defined(__x86_64__)
      ", x86-64"
#elif defined(__aarch64__)
      ", aarch64"
#endif
#ifdef NDEBUG
      ", optimized";
#else
      ", with assertions";
#endif
}

}  // namespace legato
