#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "perpend/cache/kv_sequence.h"
#include "perpend/core/tensor_view.h"

namespace perpend {

// The rows of one sequence in a forward pass: its tokens [begin, begin + count), already appended.
struct KvRows {
  const KvSequence* sequence = nullptr;
  std::int64_t begin = 0;
  std::int64_t count = 0;
};

// What the kernels of one layer need of the cache for a ragged batch.
struct KvLayerView {
  TensorView k_pages;  // [num_pages, page_size, num_kv_heads, head_dim]
  TensorView v_pages;
  TensorView page_table;  // [batch, max_pages] i32
  TensorView slots;       // [rows] i64, where each row's key and value go
};

// Gathers page tables and slots of several sequences, layer by layer. Keeps its memory from call to
// call; the view is valid until the next call of layer().
class KvBatch {
 public:
  void assign(std::span<const KvRows> rows) { rows_.assign(rows.begin(), rows.end()); }
  KvLayerView layer(int index);

 private:
  std::vector<KvRows> rows_;
  std::vector<std::int32_t> page_table_;
  std::vector<std::int64_t> slots_;
};

}  // namespace perpend
