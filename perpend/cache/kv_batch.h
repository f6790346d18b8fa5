#pragma once

#include <cstdint>
#include <span>

#include "perpend/cache/kv_sequence.h"
#include "perpend/core/tensor_view.h"

namespace perpend {

// The rows of one sequence in a forward pass: its tokens [begin, begin + count), already appended.
struct KvRows {
  const KvSequence* sequence = nullptr;
  std::int64_t begin = 0;
  std::int64_t count = 0;
  // Keys that its mask is over, those behind its rows as an earlier pass left them; 0: up to its
  // last row.
  std::int64_t num_keys = 0;

  std::int64_t end() const { return begin + count; }
  std::int64_t kv_len() const { return num_keys == 0 ? end() : num_keys; }
};

// What the kernels of one layer need of the cache for a ragged batch.
struct KvLayerView {
  TensorView k_pages;  // [num_pages, page_size, num_kv_heads, head_dim]
  TensorView v_pages;
  TensorView page_table;  // [batch, max_pages] i32
  TensorView slots;       // [rows] i64, where each row's key and value go
};

// Entries of the longest page table.
std::int64_t max_pages(std::span<const KvRows> batch);

// The page tables of one layer, filled up with KvSequence::kNoPage: [batch, num_pages]. No table
// may be longer.
void write_page_tables(std::span<const KvRows> batch, int layer, std::int64_t num_pages,
                       std::int32_t* to);
// The slots of all rows in one layer: [rows]. `places` of the rows in their sequences, if they do
// not stand one after another.
void write_slots(std::span<const KvRows> batch, int layer, std::span<const std::int32_t> places,
                 std::int64_t* to);

}  // namespace perpend
