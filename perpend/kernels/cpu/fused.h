#pragma once

#include "perpend/core/cpu_features.h"
#include "perpend/kernels/cpu/row_micro.h"
#include "perpend/kernels/table.h"

namespace perpend {

const RowMicro& row_micro(CpuIsa isa);

// The fused kernels with the loops of one instruction set, for tests; the table uses the best one.
void cpu_rms_norm(const RowMicro& micro, const RmsNormArgs& args, Stream stream);
void cpu_rotary_cache(const RowMicro& micro, const RotaryCacheArgs& args, Stream stream);
void cpu_gated_mlp(const RowMicro& micro, const GatedMlpArgs& args, Stream stream);
void cpu_vocabulary(const RowMicro& micro, const VocabularyArgs& args, Stream stream);

FusedTable cpu_fused_table();

}  // namespace perpend
