#pragma once

#include <span>

#include "perpend/kernels/quantized.h"

namespace perpend {

// The pack and gather_rows entries of the CPU's QuantizedTable.
PackedWeight cpu_pack(std::span<const WeightSource> sources, LinearMode mode, Stream stream);
void cpu_gather_rows(const PackedWeight& weight, std::span<const std::int32_t> rows, TensorView out,
                     Stream stream);

}  // namespace perpend
