// Lets the .cuh files compile as C++ and run on the CPU: thread by thread, or for kernels whose threads wait for one
// another (__syncthreads) as threads of the CPU, among which ThreadSanitizer finds a barrier that is missing.
#pragma once

#include <barrier>
#include <thread>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(threads)

struct CudaPlace {
  unsigned x;
};
inline thread_local CudaPlace threadIdx{0}, blockIdx{0}, blockDim{1}, gridDim{1};
inline std::barrier<>* threads_of_a_block = nullptr;

inline void __syncthreads() { threads_of_a_block->arrive_and_wait(); }

/// Runs kernel(arguments...) for every thread of every block, one after another.
template <class Kernel, class... Arguments>
void launch_on_cpu(unsigned blocks, unsigned threads, Kernel kernel, Arguments... arguments) {
  gridDim.x = blocks;
  blockDim.x = threads;
  for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
    for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) kernel(arguments...);
  }
}

/// The same with the threads of a block beside one another, block after block.
template <class Kernel, class... Arguments>
void launch_together_on_cpu(unsigned blocks, unsigned threads, Kernel kernel, Arguments... arguments) {
  std::barrier<> barrier(threads);
  threads_of_a_block = &barrier;
  std::vector<std::jthread> running;
  for (unsigned thread = 0; thread < threads; ++thread) {
    running.emplace_back([=] {
      gridDim.x = blocks;
      blockDim.x = threads;
      threadIdx.x = thread;
      for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
        kernel(arguments...);
        __syncthreads();
      }
    });
  }
}

/// A launch as the driver has it: the addresses of the arguments, in order.
template <class... Arguments>
void launch_packed(bool together, unsigned blocks, unsigned threads, void (*kernel)(Arguments...), void** arguments) {
  [&]<std::size_t... kAt>(std::index_sequence<kAt...>) {
    const auto launch = [&](Arguments... values) {
      together ? launch_together_on_cpu(blocks, threads, kernel, values...)
               : launch_on_cpu(blocks, threads, kernel, values...);
    };
    launch(*static_cast<Arguments*>(arguments[kAt])...);
  }(std::index_sequence_for<Arguments...>{});
}
