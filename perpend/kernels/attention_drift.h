#pragma once

#include <cstdint>

#include "perpend/core/stream.h"
#include "perpend/core/tensor_view.h"

namespace perpend {

// How the attention of a few rows changed in a step that computed some rows of a canvas anew, and
// what others look at: what Elastic-Cache decides by (arXiv:2510.14973, sections 2.1 and 2.2), of
// several layers at once. With the softmax over all keys of the canvas, no mask,
//   before(l, t, h, j)  weight of key j for the old query of tracked row t and the old keys
//   after(l, r, h, j)   weight of key j for the query of row r and the keys as they are now
//   attended(l, j)      = sum over window rows r and heads h of after(l, r, h, j)
//   similarity(l)       = mean of the cosines of before and after of the tracked rows: over heads
//                         for each (t, j), or, by_keys, over keys for each (t, h); 1 for a zero
//                         vector
//   queries      [layers, canvas, num_q_heads, head_dim] f32, f16 or bf16, dense
//   old_queries  [layers, tracked, num_q_heads, head_dim] as queries; absent where none is tracked,
//                and then the fields below down to `tracked` too
//   old_keys     [layers, changed, num_kv_heads, head_dim] as queries: of rows whose keys changed;
//                absent where none did, and then `changed` too
//   changed      [changed] i32, rows of the canvas, each once
//   tracked      [tracked] i32, rows of the canvas
//   window       [window] i32, rows of the canvas, at least one
//   k_pages      [num_pages, page_size, num_kv_heads, head_dim] f32, f16 or bf16, rows dense
//   page_tables  [layers, pages] i32, dense, pages * page_size >= canvas
//   statistics   f32, at least drift_statistics() values, written
//   attended     [layers, canvas] f32, dense, written
//   similarity   [layers] f32, written; 1 where nothing is tracked
// Arrays of i32 and f32 lie where the queries do. num_q_heads % num_kv_heads == 0. Sums in f32, in
// a fixed order: equal bits from run to run and for any number of threads. A GPU takes f16 and bf16
// of one type, pages of a multiple of 64 rows and a head_dim that is a multiple of 16, up to 128.
struct AttentionDriftArgs {
  TensorView queries;
  TensorView old_queries = {};
  TensorView old_keys = {};
  TensorView changed = {};
  TensorView tracked = {};
  TensorView window;
  TensorView k_pages;
  TensorView page_tables;
  TensorView statistics;
  TensorView attended;
  TensorView similarity;
  bool by_keys = false;
  float scale = 0.0F;  // 0 means 1 / sqrt(head_dim)

  std::int64_t num_layers() const { return queries.size(0); }
  std::int64_t canvas() const { return queries.size(1); }
  int num_q_heads() const { return static_cast<int>(queries.size(2)); }
  int num_kv_heads() const { return static_cast<int>(k_pages.size(2)); }
  std::int64_t num_window() const { return window.size(0); }
  std::int64_t num_tracked() const { return tracked ? tracked.size(0) : 0; }
  std::int64_t num_changed() const { return changed ? changed.size(0) : 0; }
};

// Values that `statistics` must have room for.
std::int64_t drift_statistics(const AttentionDriftArgs& args);

}  // namespace perpend
