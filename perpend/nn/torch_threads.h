#pragma once

#include <ATen/Parallel.h>

#include "perpend/nn/runtime.h"

namespace perpend {

// Lends LibTorch the host threads of `runtime`, which inference holds back: for training and other
// passes that are made of LibTorch's operations. On a GPU it keeps its one. The host has
// microseconds of work there, and an operation of a few ten thousand values would wake all threads,
// wait for each of them and leave them spinning.
inline void lend_threads_to_torch(Runtime& runtime) {
  if (runtime.context().device.type == DeviceType::kCpu) {
    at::set_num_threads(runtime.num_threads());
  }
}

}  // namespace perpend
