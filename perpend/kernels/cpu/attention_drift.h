#pragma once

#include "perpend/kernels/attention_drift.h"

namespace perpend {

void cpu_attention_drift(const AttentionDriftArgs& args, Stream stream);

}  // namespace perpend
