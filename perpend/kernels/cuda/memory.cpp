#include "perpend/kernels/cuda/memory.h"

#include <cuda_runtime_api.h>

#include "perpend/kernels/cuda/cuda_check.h"

namespace perpend {
namespace {

int num_devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  (void)cudaGetLastError();
  return 0;
}

void* allocate(std::size_t num_bytes, Device device) {
  cuda_check(cudaSetDevice(device.index), "memory");
  void* memory = nullptr;
  cuda_check(cudaMalloc(&memory, num_bytes), "memory");
  return memory;
}

void release(void* memory) { (void)cudaFree(memory); }

void upload(void* to, const void* from, std::size_t num_bytes) {
  cuda_check(cudaMemcpy(to, from, num_bytes, cudaMemcpyHostToDevice), "memory");
}

void download(void* to, const void* from, std::size_t num_bytes) {
  cuda_check(cudaMemcpy(to, from, num_bytes, cudaMemcpyDeviceToHost), "memory");
}

void clear(void* memory, std::size_t num_bytes) {
  cuda_check(cudaMemset(memory, 0, num_bytes), "memory");
  // Unlike a copy it is not over when it returns, and other streams do not wait for this one.
  cuda_check(cudaStreamSynchronize(nullptr), "memory");
}

}  // namespace

MemoryTable cuda_memory() { return {num_devices, allocate, release, upload, download, clear}; }

}  // namespace perpend
