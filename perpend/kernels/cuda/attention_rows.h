#pragma once

#include "perpend/kernels/attention.h"
#include "perpend/kernels/cuda/device_schedule.h"
#include "perpend/kernels/cuda/launch.h"

namespace perpend {

// The forward kernel that takes the operands, with the items of `rows`, which has some. Arguments
// are checked already.
void launch_rows(const AttentionArgs& args, const DeviceRows& rows, const Launch& launch);

// The backward kernels that take the operands, of a batch of `shape`. Arguments are checked
// already.
void launch_gradients(const AttentionGradArgs& args, const AttentionShape& shape,
                      const DeviceRows& rows, const DeviceKeys& keys, const Launch& launch);

}  // namespace perpend
