#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "allocations.h"
#include "legato/core.hpp"

// Every allocation of the test program passes here, so that a test can show that a run call makes none.
namespace {
std::atomic<long> allocations{0};
}
long allocation_count() { return allocations; }

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"  // both sides are replaced below
#endif

void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size > 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(size > 0 ? size : 1);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

int main(int argc, char** argv) {
  if (legato::isa_problem()[0] != '\0') {
    std::printf("skipped: %s\n", legato::isa_problem());
    return 77;
  }
  std::printf("instruction set: %s\n", legato::isa_name(legato::active_isa()));
  legato::set_work_of_helper(0);  // the threads that a test asks for, however little they have to do
  doctest::Context context(argc, argv);
  return context.run();
}
