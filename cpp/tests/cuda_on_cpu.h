// Lets the .cuh files compile as C++ and run thread by thread on the CPU. For kernels without __syncthreads().
#pragma once

#define __global__

struct CudaPlace {
  unsigned x;
};
inline thread_local CudaPlace threadIdx{0}, blockIdx{0}, blockDim{1}, gridDim{1};

/// Runs kernel(arguments...) for every thread of every block.
template <class Kernel, class... Arguments>
void launch_on_cpu(unsigned blocks, unsigned threads, Kernel kernel, Arguments... arguments) {
  gridDim.x = blocks;
  blockDim.x = threads;
  for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
    for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) kernel(arguments...);
  }
}
