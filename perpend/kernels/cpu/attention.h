#pragma once

#include "perpend/core/cpu_features.h"
#include "perpend/kernels/attention.h"
#include "perpend/kernels/cpu/few_rows_micro.h"
#include "perpend/kernels/cpu/tile_micro.h"

namespace perpend {

// The innermost loops of attention on one instruction set.
struct AttentionMicro {
  const FewRowsMicro& few_rows;
  const TileMicro<float>& floats;  // panels of f32, for all operands but bf16 ones where
  const TileMicro<float>& pairs;   // panels of bf16 are to be had; else the same as `floats`
  const TileMicro<double>& doubles;
};

const AttentionMicro& attention_micro(CpuIsa isa);

// The forward pass with the innermost loops of one instruction set; arguments are checked already.
void cpu_attention_forward(const AttentionMicro& micro, const AttentionArgs& args,
                           const Schedule& schedule, Stream stream);
// The backward pass likewise.
void cpu_attention_backward(const AttentionMicro& micro, const AttentionGradArgs& args,
                            const Schedule& rows, const Schedule& columns, Stream stream);

AttentionTable cpu_attention_table(CpuIsa isa);

}  // namespace perpend
