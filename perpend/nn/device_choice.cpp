#include "perpend/nn/device_choice.h"

#include <charconv>

#include <dlfcn.h>

#include "perpend/core/error.h"
#include "perpend/kernels/table.h"

namespace perpend {
namespace {

constexpr std::string_view kGpu = "cuda";

// -1 for a text that is no number of a GPU.
int gpu_index(std::string_view text) {
  if (text == kGpu) return 0;
  if (!text.starts_with("cuda:")) return -1;
  const std::string_view number = text.substr(kGpu.size() + 1);
  int index = -1;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), index);
  return error == std::errc() && end == number.data() + number.size() ? index : -1;
}

int num_gpus() {
  const auto count = cuda_kernels().memory.num_devices;
  return count == nullptr ? 0 : count();
}

}  // namespace

Device choose_device(std::string_view text) {
  if (text == "cpu") return {};
  if (text == "auto") return num_gpus() > 0 ? Device{DeviceType::kCuda, 0} : Device{};
  const int index = gpu_index(text);
  check(index >= 0, concat("device: expected cpu, cuda, cuda:N or auto (", text, ")"));
  if (cuda_kernels().memory.num_devices == nullptr) {
    throw Unsupported(concat("device ", text, ": this build has no CUDA kernels ",
                             "(they come with -DPERPEND_CUDA=ON; ./run adds it where it finds "
                             "nvcc and a GPU)"));
  }
  if (index >= num_gpus()) {
    throw Unsupported(concat("device ", text, ": this machine has ", num_gpus(), " usable GPUs"));
  }
  return {DeviceType::kCuda, index};
}

void load_torch_cuda() {
  static const std::string failure = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL);
    if (library != nullptr) return std::string();
    const char* reason = dlerror();
    return std::string(reason == nullptr ? "unknown reason" : reason);
  }();
  if (!failure.empty()) {
    throw Unsupported(
        concat("device cuda: LibTorch's CUDA libraries can not be loaded: ", failure));
  }
}

}  // namespace perpend
