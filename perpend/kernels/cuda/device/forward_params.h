#pragma once

#include <cstdint>

#include "perpend/kernels/cuda/device/attention_image.h"

// What the forward kernels are given. All pointers are to memory of the device.

namespace perpend::device {

// A schedule's image (see ScheduleImage).
struct Lists {
  const Item* items;
  const Step* steps;
  const std::int32_t* sub_tiles;
  const std::uint32_t* bitmaps;
  std::int32_t num_items;
  std::int32_t group_size;  // query heads of a key/value head
  std::int32_t box_rows;    // rows of a gathered box
};

// Where a view's rows lie: strides in elements.
struct RowStrides {
  std::int64_t batch;
  std::int64_t token;
  std::int64_t head;
};

// An operand: [batch, tokens, heads, head_dim], or pages for the batch.
struct RowSource {
  const std::uint16_t* data;
  RowStrides strides;
  bool is_aligned;  // rows begin at multiples of 16 bytes and have whole chunks of them
};

struct PageTable {
  const std::int32_t* pages;  // [batch, stride]; null: keys are not paged
  std::int64_t stride;
  std::int32_t page_size;
};

struct Outputs {
  void* o;
  float* lse;  // null: not wanted
  RowStrides o_strides;
  RowStrides lse_strides;
  std::int32_t head_dim;  // columns that are written; the kernel may compute more
  bool o_is_f32;
  bool o_is_aligned;  // 16-bit rows begin at multiples of 16 bytes and have whole chunks of them
};

// Scores become factor * q k^T in units of log2; with changes, the cap and the bias come between.
struct Scores {
  float factor;               // scale * log2(e)
  float soft_cap;             // 0: none
  const float* alibi_slopes;  // [num_q_heads]; null: none
};

// Common to all forward kernels.
struct ForwardParams {
  Lists lists;
  Outputs outputs;
  Scores scores;
  bool q_is_ragged;  // tokens of all sequences one after another, without a batch axis
  bool kv_is_ragged;
};

}  // namespace perpend::device
