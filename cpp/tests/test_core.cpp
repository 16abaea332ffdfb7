#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "core/core.h"

using namespace legato;

TEST_CASE("the arena aligns, counts what it hands out, and notices when memory runs out") {
  Arena counter;
  counter.take<double>(3);
  counter.take<char>(65);
  const std::size_t size = counter.size();
  for (std::size_t shift = 0; shift < 70; ++shift) {  // a caller's pointer may have any alignment
    std::vector<std::byte> memory(size + shift);
    const std::span<std::byte> shifted = std::span(memory).subspan(shift);
    Arena arena{shifted};
    double* a = arena.take<double>(3);
    char* b = arena.take<char>(65);
    REQUIRE(a != nullptr);
    REQUIRE(b != nullptr);
    CHECK(reinterpret_cast<std::uintptr_t>(a) % Arena::kAlign == 0);
    CHECK(reinterpret_cast<std::uintptr_t>(b) % Arena::kAlign == 0);
    CHECK(reinterpret_cast<char*>(a + 3) <= b);
    CHECK(reinterpret_cast<std::byte*>(b + 65) <= memory.data() + memory.size());
    CHECK_FALSE(arena.overflowed());
    arena.take<char>(100);
    CHECK(arena.overflowed());
  }
}

TEST_CASE("sizes saturate where they would wrap") {
  constexpr std::size_t most = Size::kMost, half = std::size_t{1} << (4 * sizeof(std::size_t));
  static_assert((Size{3} * 5 + 7).is(22));
  CHECK_FALSE((Size{half} * half).fits());  // 0 where it wraps
  CHECK_FALSE((Size{most} + most).fits());
  CHECK_FALSE((Size{half} * half * 0).fits());
  CHECK((Size{half} * 0).is(0));
  CHECK_FALSE((Size{most} + 1).is(most));
  CHECK((Size{half} * half).or_zero() == 0);
  CHECK(fits_memory<double>(most / 8 - 1));
  CHECK_FALSE(fits_memory<double>(most / 8 + 1));
  Arena counter;
  counter.take<double>(Size{half} * half);
  counter.take<char>(1);
  CHECK(counter.size() == 0);
  std::vector<std::byte> memory(1000);
  Arena arena{memory};
  CHECK(arena.take<double>(Size{half} * half) == nullptr);
  CHECK(arena.take<char>(1) == nullptr);
  CHECK(arena.overflowed());
  Arena nested{memory};
  CHECK(nested.take_workspace(100).size() == 100);
  CHECK(nested.take_workspace(0).empty());  // a size function that found none
  CHECK(nested.overflowed());
}

TEST_CASE("chunks cover the range once, whatever the number of threads") {
  for (std::size_t count : {0u, 1u, 7u, 64u, 1000u}) {
    for (int threads : {1, 2, 3, 100}) {
      std::vector<std::atomic<int>> seen(count);
      for_chunks(count, 13, threads, 0, [&](std::size_t begin, std::size_t end, std::size_t worker) {
        CHECK(worker < static_cast<std::size_t>(threads));
        CHECK(begin % 13 == 0);
        CHECK(end - begin <= 13);
        for (std::size_t i = begin; i < end; ++i) ++seen[i];
      });
      for (const auto& times : seen) CHECK(times == 1);
    }
  }
}

TEST_CASE("a helper is started where its work pays for it") {
  const auto helpers_of = [](std::size_t count, double item_ns, int threads) {
    const std::uint64_t before = helpers_started();
    for_chunks(count, 1, threads, item_ns, [](std::size_t, std::size_t, std::size_t) {});
    return helpers_started() - before;
  };
  set_work_of_helper(kWorkOfHelper);
  CHECK(helpers_of(100, 0.99 * kWorkOfHelper / 100, 4) == 0);
  CHECK(helpers_of(100, 1.01 * kWorkOfHelper / 100, 4) == 1);
  CHECK(helpers_of(100, 2.01 * kWorkOfHelper / 100, 4) == 2);
  CHECK(helpers_of(100, kWorkOfHelper, 4) == 3);
  CHECK(helpers_of(100, 1e300, 1) == 0);
  CHECK(helpers_of(2, 1e300, 1000) == 1);  // as many as there are chunks
  set_work_of_helper(0);
  CHECK(helpers_of(100, 0, 4) == 3);
  CHECK(helpers_of(1000, 0, 1000) == kMaxThreads - 1);
}

TEST_CASE("an interruption leaves out what has not begun, on every thread, and ends with its object") {
  for (int threads : {1, 2, 5}) {
    int asked = 0;
    std::atomic<int> chunks{0};
    {
      const Interruption stop([](void* count) noexcept { return ++*static_cast<int*>(count) > 3; }, &asked);
      const std::thread::id asker = std::this_thread::get_id();
      for_chunks(1000, 1, threads, 0, [&](std::size_t, std::size_t, std::size_t) {
        ++chunks;
        while (std::this_thread::get_id() != asker && !cancelled()) std::this_thread::yield();  // or they take them all
      });
      CHECK(stop.stopped());
      CHECK(outcome() == Status::cancelled);
      CHECK(cancelled());
      CHECK(asked == 4);  // once it is stopped nobody asks again
    }
    CHECK(chunks < 1000);
    CHECK(outcome() == Status::ok);
    CHECK_FALSE(cancelled());
  }
}

TEST_CASE("LEGATO_ISA is obeyed") {
  if (const char* wanted = std::getenv("LEGATO_ISA"); wanted != nullptr && *wanted != '\0') {
    CHECK(std::strcmp(isa_name(active_isa()), wanted) == 0);
  } else {
    CHECK(active_isa() == best_isa());
  }
  if (const char* expected = std::getenv("LEGATO_EXPECT_ISA")) CHECK(std::strcmp(isa_name(best_isa()), expected) == 0);
}

TEST_CASE("every status has a text") {
  for (int code = 0; code <= 9; ++code)
    CHECK(std::strcmp(status_text(static_cast<Status>(code)), "unknown status") != 0);
  CHECK(std::strcmp(status_text(static_cast<Status>(99)), "unknown status") == 0);
}
