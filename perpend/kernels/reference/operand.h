#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "perpend/core/random.h"
#include "perpend/core/tensor_view.h"

namespace perpend {

// How an operand lies in memory.
struct OperandLayout {
  bool ragged = false;      // tokens of all sequences one after another; else a batch axis
  bool head_major = false;  // heads outside tokens, as in tensors [B, H, S, D]
  std::int64_t gap = 0;     // elements after each row that belong to nobody
};

// A host tensor of rows of head_dim values, one for each (sequence, token, head), in any layout
// that attention takes. What belongs to no row is NaN, and so is all until it is written.
class Operand {
 public:
  // lengths: tokens of each sequence, all equal unless the layout is ragged.
  Operand(DType dtype, std::vector<std::int64_t> lengths, int num_heads, std::int64_t head_dim,
          const OperandLayout& layout);

  void fill_random(Random& random, double amplitude);

  DType dtype() const { return dtype_; }
  const std::vector<std::int64_t>& lengths() const { return lengths_; }
  int num_heads() const { return num_heads_; }
  std::int64_t head_dim() const { return head_dim_; }

  double get(std::size_t sequence, std::int64_t token, int head, std::int64_t d) const;
  void set(std::size_t sequence, std::int64_t token, int head, std::int64_t d, double value);
  // Row-major [length, head_dim].
  std::vector<double> rows(std::size_t sequence, int head) const;
  // The bytes of the rows of one sequence, without gaps, by token, head and value.
  std::vector<std::byte> row_bytes(std::size_t sequence) const;
  // Elements that belong to no row and are not NaN any more: written by mistake.
  std::int64_t num_strays() const;

  // [batch, length, heads, head_dim], ragged [total, heads, head_dim]; of one sequence alone when
  // named.
  TensorView view() { return view_of(0, lengths_.size()); }
  TensorView view(std::size_t sequence) { return view_of(sequence, 1); }
  // With head_dim 1, as lse lies: [batch, heads, length], ragged [heads, total].
  TensorView lse_view() { return swap_heads(view()); }
  TensorView lse_view(std::size_t sequence) { return swap_heads(view(sequence)); }
  // [batch + 1] i32: where each sequence begins.
  std::vector<std::int32_t> indptr() const;

 private:
  // Calls body(element) with the first element of each row, by sequence, token and head.
  template <class Body>
  void for_each_row(Body body) const {
    for (std::size_t s = 0; s < lengths_.size(); ++s) {
      for (std::int64_t t = 0; t < lengths_[s]; ++t) {
        for (int h = 0; h < num_heads_; ++h) body(index(s, t, h));
      }
    }
  }
  std::int64_t index(std::size_t sequence, std::int64_t token, int head) const;
  TensorView view_of(std::size_t first, std::size_t count);
  static TensorView swap_heads(const TensorView& rows);

  DType dtype_;
  std::vector<std::int64_t> lengths_;
  int num_heads_;
  std::int64_t head_dim_;
  bool ragged_;
  std::int64_t token_stride_ = 0;
  std::int64_t head_stride_ = 0;
  std::vector<std::int64_t> first_;  // element at which each sequence begins
  std::vector<std::byte> bytes_;
};

}  // namespace perpend
