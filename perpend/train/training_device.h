#pragma once

#include <string>

#include "perpend/core/device.h"

namespace perpend {

// The device of that name, "cpu" or "cuda", ready for LibTorch's tensors. Throws Unsupported where
// this machine has none or this LibTorch can not use it.
Device open_training_device(const std::string& name);

}  // namespace perpend
