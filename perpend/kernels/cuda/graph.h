#pragma once

#include <memory>

#include "perpend/core/device.h"
#include "perpend/core/function_ref.h"
#include "perpend/kernels/captured_graph.h"

namespace perpend {

// See KernelTable::capture.
std::unique_ptr<CapturedGraph> cuda_capture(Device device, Stream stream,
                                            FunctionRef<void()> launches);

}  // namespace perpend
