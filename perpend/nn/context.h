#pragma once

#include "perpend/core/aligned_buffer.h"
#include "perpend/kernels/table.h"
#include "perpend/nn/workspace.h"
#include "perpend/ops/schedule_cache.h"

namespace perpend {

// What a layer needs besides its weights and its input. One for each thread that runs models; never
// shared between two passes that run at the same time.
struct Context {
  Device device;  // where weights and activations lie
  const KernelTable* kernels = nullptr;
  Stream stream;
  Workspace* workspace = nullptr;
  ScheduleCache* schedules = nullptr;
  AlignedBuffer linear_scratch;  // quantised activations
};

}  // namespace perpend
