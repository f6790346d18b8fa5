#pragma once

#include <cstdint>

#include "perpend/core/dtype.h"
#include "perpend/kernels/cuda/device/gradient_params.h"

namespace perpend::device {

// The statistics of queries from what forward left.
struct StatisticsParams {
  const void* o;  // dtype of d_o
  const void* d_o;
  const float* lse;
  const float* d_lse;  // null: zero
  RowStrides o_strides;
  RowStrides d_o_strides;
  RowStrides lse_strides;
  RowStrides d_lse_strides;
  const std::int32_t* q_indptr;  // [num_sequences + 1] of the plan
  std::int32_t num_sequences;
  std::int32_t num_heads;
  std::int32_t head_dim;
  bool is_ragged;   // tokens without a batch axis
  bool is_aligned;  // rows of o and d_o are whole chunks of 16 bytes
  Statistics statistics;
};

// Rows of another form, as the copy engine takes them.
struct RepackParams {
  const void* from;
  RowStrides strides;
  std::uint16_t* to;  // [batch, tokens, heads, padded_dim], zero behind head_dim
  std::int64_t batch;
  std::int64_t tokens;
  std::int32_t heads;
  std::int32_t head_dim;
  std::int32_t padded_dim;
};

// dq from the sums of a fused pass.
struct QueryGradientParams {
  QuerySums sums;
  GradientOutput dq;
  float scale;
  std::int64_t q_len;  // of each sequence of a dense batch; all queries of a ragged one
  std::int32_t num_heads;
  std::int32_t head_dim;
  std::int32_t panel_columns;
};

}  // namespace perpend::device
