#pragma once

#include <cstddef>
#include <cstdint>

#include "perpend/core/tensor_view.h"
#include "perpend/kernels/attention.h"
#include "perpend/kernels/cpu/tile_micro.h"

namespace perpend {

// Rows of q, k, v, o and their gradients in the caller's memory: dense, ragged or paged, behind one
// face.
class TokenRows {
 public:
  TokenRows() = default;
  TokenRows(const TensorView& view, const TensorView& indptr, const TensorView& page_table = {});

  DType dtype() const { return dtype_; }
  int dim() const { return dim_; }
  // Throws InvalidArgument when the token's page is not in the store: pages that nobody asks for
  // may be gone.
  std::byte* row(std::int32_t sequence, int head, std::int64_t token) const;
  // Tokens from `token` on whose rows lie stride() bytes apart.
  std::int64_t run_length(std::int64_t token) const;
  std::int64_t stride() const { return token_stride_; }

 private:
  std::byte* data_ = nullptr;
  DType dtype_ = DType::kF32;
  int dim_ = 0;
  std::int64_t sequence_stride_ = 0;  // bytes, of pages where there are pages
  std::int64_t token_stride_ = 0;
  std::int64_t head_stride_ = 0;
  const std::int32_t* indptr_ = nullptr;
  const std::int32_t* pages_ = nullptr;
  std::int64_t pages_stride_ = 0;
  std::int64_t page_size_ = 0;
  std::int64_t num_pages_ = 0;
};

// One value for each query row and head: lse and its gradient.
class RowValues {
 public:
  RowValues() = default;
  RowValues(const TensorView& view, const TensorView& indptr) : view_(view), indptr_(indptr) {}

  explicit operator bool() const { return static_cast<bool>(view_); }
  template <class Real>
  Real& at(std::int32_t sequence, int head, std::int64_t token) const {
    if (!indptr_) {
      return view_.as<Real>()[sequence * view_.stride(0) + head * view_.stride(1) +
                              token * view_.stride(2)];
    }
    const std::int64_t first = indptr_.as<const std::int32_t>()[sequence];
    return view_.as<Real>()[head * view_.stride(0) + (first + token) * view_.stride(1)];
  }

 private:
  TensorView view_;
  TensorView indptr_;
};

// Asks for the memory of rows that will be written, for processors to have it in time.
inline void prefetch_to_write(const RowPointers& rows) {
  constexpr std::int64_t kLine = 64;
  const std::int64_t bytes = rows.dim * static_cast<std::int64_t>(size_of(rows.dtype));
  for (const std::byte* row : rows.rows) {
    if (row == nullptr) continue;
    for (std::int64_t i = 0; i < bytes; i += kLine) __builtin_prefetch(row + i, 1, 2);
  }
}

// The rows of a work item across lanes: those of its first head, then those of the next.
struct OuterRows {
  std::int32_t sequence = 0;
  int first_head = 0;
  int num_heads = 1;
  std::int32_t begin = 0;
  int size = 0;  // rows of one head

  int num_rows() const { return num_heads * size; }
  int num_blocks() const { return (num_rows() + tile::kLanes - 1) / tile::kLanes; }
  int head(int row) const { return first_head + row / size; }
  std::int64_t token(int row) const { return begin + row % size; }
  // Rows of one block of lanes, null beyond the last.
  RowPointers pointers(const TokenRows& operand, int block) const;
};

inline bool changes_scores(const ScoreChange& change) {
  return change.soft_cap != 0.0F || static_cast<bool>(change.alibi_slopes);
}

// Multiplier of q k^T.
double scale_of(const AttentionArgs& args, int head_dim);

}  // namespace perpend
