#pragma once

#include <cstdint>

#include "perpend/kernels/attention.h"
#include "perpend/kernels/cuda/device/forward_params.h"

// Operands of attention as the kernels are given them.

namespace perpend {

std::int64_t head_dim_of(const AttentionArgs& args);
float scale_of(const AttentionArgs& args);
device::Scores scores_of(const AttentionArgs& args);
// Whether more is done to a score than the kernels without changes do.
bool changes_scores(const device::Scores& scores);

device::RowStrides row_strides(const TensorView& view);
// lse: [batch, heads, tokens] or [heads, tokens].
device::RowStrides lse_strides(const TensorView& view);
// Whether all rows are whole chunks of 16 bytes at multiples of 16 bytes.
bool has_aligned_rows(const TensorView& view);
device::RowSource row_source(const TensorView& view);
// Null unless the keys are paged.
device::PageTable page_table(const AttentionArgs& args);
device::ForwardParams forward_params(const AttentionArgs& args, const device::Lists& lists);

// Throws InvalidArgument unless `slopes` are absent or dense.
void check_slopes(const TensorView& slopes);

// Throws Unsupported before compute capability 8.0.
bool check_is_hopper(int device);
int num_multiprocessors(int device);
int l2_bytes(int device);

}  // namespace perpend
