#include "perpend/ops/block_attention_call.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "perpend/core/demand.h"
#include "perpend/kernels/table.h"
#include "perpend/mask/bindings.h"
#include "perpend/mask/tile_map.h"
#include "perpend/ops/block_table_cache.h"

namespace perpend {
namespace {

constexpr const char* kWhat = "block attention: ";

bool is_on_gpu(const BlockAttentionCall& call) {
  return call.attention.q.device.type == DeviceType::kCuda;
}

void check_indices(const BlockAttentionCall& call, const AttentionShape& shape) {
  const TensorView& indices = call.block_indices;
  demand(call.block_size > 0 && call.q_block_size > 0, kWhat,
         "block_size and q_block_size must be positive (", call.block_size, " and ",
         call.q_block_size, ")");
  demand(indices.dtype == DType::kI32 && indices.num_axes() == 4, kWhat,
         "block_indices must be i32 [batch, heads, q_blocks, max_blocks], found ", indices);
  demand_eq(indices.device, call.attention.q.device, kWhat,
            "devices of block_indices and of q differ");
  demand_eq(indices.size(0), call.attention.q.size(0), kWhat,
            "batch of block_indices and of q differ");
  const std::int64_t heads = indices.size(1);
  demand(heads == 1 || heads == shape.num_kv_heads || heads == shape.num_q_heads, kWhat,
         "heads of block_indices must be 1, those of k (", shape.num_kv_heads, ") or those of q (",
         shape.num_q_heads, "), found ", heads);
  const std::int64_t q_len = call.attention.q.size(2);
  demand_eq(indices.size(2), ceil_div(q_len, call.q_block_size), kWhat,
            "q_blocks of block_indices, ", "and of ", q_len, " queries in blocks of ",
            call.q_block_size, ", differ");
  const TensorView& counts = call.block_counts;
  if (!counts) return;
  demand(
      counts.dtype == DType::kI32 && counts.shape == Dims{indices.size(0), heads, indices.size(2)},
      kWhat, "block_counts must be i32 ", Dims{indices.size(0), heads, indices.size(2)}, ", found ",
      counts);
  demand_eq(counts.device, indices.device, kWhat,
            "devices of block_counts and block_indices differ");
}

// The valid blocks of one list, ascending, each once.
std::vector<std::int32_t> blocks_of(const BlockAttentionCall& call, std::int64_t sequence,
                                    std::int64_t head, std::int64_t q_block) {
  const TensorView& indices = call.block_indices;
  std::int64_t count = indices.size(3);
  if (const TensorView& counts = call.block_counts) {
    count = std::min<std::int64_t>(
        count,
        counts.as<const std::int32_t>()[sequence * counts.stride(0) + head * counts.stride(1) +
                                        q_block * counts.stride(2)]);
  }
  const auto* first = indices.as<const std::int32_t>() + sequence * indices.stride(0) +
                      head * indices.stride(1) + q_block * indices.stride(2);
  const std::int64_t num_blocks = ceil_div(call.attention.k.size(2), call.block_size);
  std::vector<std::int32_t> blocks;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int32_t block = first[i * indices.stride(3)];
    if (block >= 0 && block < num_blocks) blocks.push_back(block);
  }
  std::ranges::sort(blocks);
  blocks.erase(std::unique(blocks.begin(), blocks.end()), blocks.end());
  return blocks;
}

// Maps count positions, lists count queries.
TileMap tile_map(const BlockAttentionCall& call, const BlockAttentionSpec& spec,
                 std::int64_t sequence, std::int64_t head) {
  const std::int64_t rows = std::gcd(spec.q_block, spec.q_offset);
  TileMap::Tiles tiles{.tile_q = rows,
                       .tile_k = spec.kv_block,
                       .num_columns = std::max<std::int64_t>(spec.num_kv_blocks(), 1)};
  tiles.row_begin.assign(static_cast<std::size_t>(spec.q_offset / rows + 1), 0);
  for (std::int64_t q_block = 0; q_block < spec.num_q_blocks(); ++q_block) {
    const std::vector<std::int32_t> blocks = blocks_of(call, sequence, head, q_block);
    const std::int64_t end = std::min((q_block + 1) * spec.q_block, spec.q_len);
    for (std::int64_t query = q_block * spec.q_block; query < end; query += rows) {
      tiles.columns.insert(tiles.columns.end(), blocks.begin(), blocks.end());
      tiles.row_begin.push_back(static_cast<std::int64_t>(tiles.columns.size()));
    }
  }
  tiles.bitmaps.assign(tiles.columns.size(), TileMap::kFull);
  return TileMap(std::move(tiles));
}

Mask mask_of(const BlockAttentionCall& call, const BlockAttentionSpec& spec,
             std::int64_t sequence) {
  Bindings bindings;
  std::string text;
  const int heads = spec.num_q_heads / spec.num_list_heads;  // of a list
  for (int h = 0; h < spec.num_list_heads; ++h) {
    const std::string name = concat("list", h);
    bindings.set(name, tile_map(call, spec, sequence, h));
    text += concat(h > 0 ? "; " : "", h * heads, "-", (h + 1) * heads - 1, ": tiles(", name, ")");
  }
  return parse_mask(concat(spec.causal ? "causal & " : "", "heads(", text, ")")).bind(bindings);
}

// Of lists that the next call does not have any more: not one for the cache of schedules.
Schedule schedule_of(const BlockAttentionCall& call, const std::vector<Mask>& masks, Sweep sweep) {
  const KernelTable& table = kernels_for(call.attention.q.device);
  const auto tiling = require(table.attention.tiling, "block attention", table);
  const AttentionSpec spec = spec_of(call.attention);
  check_supported(spec, call.attention.q.device);
  return compile(masks, shape_of(call.attention), tiling(spec, sweep), sweep);
}

std::unique_ptr<BlockAttentionPlan> updated_plan(const BlockAttentionCall& call, bool gradients) {
  BlockAttentionSpec spec = spec_of(call);
  spec.gradients = gradients;
  const Stream stream = stream_of(call.attention);
  auto plan =
      make_block_attention_plan(block_table_cache().get(spec, call.attention.q.device), stream);
  plan->update(call.block_indices, call.block_counts, stream);
  return plan;
}

}  // namespace

