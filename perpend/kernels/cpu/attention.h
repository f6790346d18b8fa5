#pragma once

#include "perpend/core/cpu_features.h"
#include "perpend/kernels/attention.h"
#include "perpend/kernels/cpu/attention_micro.h"

namespace perpend {

const AttentionMicro& attention_micro(CpuIsa isa);

// The forward pass with the innermost loops of one instruction set; arguments are checked already.
void cpu_attention_forward(const AttentionMicro& micro, const AttentionArgs& args,
                           const Schedule& schedule, Stream stream);

AttentionTable cpu_attention_table();

}  // namespace perpend
