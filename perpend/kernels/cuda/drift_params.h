#pragma once

#include "perpend/kernels/cuda/device/attention_drift_params.h"

namespace perpend {

// Of arguments that are checked; made without a GPU.
device::DriftParams drift_params(const AttentionDriftArgs& args);

}  // namespace perpend
