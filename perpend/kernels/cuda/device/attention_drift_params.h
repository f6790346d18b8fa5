#pragma once

#include <cstdint>

#include "perpend/kernels/attention_drift.h"

namespace perpend::device {

constexpr int kDriftThreads = 128;
constexpr int kDriftWarps = kDriftThreads / 32;
constexpr int kDriftRows = 16;       // that a warp takes together
constexpr int kDriftHeadsOfCta = 8;  // key/value heads, where those of a layer are shared out

// The largest score of some keys for a row and head, and the sum of exponentials below it.
struct DriftPart {
  float max;
  float sum;
};

// AttentionDriftArgs as the kernels read them. Rows are in one order everywhere: the window, the
// tracked rows with their new queries, the tracked rows with their old ones.
struct DriftParams {
  const std::uint16_t* queries;      // [layers, canvas, num_q_heads, head_dim]
  const std::uint16_t* old_queries;  // [layers, tracked, num_q_heads, head_dim]
  const std::uint16_t* k_pages;
  std::int64_t page_stride, row_stride, head_stride;  // of k_pages
  const std::uint16_t* old_keys;                      // [layers, changed, num_kv_heads, head_dim]
  const std::int32_t* page_tables;                    // [layers, pages]
  const std::int32_t* changed;                        // [canvas]
  const std::int32_t* window;
  const std::int32_t* tracked;
  std::int32_t num_layers, canvas, num_window, num_tracked, num_changed;
  std::int32_t num_q_heads, num_kv_heads, head_dim;
  std::int32_t page_size, pages;
  float scale;
  bool by_keys;
  DriftPart* parts;   // [layers, rows, num_q_heads, parts]
  float* lse;         // [layers, rows, num_q_heads]
  float* cosines;     // [layers, parts, tracked], by keys [layers, parts, tracked, num_q_heads, 3]
  float* attended;    // [layers, canvas]
  float* similarity;  // [layers]

  constexpr std::int32_t num_parts() const { return (canvas + kDriftKeys - 1) / kDriftKeys; }
  constexpr std::int32_t num_rows() const { return num_window + 2 * num_tracked; }
  constexpr std::int32_t group_size() const { return num_q_heads / num_kv_heads; }
  // CTAs of a layer and part in the first kernel.
  constexpr std::int32_t num_head_parts() const {
    return (num_kv_heads + kDriftHeadsOfCta - 1) / kDriftHeadsOfCta;
  }
};

}  // namespace perpend::device
