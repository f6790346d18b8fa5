#pragma once

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "perpend/core/random.h"
#include "perpend/core/range.h"
#include "perpend/kernels/block_attention.h"
#include "perpend/kernels/reference/attention_call.h"
#include "perpend/mask/bindings.h"
#include "perpend/mask/mask.h"
#include "perpend/mask/tile_map.h"

// Lists of blocks, and the same as masks that are compiled on the host.

namespace perpend {

struct BlockCase {
  BlockAttentionSpec spec;
  std::vector<std::int32_t> block_indices;  // [batch, num_list_heads, num_q_blocks, max_blocks]
  std::vector<std::int32_t> num_blocks;     // [batch, num_list_heads, num_q_blocks]

  TensorView indices_view() {
    return TensorView::dense(
        block_indices.data(), DType::kI32,
        {spec.batch, spec.num_list_heads, spec.num_q_blocks(), spec.max_blocks});
  }
  TensorView counts_view() {
    return TensorView::dense(num_blocks.data(), DType::kI32,
                             {spec.batch, spec.num_list_heads, spec.num_q_blocks()});
  }

  // The blocks of one list, ascending.
  std::vector<std::int32_t> blocks_of(std::int64_t list) const {
    const auto first = block_indices.begin() + list * spec.max_blocks;
    std::vector<std::int32_t> blocks(
        first, first + std::max(num_blocks[static_cast<std::size_t>(list)], 0));
    std::erase_if(blocks, [&](std::int32_t b) { return b < 0 || b >= spec.num_kv_blocks(); });
    std::ranges::sort(blocks);
    blocks.erase(std::unique(blocks.begin(), blocks.end()), blocks.end());
    return blocks;
  }

  Mask mask_of_sequence(std::int64_t sequence) const {
    Bindings bindings;
    std::string text;
    const int heads = spec.num_q_heads / spec.num_list_heads;  // of a list
    for (int h = 0; h < spec.num_list_heads; ++h) {
      const std::string name = "list" + std::to_string(h);
      bindings.set(name, tile_map(sequence * spec.num_list_heads + h));
      text += (h > 0 ? "; " : "") + std::to_string(h * heads) + "-" +
              std::to_string((h + 1) * heads - 1) + ": tiles(" + name + ")";
    }
    return parse_mask((spec.causal ? "causal & heads(" : "heads(") + text + ")").bind(bindings);
  }

  AttentionCase attention_case() const {
    AttentionCase c;
    c.shape = spec.shape();
    for (std::int64_t b = 0; b < spec.batch; ++b) c.masks.push_back(mask_of_sequence(b));
    c.head_dim = spec.attention.head_dim;
    c.q_dtype = spec.attention.q_dtype;
    c.kv_dtype = spec.attention.kv_dtype;
    c.d_lse = false;
    return c;
  }

 private:
  // `lists`: which of the lists of all query blocks. Maps count positions, lists count queries.
  TileMap tile_map(std::int64_t lists) const {
    const std::int64_t rows = std::gcd(spec.q_block, spec.q_offset);
    TileMap::Tiles tiles{.tile_q = rows,
                         .tile_k = spec.kv_block,
                         .num_columns = std::max<std::int64_t>(spec.num_kv_blocks(), 1)};
    tiles.row_begin.push_back(0);
    for (std::int64_t q = 0; q < spec.q_offset + spec.q_len; q += rows) {
      if (q >= spec.q_offset) {
        const std::int64_t q_block = (q - spec.q_offset) / spec.q_block;
        for (const std::int32_t block : blocks_of(lists * spec.num_q_blocks() + q_block)) {
          tiles.columns.push_back(block);
          tiles.bitmaps.push_back(TileMap::kFull);
        }
      }
      tiles.row_begin.push_back(static_cast<std::int64_t>(tiles.columns.size()));
    }
    return TileMap(std::move(tiles));
  }
};

// Random lists, unsorted, with repeats and entries that are no block; some empty.
inline void fill_lists(BlockCase& c, Random& random) {
  const auto lists =
      static_cast<std::size_t>(c.spec.batch * c.spec.num_list_heads * c.spec.num_q_blocks());
  c.block_indices.assign(lists * static_cast<std::size_t>(c.spec.max_blocks), 0);
  c.num_blocks.assign(lists, 0);
  const auto range = static_cast<std::uint64_t>(c.spec.num_kv_blocks() + 3);
  for (std::int32_t& index : c.block_indices) {
    index = static_cast<std::int32_t>(random.next_below(range)) - 2;
  }
  for (std::int32_t& count : c.num_blocks) {
    const auto most = static_cast<std::uint64_t>(c.spec.max_blocks);
    count =
        static_cast<std::int32_t>(random.next_below(4) == 0 ? random.next_below(most + 1) : most);
  }
}

// Any spec that plans take, of at most some hundred tokens.
inline BlockAttentionSpec random_block_spec(Random& random, std::int64_t head_dim) {
  const auto below = [&](int bound) {
    return static_cast<int>(random.next_below(static_cast<std::uint64_t>(bound)));
  };
  const auto one_of = [&](std::initializer_list<int> values) {
    return *(values.begin() + below(static_cast<int>(values.size())));
  };
  BlockAttentionSpec spec;
  spec.attention = {DType::kBF16, DType::kBF16, head_dim, false};
  spec.batch = 1 + below(2);
  spec.num_kv_heads = 1 + below(2);
  spec.num_q_heads = spec.num_kv_heads * one_of({1, 1, 2, 3, 8});
  spec.num_list_heads = one_of({1, spec.num_kv_heads, spec.num_q_heads});
  spec.q_block = one_of({1, 16, 16, 32, 64, 64, 64, 128, 192, 200});
  spec.kv_block = one_of({16, 32, 64, 128, 256});
  spec.q_len = 1 + below(400);
  spec.kv_len = 1 + below(500);
  spec.causal = below(2) == 0;
  if (spec.causal) {
    spec.q_offset = below(2) == 0 ? 0 : below(200);
    spec.kv_len = spec.q_offset + spec.q_len + (below(2) == 0 ? 0 : below(100));
  }
  spec.max_blocks = 1 + below(static_cast<int>(2 * spec.num_kv_blocks()));
  spec.changes_scores = below(3) == 0;
  return spec;
}

}  // namespace perpend
