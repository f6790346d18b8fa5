#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "perpend/kernels/cpu/few_rows_micro.h"
#include "perpend/kernels/cpu/row_conversion.h"
#include "perpend/kernels/cpu/vector_math.h"

// The loops of attention with few query rows over a vector type: vectors run over the head
// dimension and over keys. Included by one source file for each instruction set; everything is a
// template on that set's Vec, so that no two sets share code.

namespace perpend {

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

// The bits of 16 columns (or more) of a row from `column` on.
inline std::uint32_t bits_from(const TileBits& bits, const std::uint64_t* words, int column) {
  const int word = column / 64;
  const int shift = column % 64;
  std::uint64_t result = words[word] >> shift;
  if (shift > 48 && word + 1 < bits.words_per_row) result |= words[word + 1] << (64 - shift);
  return static_cast<std::uint32_t>(result);
}

// Changes the scores of one row, which are to base 2 before and after.
template <class Vec>
void change_row(const RowScoreChange& change, int row, int padded_keys, float* s) {
  const Vec log2e = Vec::set1(1.44269504F);
  for (int key = 0; key < padded_keys; key += Vec::kWidth) {
    Vec score = Vec::load(s + key);
    if (change.soft_cap != 0.0F) {
      const Vec bent = tanh(score * Vec::set1(0.69314718F / change.soft_cap));
      score = bent * Vec::set1(change.soft_cap) * log2e;
    }
    if (change.slopes != nullptr) {
      alignas(64) float ways[Vec::kWidth];
      for (int i = 0; i < Vec::kWidth; ++i) {
        const float place = change.first_key + static_cast<float>(key + i);
        ways[i] = std::abs(place - change.row_places[row]);
      }
      score = score - Vec::set1(change.slopes[row]) * Vec::load(ways) * log2e;
    }
    score.store(s + key);
  }
}

// Probabilities of one row in place; returns the factor for what came before.
template <class Vec>
float softmax_row(int num_keys, int padded_keys, const TileBits& bits, const std::uint64_t* words,
                  float* s, float* row_max, float* row_sum) {
  for (int key = num_keys; key < padded_keys; ++key) s[key] = kMinusInfinity;
  Vec top = Vec::set1(kMinusInfinity);
  for (int key = 0; key < padded_keys; key += Vec::kWidth) {
    Vec score = Vec::load(s + key);
    if (words != nullptr) {
      const std::uint32_t lanes = bits_from(bits, words, bits.first_column + key);
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
                      const TileBits& bits, const RowScoreChange& change, float* scratch,
                      const SoftmaxState& state) {
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
    if (change.any()) change_row<Vec>(change, row, padded_keys, s + row * padded_keys);
    const std::uint64_t* words =
        bits.words == nullptr ? nullptr : bits.words + row % rows.q_rows * bits.words_per_row;
    const float shrink = softmax_row<Vec>(num_keys, padded_keys, bits, words, s + row * padded_keys,
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
                   const TileBits& bits, const RowScoreChange& change, float* scratch,
                   const SoftmaxState& state) {
  switch (rows.kv_dtype) {
    case DType::kF16:
      return add_tile_rows_of<Vec, DType::kF16>(rows, q, tile, num_keys, bits, change, scratch,
                                                state);
    case DType::kBF16:
      return add_tile_rows_of<Vec, DType::kBF16>(rows, q, tile, num_keys, bits, change, scratch,
                                                 state);
    default:
      return add_tile_rows_of<Vec, DType::kF32>(rows, q, tile, num_keys, bits, change, scratch,
                                                state);
  }
}

template <class Vec>
constexpr FewRowsMicro make_few_rows_micro() {
  return {add_tile_rows<Vec>};
}

}  // namespace perpend
