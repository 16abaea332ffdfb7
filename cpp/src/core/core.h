// Internal side of the core: arena, ISA bookkeeping, interruption, chunked threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <thread>

#include "legato/core.hpp"

namespace legato {

/// Bump allocator over the caller's memory; every block starts on a cache line. With null memory it only counts,
/// so that one layout function serves both the size query and the real thing. Counts saturate: what would wrap has no
/// size and fits no memory.
class Arena {
 public:
  static constexpr std::size_t kAlign = 64;

  Arena() noexcept = default;
  explicit Arena(std::span<std::byte> memory) noexcept : memory_(memory) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
    used_ = static_cast<std::size_t>((kAlign - address % kAlign) % kAlign);  // below kAlign, so it fits
  }

  template <class T>
  T* take(Size count) noexcept {
    const std::size_t offset = used_.value();
    const Size bytes = count * sizeof(T) + (kAlign - 1);
    used_ = bytes.fits() ? used_ + bytes.value() / kAlign * kAlign : bytes;
    if (memory_.data() == nullptr || overflowed()) return nullptr;
    return reinterpret_cast<T*>(memory_.data() + offset);
  }

  /// A block of the size that a size function returned, 0 for none.
  std::span<std::byte> take_workspace(std::size_t size) noexcept {
    std::byte* block = take<std::byte>(size > 0 ? size : Size::kMost);
    return {block, block != nullptr ? size : 0};
  }

  bool overflowed() const noexcept { return !used_.fits() || used_.value() > memory_.size(); }
  /// Bytes to ask of the caller; one line more than taken, because the caller's pointer may be unaligned. 0 where no
  /// memory has so many.
  std::size_t size() const noexcept { return (used_ + kAlign).or_zero(); }

 private:
  std::span<std::byte> memory_{};
  Size used_ = 0;
};

/// Called by each compiled copy of a kernel with the ISA it was compiled for.
void note_isa(Isa isa) noexcept;

/// Whether the caller wants this run call to end. Asked between blocks of work; a loop that hears yes leaves, and its
/// run call returns outcome().
bool cancelled() noexcept;

/// Steps a long loop in stretches, and ends it where the run call is cancelled:
/// for (std::size_t t = 0, end = 0; goes_on(t, end, n);) for (; t < end; ++t) ...
inline bool goes_on(std::size_t at, std::size_t& end, std::size_t count, std::size_t stretch = 4096) noexcept {
  end = count - at < stretch ? count : at + stretch;
  return at < count && !cancelled();
}

/// cancelled, where a loop of this run call heard so, else ok.
Status outcome() noexcept;

/// The threads that help with one run call: they hear of its interruption, and while the calling thread waits for them
/// it goes on asking.
class Crew {
 public:
  explicit Crew(std::size_t helpers) noexcept;
  void join() noexcept;   // a helper's first act
  void leave() noexcept;  // and its last
  void wait() noexcept;   // of the calling thread: until all have left, or at once where nobody may interrupt

 private:
  Interruption* from_;
  std::mutex mutex_;
  std::condition_variable left_;
  std::size_t working_;
};

/// The homography that moves nothing, row by row.
inline constexpr double kIdentity[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};

/// The most threads of one run call.
constexpr std::size_t kMaxThreads = 64;

/// How many of `threads` threads work of so many nanoseconds is worth, this one included: each helper must have enough
/// to do to pay for its start.
std::size_t team_of(double nanoseconds, int threads) noexcept;

void note_helper() noexcept;  // for helpers_started()

/// Calls work(begin, end, worker) over [0, count) in chunks of `grain` items, on at most `threads` threads including
/// this one. An item takes about `item_ns` nanoseconds of one core: that decides how many threads are worth their
/// start, and nothing else; better too low than too high. The chunks depend on count and grain alone, never on the
/// thread count, and no thread is left behind; each goes to the thread that asks for it first, so a thread whose core
/// is busy does not hold up the others. Workers are numbered from 0, below `threads`.
/// Chunks are left out once the run call is cancelled.
template <class Work>
void for_chunks(std::size_t count, std::size_t grain, int threads, double item_ns, Work&& work) noexcept {
  grain = std::max<std::size_t>(grain, 1);
  const std::size_t chunks = count / grain + (count % grain != 0 ? 1 : 0);
  const std::size_t team = std::min(chunks, team_of(static_cast<double>(count) * item_ns, threads));
  std::atomic<std::size_t> next{0};
  const auto run = [&](std::size_t worker) {
    while (!cancelled()) {
      const std::size_t chunk = next.fetch_add(1, std::memory_order_relaxed);
      if (chunk >= chunks) return;
      work(chunk * grain, std::min(count, (chunk + 1) * grain), worker);
    }
  };
  if (team <= 1) return run(0);
  Crew crew(team - 1);
  const auto help = [&](std::size_t worker) {
    crew.join();
    run(worker);
    crew.leave();
  };
  std::thread helpers[kMaxThreads];
  for (std::size_t index = 1; index < team; ++index) {
    try {
      helpers[index] = std::thread(help, index);
      note_helper();
    } catch (...) {  // no thread to be had: the others do its share
      crew.leave();
    }
  }
  run(0);
  crew.wait();
  for (std::size_t index = 1; index < team; ++index) {
    if (helpers[index].joinable()) helpers[index].join();
  }
}

}  // namespace legato
