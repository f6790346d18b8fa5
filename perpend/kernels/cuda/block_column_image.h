#pragma once

#include <cstdint>
#include <vector>

#include "perpend/kernels/block_attention.h"
#include "perpend/kernels/cuda/device/block_columns.h"

namespace perpend {

// What of a plan's columns does not depend on the lists, for gradients. Made without a GPU.
struct BlockColumnImage {
  device::ColumnGeometry geometry{};
  std::vector<std::uint32_t> flags;    // of steps, see ColumnGeometry::flags_index()
  std::vector<std::uint32_t> bitmaps;  // [bitmaps, device::fragment_words(kGradientQueries)]
  std::vector<std::int32_t> q_indptr;  // [batch + 1]
};

// The spec is one that make_block_list_image() takes. Throws InvalidArgument for what is too large.
BlockColumnImage make_block_column_image(const BlockAttentionSpec& spec);

}  // namespace perpend
