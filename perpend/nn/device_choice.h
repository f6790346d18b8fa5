#pragma once

#include <string_view>

#include "perpend/core/device.h"

namespace perpend {

// The device that `text` names: "cpu", "cuda" (the first GPU), "cuda:N", or "auto": the first GPU
// where this build has kernels for it and this machine has one, otherwise the CPU. Throws
// InvalidArgument for any other text, Unsupported for a GPU that can not be used, saying why.
Device choose_device(std::string_view text);

// LibTorch's half for CUDA, which is linked to nothing, so that machines without its libraries can
// run the rest: loads it once. Throws Unsupported with the loader's reason.
void load_torch_cuda();

}  // namespace perpend
