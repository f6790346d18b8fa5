#pragma once

#include <cstdint>

#include "perpend/kernels/drift_split.h"

namespace perpend::device {

constexpr int kDriftThreads = 128;
constexpr int kDriftMeansThreads = 512;
static_assert(kDriftThreads / 32 * kDriftWarpKeys == kDriftKeys);

// The largest score of some keys for a row and head, and the sum of powers of 2 below it.
struct DriftPart {
  float max;
  float sum;
};

// AttentionDriftArgs as the kernels read them.
struct DriftParams {
  DriftSplit split;
  const std::uint16_t* queries;      // [layers, canvas, num_q_heads, head_dim]
  const std::uint16_t* old_queries;  // [layers, tracked, num_q_heads, head_dim]
  const std::uint16_t* k_pages;
  std::int64_t page_stride, row_stride, head_stride;  // of k_pages
  const std::uint16_t* old_keys;                      // [layers, changed, num_kv_heads, head_dim]
  const std::int32_t* page_tables;                    // [layers, pages]
  const std::int32_t* changed;                        // [changed]
  const std::int32_t* window;
  const std::int32_t* tracked;
  std::int32_t num_kv_heads, head_dim;
  std::int32_t page_size, pages;
  float scale;  // of products, so that weights are powers of 2
  // As DriftSplit says.
  DriftPart* parts;
  float* products;
  float* weight_sums;
  float* old_scores;
  float* cosines;
  unsigned* counters;
  float* attended;    // [layers, canvas]
  float* similarity;  // [layers]
};

}  // namespace perpend::device
