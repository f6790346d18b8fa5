#include "perpend/kernels/cpu/attention_operands.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "perpend/core/demand.h"

namespace perpend {

TokenRows::TokenRows(const TensorView& view, const TensorView& indptr, const TensorView& page_table)
    : data_(view.as<std::byte>()), dtype_(view.dtype) {
  const auto bytes = static_cast<std::int64_t>(size_of(dtype_));
  const int axes = view.num_axes();
  dim_ = static_cast<int>(view.size(axes - 1));
  head_stride_ = view.stride(axes - 2) * bytes;
  token_stride_ = view.stride(axes - 3) * bytes;
  if (page_table) {
    pages_ = page_table.as<const std::int32_t>();
    pages_stride_ = page_table.stride(0);
    page_size_ = view.size(1);
    num_pages_ = view.size(0);
  } else if (indptr) {
    indptr_ = indptr.as<const std::int32_t>();
  }
  if (axes == 4) sequence_stride_ = view.stride(0) * bytes;
}

std::byte* TokenRows::row(std::int32_t sequence, int head, std::int64_t token) const {
  std::byte* heads = data_ + head * head_stride_;
  if (pages_ != nullptr) {
    const std::int64_t page = pages_[sequence * pages_stride_ + token / page_size_];
    demand(page >= 0 && page < num_pages_, "attention: key ", token, " of sequence ", sequence,
           " is visible, but its page is not in the store (page ", page, " of ", num_pages_, ")");
    return heads + page * sequence_stride_ + token % page_size_ * token_stride_;
  }
  if (indptr_ != nullptr) return heads + (indptr_[sequence] + token) * token_stride_;
  return heads + sequence * sequence_stride_ + token * token_stride_;
}

std::int64_t TokenRows::run_length(std::int64_t token) const {
  return pages_ != nullptr ? page_size_ - token % page_size_
                           : std::numeric_limits<std::int64_t>::max();
}

RowPointers OuterRows::pointers(const TokenRows& operand, int block) const {
  RowPointers pointers{operand.dtype(), operand.dim(), {}};
  const int first = block * tile::kLanes;
  const int end = std::min(first + tile::kLanes, num_rows());
  for (int row = first; row < end;) {
    const std::int64_t left = std::min<std::int64_t>(size - row % size, end - row);
    const auto count = static_cast<int>(std::min(left, operand.run_length(token(row))));
    std::byte* at = operand.row(sequence, head(row), token(row));
    for (int i = 0; i < count; ++i, ++row, at += operand.stride()) {
      pointers.rows[static_cast<std::size_t>(row - first)] = at;
    }
  }
  return pointers;
}

double scale_of(const AttentionArgs& args, int head_dim) {
  if (args.scale != 0.0F) return args.scale;
  return 1.0 / std::sqrt(static_cast<double>(head_dim));
}

}  // namespace perpend
