#include "perpend/nn/runtime.h"

#include <ATen/Parallel.h>

namespace perpend {

Runtime::Runtime(int num_threads) : threads_(num_threads) {
  at::set_num_threads(1);
  context_.kernels = &cpu_kernels();
  context_.stream.threads = &threads_;
  context_.workspace = &workspace_;
  context_.schedules = &schedule_cache();
}

}  // namespace perpend
