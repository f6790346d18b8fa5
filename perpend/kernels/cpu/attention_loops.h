#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>

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

// --- Many rows: every vector runs over query rows, so that no sum ever crosses lanes
// ------------------

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
    const std::uint64_t* words = bits.words + (first_row + lane) % rows.q_rows * bits.words_per_row;
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

// --- Few rows: vectors run over the head dimension and over keys
// ---------------------------------------

constexpr int kKeyBlock = 4;  // keys whose sums over the head dimension are finished together
constexpr int kRowBlock = 4;  // query rows that share one pass over the keys

// Calls body(first row, number of rows as a constant) for blocks of at most kRowBlock rows.
template <class Body>
void for_row_blocks(int num_rows, Body body) {
  int first = 0;
  for (; first + kRowBlock <= num_rows; first += kRowBlock) {
    body(first, std::integral_constant<int, kRowBlock>{});
  }
  switch (num_rows - first) {
    case 3:
      return body(first, std::integral_constant<int, 3>{});
    case 2:
      return body(first, std::integral_constant<int, 2>{});
    case 1:
      return body(first, std::integral_constant<int, 1>{});
    default:
      return;
  }
}

// s[row][0 .. kKeyBlock) of kRows rows and the keys at `keys`.
template <class Vec, DType kDtype, int kRows>
void score_rows(int dim, const float* q, const std::byte* const* keys, int stride, float* s) {
  Vec sums[kRows][kKeyBlock];
  for (auto& row : sums) {
    for (auto& sum : row) sum = Vec::zero();
  }
  for (int d = 0; d < dim; d += Vec::kWidth) {
    Vec k[kKeyBlock];
    for (int j = 0; j < kKeyBlock; ++j) k[j] = load_as_f32<Vec>(kDtype, keys[j], d);
    for (int row = 0; row < kRows; ++row) {
      const Vec value = Vec::load(q + row * dim + d);
      for (int j = 0; j < kKeyBlock; ++j) sums[row][j] = Vec::fma(value, k[j], sums[row][j]);
    }
  }
  for (int row = 0; row < kRows; ++row) Vec::store_sums(sums[row], s + row * stride);
}

// o[row][0 .. kVecs vectors) += sum_key p[row][key] * v[key] for kRows rows, kept in registers.
template <class Vec, DType kDtype, int kRows, int kVecs>
void value_rows(int num_keys, int dim, int first_dim, const float* p, int p_stride,
                const std::byte* v, std::int64_t v_stride, float* o) {
  Vec sums[kRows][kVecs];
  for (int row = 0; row < kRows; ++row) {
    for (int i = 0; i < kVecs; ++i) {
      sums[row][i] = Vec::load(o + row * dim + first_dim + i * Vec::kWidth);
    }
  }
  for (int key = 0; key < num_keys; ++key, v += v_stride) {
    Vec values[kVecs];
    for (int i = 0; i < kVecs; ++i) {
      values[i] = load_as_f32<Vec>(kDtype, v, first_dim + i * Vec::kWidth);
    }
    for (int row = 0; row < kRows; ++row) {
      const Vec weight = Vec::set1(p[row * p_stride + key]);
      for (int i = 0; i < kVecs; ++i) sums[row][i] = Vec::fma(weight, values[i], sums[row][i]);
    }
  }
  for (int row = 0; row < kRows; ++row) {
    for (int i = 0; i < kVecs; ++i) {
      sums[row][i].store(o + row * dim + first_dim + i * Vec::kWidth);
    }
  }
}

// s[row][key] of all rows; what lies beyond num_keys in the last block is overwritten later.
template <class Vec, DType kDtype>
void add_scores(const PackedRows& rows, const float* q, const std::byte* k, std::int64_t k_stride,
                int num_keys, int stride, float* s) {
  const int dim = padded_dim(rows.head_dim);
  for (int key = 0; key < num_keys; key += kKeyBlock) {
    const std::byte* keys[kKeyBlock];
    for (int j = 0; j < kKeyBlock; ++j) keys[j] = k + std::min(key + j, num_keys - 1) * k_stride;
    for_row_blocks(rows.num_rows, [&](int row, auto count) {
      score_rows<Vec, kDtype, count()>(dim, q + row * dim, keys, stride, s + row * stride + key);
    });
  }
}

