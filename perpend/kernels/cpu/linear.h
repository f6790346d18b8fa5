#pragma once

#include "perpend/core/cpu_features.h"
#include "perpend/kernels/cpu/linear_micro.h"
#include "perpend/kernels/quantized.h"

namespace perpend {

const LinearMicro& linear_micro(CpuIsa isa);

// The product with the innermost loops of one instruction set; the table's entry uses the best one.
void cpu_linear(const LinearMicro& micro, const LinearArgs& args, Stream stream);

QuantizedTable cpu_quantized_table();

}  // namespace perpend
