#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "perpend/core/dtype.h"
#include "perpend/schedule/schedule.h"

namespace perpend {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Keys and values of one tile: row r begins r * stride bytes after the pointer.
struct KvTile {
  const std::byte* k = nullptr;
  const std::byte* v = nullptr;
  std::int64_t k_stride = 0;
  std::int64_t v_stride = 0;
};

// Query rows of one work item, packed as f32: row h * q_rows + i is query i of the item's head h,
// times scale * log2(e), so that the loops exponentiate with base 2.
struct PackedRows {
  int num_rows = 0;
  int q_rows = 0;
  int head_dim = 0;
  DType kv_dtype = DType::kF32;
};

// Online softmax of packed rows: after all tiles o / row_sum is the output.
struct SoftmaxState {
  float* row_max = nullptr;  // base 2
  float* row_sum = nullptr;
  float* o = nullptr;
};

// Where the bits of a partial tile lie; null for a full one.
struct TileBits {
  const std::uint64_t* words = nullptr;  // row i of the item at words + i * words_per_row
  int words_per_row = 0;
};

// The innermost loops of one instruction set: adds one tile of `num_keys` keys to the state.
struct AttentionMicro {
  int row_width;  // rows of the transposed layout are a multiple of it
  // Many rows: q is [head_dim, stride], o is [head_dim, stride] (rows across), stride a multiple of
  // row_width; scratch holds num_keys * (2 * head_dim + stride) floats.
  void (*add_tile_transposed)(const PackedRows& rows, int stride, const float* q,
                              const KvTile& tile, int num_keys, const TileBits& bits,
                              float* scratch, const SoftmaxState& state);
  // Few rows: q and o are [num_rows, padded_dim(head_dim)]; scratch holds a row of scores for each
  // row
  // and four padded rows of keys.
  void (*add_tile_rows)(const PackedRows& rows, const float* q, const KvTile& tile, int num_keys,
                        const TileBits& bits, float* scratch, const SoftmaxState& state);
};

// head_dim rounded up to the widest vector.
constexpr int padded_dim(int head_dim) { return (head_dim + 15) / 16 * 16; }

const AttentionMicro& attention_micro_scalar();
const AttentionMicro& attention_micro_avx2();
const AttentionMicro& attention_micro_avx512();

}  // namespace perpend
