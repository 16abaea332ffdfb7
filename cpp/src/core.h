// Internal side of the core: arena, ISA bookkeeping, chunked threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
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

/// Calls work(begin, end) over [0, count) in chunks, on `threads` threads including this one; `grain` items at least
/// a thread. The chunks depend on count and grain alone, never on the thread count, and no thread is left behind.
template <class Work>
void for_chunks(std::size_t count, std::size_t grain, int threads, Work&& work) noexcept {
  grain = std::max<std::size_t>(grain, 1);
  const std::size_t chunks = (count + grain - 1) / grain;
  constexpr std::size_t kMaxThreads = 64;
  const std::size_t team = std::min({chunks, static_cast<std::size_t>(std::max(threads, 1)), kMaxThreads});
  const auto run = [&](std::size_t first) {
    for (std::size_t chunk = first; chunk < chunks; chunk += team) {
      const std::size_t begin = chunk * grain;
      work(begin, std::min(count, begin + grain));
    }
  };
  std::thread helpers[kMaxThreads];
  for (std::size_t index = 1; index < team; ++index) {
    try {
      helpers[index] = std::thread(run, index);
    } catch (...) {  // no thread to be had: this one does the share
      run(index);
    }
  }
  if (team > 0) run(0);
  for (std::size_t index = 1; index < team; ++index) {
    if (helpers[index].joinable()) helpers[index].join();
  }
}

}  // namespace legato
