#pragma once

#include "perpend/kernels/attention.h"
#include "perpend/kernels/cuda/device_schedule.h"
#include "perpend/kernels/cuda/launch.h"

namespace perpend {

// The forward kernel that takes the operands, with the items of `rows`, which has some. Arguments
// are checked already.
void launch_rows(const AttentionArgs& args, const DeviceSchedule& rows, const Launch& launch);

}  // namespace perpend
