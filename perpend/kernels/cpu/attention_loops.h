#pragma once

#include <cstring>

#include "perpend/kernels/cpu/attention_micro.h"
#include "perpend/kernels/cpu/vector_math.h"

// The loops of attention over a vector type. Included by one source file for each instruction set;
// everything is a template on that set's Vec, so that no two sets share code.

namespace perpend {

template <class Vec>
Vec load_as_f32(DType dtype, const std::byte* row, int index) {
  if (dtype == DType::kF32) return Vec::load(reinterpret_cast<const float*>(row) + index);
  const auto* half = reinterpret_cast<const std::uint16_t*>(row) + index;
  return dtype == DType::kF16 ? Vec::load_f16(half) : Vec::load_bf16(half);
}

// to[0 .. count) = row as f32; what lies beyond `count` up to a whole vector is set to zero.
template <class Vec>
void convert_row(DType dtype, const std::byte* row, int count, float* to) {
  int i = 0;
  for (; i + Vec::kWidth <= count; i += Vec::kWidth) load_as_f32<Vec>(dtype, row, i).store(to + i);
  if (i == count) return;
  alignas(64) std::byte tail[Vec::kWidth * 4] = {};
  const std::size_t bytes = dtype == DType::kF32 ? 4 : 2;
  std::memcpy(tail, row + static_cast<std::size_t>(i) * bytes,
              static_cast<std::size_t>(count - i) * bytes);
  load_as_f32<Vec>(dtype, tail, 0).store(to + i);
}

// --- Many rows: every vector runs over query rows, so that no sum ever crosses lanes ------------------

// s[key][row] = sum_d k[key][d] * q[d][row] for kKeys keys and kVecs vectors of rows.
template <class Vec, int kKeys, int kVecs>
void scores_block(int head_dim, int stride, const float* q, const float* k, std::int64_t k_stride,
                  float* s) {
  Vec sums[kKeys][kVecs];
  for (auto& row : sums) {
    for (auto& sum : row) sum = Vec::zero();
  }
  for (int d = 0; d < head_dim; ++d) {
    Vec rows[kVecs];
    for (int v = 0; v < kVecs; ++v) rows[v] = Vec::load(q + d * stride + v * Vec::kWidth);
    for (int key = 0; key < kKeys; ++key) {
      const Vec value = Vec::set1(k[key * k_stride + d]);
      for (int v = 0; v < kVecs; ++v) sums[key][v] = Vec::fma(value, rows[v], sums[key][v]);
    }
  }
  for (int key = 0; key < kKeys; ++key) {
    for (int v = 0; v < kVecs; ++v) sums[key][v].store(s + key * stride + v * Vec::kWidth);
  }
}

// o[d][row] += sum_key p[key][row] * v[key][d] for kDims dims and kVecs vectors of rows.
template <class Vec, int kDims, int kVecs>
void values_block(int num_keys, int stride, const float* p, const float* v, std::int64_t v_stride,
                  float* o) {
  Vec sums[kDims][kVecs];
  for (int d = 0; d < kDims; ++d) {
    for (int i = 0; i < kVecs; ++i) sums[d][i] = Vec::load(o + d * stride + i * Vec::kWidth);
  }
  for (int key = 0; key < num_keys; ++key) {
    Vec rows[kVecs];
    for (int i = 0; i < kVecs; ++i) rows[i] = Vec::load(p + key * stride + i * Vec::kWidth);
    for (int d = 0; d < kDims; ++d) {
      const Vec value = Vec::set1(v[key * v_stride + d]);
      for (int i = 0; i < kVecs; ++i) sums[d][i] = Vec::fma(value, rows[i], sums[d][i]);
    }
  }
  for (int d = 0; d < kDims; ++d) {
    for (int i = 0; i < kVecs; ++i) sums[d][i].store(o + d * stride + i * Vec::kWidth);
  }
}

// For each key the bits of the kWidth rows from `first_row` on, lane by lane.
template <class Vec>
void transpose_bits(const PackedRows& rows, int first_row, int num_keys, const TileBits& bits,
                    std::uint32_t* lanes) {
  std::memset(lanes, 0, static_cast<std::size_t>(num_keys) * sizeof(*lanes));
  for (int lane = 0; lane < Vec::kWidth && first_row + lane < rows.num_rows; ++lane) {
    const std::uint64_t* words =
        bits.words + (first_row + lane) % rows.q_rows * bits.words_per_row;
    for (int key = 0; key < num_keys; ++key) {
      lanes[key] |= static_cast<std::uint32_t>(words[key / 64] >> (key % 64) & 1U) << lane;
    }
  }
}

// Turns the scores of one vector of rows into probabilities and rescales what came before.
template <class Vec>
void softmax_rows(const PackedRows& rows, int stride, int first_row, int num_keys,
                  const TileBits& bits, float* s, const SoftmaxState& state) {
  const Vec minus_infinity = Vec::set1(kMinusInfinity);
  Vec top = Vec::load(state.row_max + first_row);
  const Vec old_max = top;
  if (bits.words != nullptr) {
    std::uint32_t lanes[128];
    transpose_bits<Vec>(rows, first_row, num_keys, bits, lanes);
    for (int key = 0; key < num_keys; ++key) {
      const Vec score = Vec::select(lanes[key], Vec::load(s + key * stride), minus_infinity);
      score.store(s + key * stride);
      top = Vec::max(top, score);
    }
  } else {
    for (int key = 0; key < num_keys; ++key) top = Vec::max(top, Vec::load(s + key * stride));
  }
  top.store(state.row_max + first_row);
  // A row that has seen nothing keeps -inf as its maximum; any finite base gives it zeros.
  const Vec base = Vec::max(top, Vec::set1(-1e30F));
  Vec sum = Vec::zero();
  for (int key = 0; key < num_keys; ++key) {
    const Vec p = exp2(Vec::load(s + key * stride) - base);
    p.store(s + key * stride);
    sum = sum + p;
  }
  const Vec shrink = exp2(Vec::max(old_max, Vec::set1(-1e30F)) - base);
  Vec::fma(Vec::load(state.row_sum + first_row), shrink, sum).store(state.row_sum + first_row);
  if (Vec::largest(top - old_max) == 0.0F) return;
  for (int d = 0; d < rows.head_dim; ++d) {
    float* o = state.o + d * stride + first_row;
    (Vec::load(o) * shrink).store(o);
  }
}

template <class Vec, int kVecs>
void add_rows(const PackedRows& rows, int stride, int first_row, const float* q, const float* k,
              const float* v, int num_keys, const TileBits& bits, float* s,
              const SoftmaxState& state) {
  const int dim = rows.head_dim;
  int key = 0;
  for (; key + Vec::kKeys <= num_keys; key += Vec::kKeys) {
    scores_block<Vec, Vec::kKeys, kVecs>(dim, stride, q + first_row, k + key * dim, dim,
                                         s + key * stride + first_row);
  }
  for (; key < num_keys; ++key) {
    scores_block<Vec, 1, kVecs>(dim, stride, q + first_row, k + key * dim, dim,
                                s + key * stride + first_row);
  }
  for (int i = 0; i < kVecs; ++i) {
    const int row = first_row + i * Vec::kWidth;
    softmax_rows<Vec>(rows, stride, row, num_keys, bits, s + row, state);
  }
  int d = 0;
  for (; d + Vec::kKeys <= dim; d += Vec::kKeys) {
    values_block<Vec, Vec::kKeys, kVecs>(num_keys, stride, s + first_row, v + d, dim,
                                         state.o + d * stride + first_row);
  }
  for (; d < dim; ++d) {
    values_block<Vec, 1, kVecs>(num_keys, stride, s + first_row, v + d, dim,
                                state.o + d * stride + first_row);
  }
}

template <class Vec>
void add_tile_transposed(const PackedRows& rows, int stride, const float* q, const KvTile& tile,
                         int num_keys, const TileBits& bits, float* scratch,
                         const SoftmaxState& state) {
  const int dim = rows.head_dim;
  // A row more than the tile, since the last conversion may write a whole vector.
  float* k = scratch;
  float* v = k + num_keys * dim + 16;
  float* s = v + num_keys * dim + 16;
  for (int key = 0; key < num_keys; ++key) {
    convert_row<Vec>(rows.kv_dtype, tile.k + key * tile.k_stride, dim, k + key * dim);
    convert_row<Vec>(rows.kv_dtype, tile.v + key * tile.v_stride, dim, v + key * dim);
  }
  int row = 0;
  for (; row + 2 * Vec::kWidth <= stride; row += 2 * Vec::kWidth) {
    add_rows<Vec, 2>(rows, stride, row, q, k, v, num_keys, bits, s, state);
  }
  if (row < stride) add_rows<Vec, 1>(rows, stride, row, q, k, v, num_keys, bits, s, state);
}

// --- Few rows: vectors run over the head dimension and over keys ---------------------------------------

// s[row][key] of one key.
template <class Vec>
void key_scores(const PackedRows& rows, const float* q, const float* k_row, const std::byte* raw,
                int stride, float* s) {
  const int dim = padded_dim(rows.head_dim);
  for (int row = 0; row < rows.num_rows; ++row) {
    Vec sum = Vec::zero();
    for (int d = 0; d < dim; d += Vec::kWidth) {
      const Vec k = raw != nullptr ? load_as_f32<Vec>(rows.kv_dtype, raw, d) : Vec::load(k_row + d);
      sum = Vec::fma(Vec::load(q + row * dim + d), k, sum);
    }
    s[row * stride] = Vec::sum(sum);
  }
}

// Probabilities of one row in place; returns the factor for what came before.
template <class Vec>
float softmax_row(int num_keys, int padded_keys, const std::uint64_t* words, float* s,
                  float* row_max, float* row_sum) {
  for (int key = num_keys; key < padded_keys; ++key) s[key] = kMinusInfinity;
  Vec top = Vec::set1(kMinusInfinity);
  for (int key = 0; key < padded_keys; key += Vec::kWidth) {
    Vec score = Vec::load(s + key);
    if (words != nullptr) {
      const auto lanes = static_cast<std::uint32_t>(words[key / 64] >> (key % 64));
      score = Vec::select(lanes, score, Vec::set1(kMinusInfinity));
      score.store(s + key);
    }
    top = Vec::max(top, score);
  }
  const float old_max = *row_max;
  const float new_max = Vec::largest(Vec::max(top, Vec::set1(old_max)));
  const Vec base = Vec::set1(new_max > -1e30F ? new_max : -1e30F);
  Vec sum = Vec::zero();
  for (int key = 0; key < padded_keys; key += Vec::kWidth) {
    const Vec p = exp2(Vec::load(s + key) - base);
    p.store(s + key);
    sum = sum + p;
  }
  alignas(64) float shrink[Vec::kWidth];
  exp2(Vec::set1(old_max > -1e30F ? old_max : -1e30F) - base).store(shrink);
  *row_sum = *row_sum * shrink[0] + Vec::sum(sum);
  *row_max = new_max;
  return shrink[0];
}

template <class Vec>
void add_tile_rows(const PackedRows& rows, const float* q, const KvTile& tile, int num_keys,
                   const TileBits& bits, float* scratch, const SoftmaxState& state) {
  const int dim = padded_dim(rows.head_dim);
  const int padded_keys = (num_keys + 15) / 16 * 16;
  float* s = scratch;
  float* row_copy = s + rows.num_rows * padded_keys;
  // Rows whose length is no multiple of a vector are widened into a padded copy first.
  const bool direct = rows.head_dim == dim;
  for (int key = 0; key < num_keys; ++key) {
    const std::byte* raw = tile.k + key * tile.k_stride;
    if (!direct) {
      std::memset(row_copy, 0, static_cast<std::size_t>(dim) * 4);
      convert_row<Vec>(rows.kv_dtype, raw, rows.head_dim, row_copy);
    }
    key_scores<Vec>(rows, q, row_copy, direct ? raw : nullptr, padded_keys, s + key);
  }
  for (int row = 0; row < rows.num_rows; ++row) {
    const std::uint64_t* words =
        bits.words == nullptr ? nullptr : bits.words + row % rows.q_rows * bits.words_per_row;
    const float shrink = softmax_row<Vec>(num_keys, padded_keys, words, s + row * padded_keys,
                                          state.row_max + row, state.row_sum + row);
    if (shrink == 1.0F) continue;
    for (int d = 0; d < dim; d += Vec::kWidth) {
      float* o = state.o + row * dim + d;
      (Vec::load(o) * Vec::set1(shrink)).store(o);
    }
  }
  for (int key = 0; key < num_keys; ++key) {
    const std::byte* raw = tile.v + key * tile.v_stride;
    if (!direct) {
      std::memset(row_copy, 0, static_cast<std::size_t>(dim) * 4);
      convert_row<Vec>(rows.kv_dtype, raw, rows.head_dim, row_copy);
    }
    for (int d = 0; d < dim; d += Vec::kWidth) {
      const Vec v = direct ? load_as_f32<Vec>(rows.kv_dtype, raw, d) : Vec::load(row_copy + d);
      for (int row = 0; row < rows.num_rows; ++row) {
        float* o = state.o + row * dim + d;
        Vec::fma(Vec::set1(s[row * padded_keys + key]), v, Vec::load(o)).store(o);
      }
    }
  }
}

template <class Vec>
constexpr AttentionMicro make_attention_micro() {
  return {Vec::kWidth, add_tile_transposed<Vec>, add_tile_rows<Vec>};
}

}  // namespace perpend
