#pragma once

#include <c10/core/StreamGuard.h>

#include "perpend/nn/context.h"

namespace perpend {

// Makes the device and stream of a context those of LibTorch's calls of this thread, for a scope.
class DeviceScope {
 public:
  explicit DeviceScope(const Context& context) : guard_(context.torch_stream) {}

 private:
  c10::OptionalStreamGuard guard_;
};

}  // namespace perpend
