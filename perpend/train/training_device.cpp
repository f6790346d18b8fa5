#include "perpend/train/training_device.h"

#include <ATen/Context.h>
#include <dlfcn.h>

#include "perpend/core/error.h"

namespace perpend {

Device open_training_device(const std::string& name) {
  if (name == "cpu") return {};
  // The program links to LibTorch's CPU library alone; the other registers itself when it is
  // loaded.
  const bool loaded = dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) != nullptr;
  if (!loaded || !at::globalContext().hasCUDA()) {
    throw Unsupported(concat("device ", name, ": LibTorch finds no GPU here (",
                             loaded ? "no device" : dlerror(), "); train on the cpu"));
  }
  return {DeviceType::kCuda, 0};
}

}  // namespace perpend