template <class Vec, DType kDtype>
void add_values(const PackedRows& rows, int num_keys, const float* p, int p_stride,
                const std::byte* v, std::int64_t v_stride, float* o) {
  constexpr int kVecs = Vec::kRowVecs;
  const int dim = padded_dim(rows.head_dim);
  for_row_blocks(rows.num_rows, [&](int row, auto count) {
    const float* weights = p + row * p_stride;
    float* out = o + row * dim;
    int d = 0;
    for (; d + kVecs * Vec::kWidth <= dim; d += kVecs * Vec::kWidth) {
      value_rows<Vec, kDtype, count(), kVecs>(num_keys, dim, d, weights, p_stride, v, v_stride,
                                              out);
    }
    for (; d < dim; d += Vec::kWidth) {
      value_rows<Vec, kDtype, count(), 1>(num_keys, dim, d, weights, p_stride, v, v_stride, out);
    }
  });
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

// Calls body(key, row) with `row` the padded f32 copies of the next kKeyBlock rows: for head
// dimensions that are no multiple of a vector.
template <class Vec, class Body>
void for_padded_rows(const PackedRows& rows, const std::byte* from, std::int64_t stride,
                     int num_keys, float* copies, Body body) {
  const int dim = padded_dim(rows.head_dim);
  for (int key = 0; key < num_keys; key += kKeyBlock) {
    const int count = std::min(kKeyBlock, num_keys - key);
    std::memset(copies, 0, static_cast<std::size_t>(kKeyBlock * dim) * sizeof(float));
    for (int j = 0; j < count; ++j) {
      convert_row<Vec>(rows.kv_dtype, from + (key + j) * stride, rows.head_dim, copies + j * dim);
    }
    body(key, count);
  }
}

template <class Vec, DType kDtype>
void add_tile_rows_of(const PackedRows& rows, const float* q, const KvTile& tile, int num_keys,
                      const TileBits& bits, float* scratch, const SoftmaxState& state) {
  const int dim = padded_dim(rows.head_dim);
  const int padded_keys = (num_keys + 15) / 16 * 16;
  float* s = scratch;
  float* copies = s + rows.num_rows * padded_keys;
  const auto* copied = reinterpret_cast<const std::byte*>(copies);
  const auto copied_stride = static_cast<std::int64_t>(dim) * 4;
  const bool direct = rows.head_dim == dim;
  if (direct) {
    add_scores<Vec, kDtype>(rows, q, tile.k, tile.k_stride, num_keys, padded_keys, s);
  } else {
    for_padded_rows<Vec>(rows, tile.k, tile.k_stride, num_keys, copies, [&](int key, int count) {
      add_scores<Vec, DType::kF32>(rows, q, copied, copied_stride, count, padded_keys, s + key);
    });
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
  if (direct) {
    add_values<Vec, kDtype>(rows, num_keys, s, padded_keys, tile.v, tile.v_stride, state.o);
  } else {
    for_padded_rows<Vec>(rows, tile.v, tile.v_stride, num_keys, copies, [&](int key, int count) {
      add_values<Vec, DType::kF32>(rows, count, s + key, padded_keys, copied, copied_stride,
                                   state.o);
    });
  }
}

template <class Vec>
void add_tile_rows(const PackedRows& rows, const float* q, const KvTile& tile, int num_keys,
                   const TileBits& bits, float* scratch, const SoftmaxState& state) {
  switch (rows.kv_dtype) {
    case DType::kF16:
      return add_tile_rows_of<Vec, DType::kF16>(rows, q, tile, num_keys, bits, scratch, state);
    case DType::kBF16:
      return add_tile_rows_of<Vec, DType::kBF16>(rows, q, tile, num_keys, bits, scratch, state);
    default:
      return add_tile_rows_of<Vec, DType::kF32>(rows, q, tile, num_keys, bits, scratch, state);
  }
}

template <class Vec>
constexpr AttentionMicro make_attention_micro() {
  return {Vec::kWidth, add_tile_transposed<Vec>, add_tile_rows<Vec>};
}

}  // namespace perpend
