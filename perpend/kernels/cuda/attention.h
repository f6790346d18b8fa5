#pragma once

#include "perpend/kernels/attention.h"

namespace perpend {

// The CUDA half of the table of attention; contracts as in perpend/kernels/attention.h. A sequence
// of a ragged batch begins where those before it end, as the plan has it. Values of v must be
// finite also where no query sees them: a row that shares a tile with others is multiplied by zero.
// Rows of a page behind the last key may hold anything.
// The first call of a plan copies it to the GPU, later ones allocate nothing, but for statistics of
// the queries in a backward pass, copies of operands that the copy engine can not load, and rows of
// lists that were cut to be added up.
bool cuda_attention_supports(const AttentionSpec& spec);
Tiling cuda_attention_tiling(const AttentionSpec& spec, Sweep sweep);
void cuda_attention_forward(const AttentionArgs& args, const Schedule& schedule, Stream stream);
PlanCapacity cuda_plan_capacity(const AttentionSpec& spec, const Schedule& schedule);
bool cuda_has_plans(Device device);
std::unique_ptr<AttentionPlan> cuda_make_plan(const AttentionSpec& spec,
                                              const PlanCapacity& capacity, Device device);
void cuda_attention_backward(const AttentionGradArgs& args, const Schedule& rows,
                             const Schedule& columns, Stream stream);

}  // namespace perpend
