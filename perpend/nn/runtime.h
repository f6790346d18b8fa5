#pragma once

#include "perpend/nn/context.h"

namespace perpend {

// Owns what a Context borrows: host threads and activations; compiled schedules are the process's.
// One for each caller that runs models.
class Runtime {
 public:
  // On the CPU. num_threads 0: one for each core. LibTorch's own threads are held at one, since
  // kernels bring theirs.
  explicit Runtime(int num_threads = 0) : Runtime(Device{}, num_threads) {}
  // On a GPU all work is put on a stream of its own; the threads load weights and sample. Throws
  // Unsupported when LibTorch can not be used there.
  explicit Runtime(Device device, int num_threads = 0);

  Context& context() { return context_; }
  int num_threads() const { return threads_.num_threads(); }

 private:
  void use_gpu(Device device);

  ThreadPool threads_;
  Workspace workspace_;
  Context context_;
};

}  // namespace perpend
