#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "perpend/core/dtype.h"

namespace perpend {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Keys and values that follow each other: row r begins r * stride bytes after the pointer.
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
  int first_column = 0;  // of the keys at hand
};

// What changes the scores of packed rows (see ScoreChange); by default nothing.
struct RowScoreChange {
  float soft_cap = 0.0F;              // 0: none
  const float* slopes = nullptr;      // of each row; null: no bias
  const float* row_places = nullptr;  // positions of the rows
  float first_key = 0.0F;             // position of the first key at hand; others follow

  bool any() const { return soft_cap != 0.0F || slopes != nullptr; }
};

// head_dim rounded up to the widest vector.
constexpr int padded_dim(int head_dim) { return (head_dim + 15) / 16 * 16; }

// Attention of few query rows, without packing keys.
struct FewRowsMicro {
  // Adds `num_keys` keys to the state. q and o are [num_rows, padded_dim(head_dim)]; scratch holds
  // a row of scores for each row and four padded rows of keys.
  void (*add_tile_rows)(const PackedRows& rows, const float* q, const KvTile& tile, int num_keys,
                        const TileBits& bits, const RowScoreChange& change, float* scratch,
                        const SoftmaxState& state);
};

const FewRowsMicro& few_rows_micro_scalar();
const FewRowsMicro& few_rows_micro_avx2();
const FewRowsMicro& few_rows_micro_avx512();

}  // namespace perpend