BlockAttentionSpec spec_of(const BlockAttentionCall& call) {
  const AttentionCall& attention = call.attention;
  const AttentionShape shape = shape_of(attention);
  check_indices(call, shape);
  BlockAttentionSpec spec;
  spec.attention = spec_of(attention);
  spec.batch = attention.q.size(0);
  spec.q_len = attention.q.size(2);
  spec.kv_len = attention.k.size(2);
  spec.q_offset = attention.q_offsets.empty() ? 0 : attention.q_offsets.front();
  spec.num_q_heads = shape.num_q_heads;
  spec.num_kv_heads = shape.num_kv_heads;
  spec.num_list_heads = static_cast<int>(call.block_indices.size(1));
  spec.q_block = call.q_block_size;
  spec.kv_block = call.block_size;
  spec.max_blocks = call.block_indices.size(3);
  spec.causal = call.causal;
  const ScoreChange& score = attention.score;
  spec.changes_scores = score.soft_cap != 0 || score.alibi_slopes || attention.scale < 0;
  return spec;
}

std::vector<Mask> masks_of(const BlockAttentionCall& call) {
  const BlockAttentionSpec spec = spec_of(call);
  std::vector<Mask> masks;
  for (std::int64_t b = 0; b < spec.batch; ++b) masks.push_back(mask_of(call, spec, b));
  return masks;
}

void run_block_attention(const BlockAttentionCall& call, const TensorView& o,
                         const TensorView& lse) {
  const AttentionArgs args = kernel_args(call.attention, o, lse);
  if (num_elements(call.attention.q.shape) == 0) return;
  if (is_on_gpu(call)) {
    attention_forward(args, *updated_plan(call, false), stream_of(call.attention));
    return;
  }
  const Schedule rows = schedule_of(call, masks_of(call), Sweep::kRows);
  attention_forward(args, rows, stream_of(call.attention));
}

void run_block_attention_backward(const BlockAttentionCall& call, const AttentionCallGrads& grads) {
  const AttentionGradArgs args = kernel_args(call.attention, grads);
  if (call.attention.q.size(0) == 0) return;
  if (is_on_gpu(call)) {
    attention_backward(args, *updated_plan(call, true), stream_of(call.attention));
    return;
  }
  const std::vector<Mask> masks = masks_of(call);
  const Schedule rows = schedule_of(call, masks, Sweep::kRows);
  const Schedule columns = schedule_of(call, masks, Sweep::kColumns);
  attention_backward(args, rows, columns, stream_of(call.attention));
}

}  // namespace perpend
