#include "perpend/kernels/cpu/attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <vector>

#include "perpend/core/aligned_buffer.h"
#include "perpend/core/demand.h"
#include "perpend/core/half.h"

namespace perpend {
namespace {

constexpr int kFewRows = 8;  // up to here rows are handled one by one, without packing
constexpr int kTile = 64;    // query rows and keys of a tile
constexpr int kMaxDim = 256;
constexpr int kSplitTiles = 16;            // key tiles of one part of a long list with few rows
constexpr std::int64_t kSerialTiles = 12;  // up to here few-row work stays on the calling thread

float load_value(DType dtype, const std::byte* row, std::int64_t index) {
  if (dtype == DType::kF32) return reinterpret_cast<const float*>(row)[index];
  const std::uint16_t half = reinterpret_cast<const std::uint16_t*>(row)[index];
  return dtype == DType::kF16 ? f16_to_f32(half) : bf16_to_f32(half);
}

void store_value(DType dtype, std::byte* row, std::int64_t index, float value) {
  if (dtype == DType::kF32) {
    reinterpret_cast<float*>(row)[index] = value;
  } else {
    reinterpret_cast<std::uint16_t*>(row)[index] =
        dtype == DType::kF16 ? f32_to_f16(value) : f32_to_bf16(value);
  }
}

// Addresses of rows in the caller's tensors: dense, ragged or paged, behind one face.
class Operands {
 public:
  Operands(const AttentionArgs& args, const Schedule& schedule)
      : args_(args), schedule_(schedule) {}

  std::byte* q_row(const WorkItem& item, int head, int row) const {
    return token_row(args_.q, args_.q_indptr, item, head, row);
  }
  std::byte* o_row(const WorkItem& item, int head, int row) const {
    return token_row(args_.o, args_.q_indptr, item, head, row);
  }
  float* lse(const WorkItem& item, int head, int row) const {
    const TensorView& lse = args_.lse;
    if (!args_.q_indptr) {
      return lse.as<float>() + item.sequence * lse.stride(0) + head * lse.stride(1) +
             (item.begin + row) * lse.stride(2);
    }
    return lse.as<float>() + head * lse.stride(0) +
           (first_token(args_.q_indptr, item) + item.begin + row) * lse.stride(1);
  }
  KvTile kv_tile(const WorkItem& item, std::int32_t kv_begin) const {
    const int kv_head = item.q_head / schedule_.shape.group_size();
    const auto size = static_cast<std::int64_t>(size_of(args_.k.dtype));
    return {kv_address(args_.k, item, kv_begin, kv_head),
            kv_address(args_.v, item, kv_begin, kv_head), token_stride(args_.k) * size,
            token_stride(args_.v) * size};
  }

 private:
  static std::int64_t first_token(const TensorView& indptr, const WorkItem& item) {
    return indptr.as<const std::int32_t>()[item.sequence];
  }
  static std::int64_t token_stride(const TensorView& kv) {
    return kv.num_axes() == 4 ? kv.stride(1) : kv.stride(0);
  }
  static std::byte* token_row(const TensorView& view, const TensorView& indptr,
                              const WorkItem& item, int head, int row) {
    const std::int64_t token = item.begin + row;
    std::int64_t offset = 0;
    if (indptr) {
      offset = (first_token(indptr, item) + token) * view.stride(0) + head * view.stride(1);
    } else {
      offset = item.sequence * view.stride(0) + token * view.stride(1) + head * view.stride(2);
    }
    return view.as<std::byte>() + offset * static_cast<std::int64_t>(size_of(view.dtype));
  }
  // Tiles never straddle pages: the check demands a page size that is a multiple of the tile.
  const std::byte* kv_address(const TensorView& view, const WorkItem& item, std::int32_t kv_begin,
                              int kv_head) const {
    std::int64_t offset = 0;
    if (args_.page_table) {
      const std::int64_t page_size = view.size(1);
      const TensorView& table = args_.page_table;
      const std::int64_t page =
          table.as<const std::int32_t>()[item.sequence * table.stride(0) + kv_begin / page_size];
      // Asked here, not at the door: pages that no tile names may be gone already.
      demand(page >= 0 && page < view.size(0), "attention: key ", kv_begin, " of sequence ",
             item.sequence, " is visible, but its page is not in the store (page ", page, " of ",
             view.size(0), ")");
      offset =
          page * view.stride(0) + kv_begin % page_size * view.stride(1) + kv_head * view.stride(2);
    } else if (args_.kv_indptr) {
      offset = (first_token(args_.kv_indptr, item) + kv_begin) * view.stride(0) +
               kv_head * view.stride(1);
    } else {
      offset =
          item.sequence * view.stride(0) + kv_begin * view.stride(1) + kv_head * view.stride(2);
    }
    return view.as<const std::byte>() + offset * static_cast<std::int64_t>(size_of(view.dtype));
  }

  const AttentionArgs& args_;
  const Schedule& schedule_;
};

// Everything a task needs besides its item.
struct Call {
  const AttentionMicro& micro;
  const AttentionArgs& args;
  const Schedule& schedule;
  Operands operands;
  int head_dim;
  float q_scale;  // scale * log2(e)

  PackedRows rows_of(const WorkItem& item) const {
    return {item.num_heads * item.size, item.size, head_dim, args.k.dtype};
  }
  int num_keys(const WorkItem& item, const TileEntry& tile) const {
    const auto kv_len = schedule.shape.sequences[static_cast<std::size_t>(item.sequence)].kv_len;
    return static_cast<int>(std::min<std::int64_t>(schedule.plan.inner_tile, kv_len - tile.begin));
  }
  TileBits bits_of(const TileEntry& tile) const {
    if (tile.is_full()) return {};
    return {schedule.bitmaps.row(tile.bitmap, 0).data(), schedule.bitmaps.words_per_row()};
  }
};

// Writes the output and the logsumexp of one packed row; `o` is read every `o_stride` floats.
void store_row(const Call& call, const WorkItem& item, int packed_row, const float* o, int o_stride,
               float row_max, float row_sum) {
  const int head = item.q_head + packed_row / item.size;
  const int row = packed_row % item.size;
  std::byte* out = call.operands.o_row(item, head, row);
  const bool empty = row_sum == 0.0F;
  const float inverse = empty ? 0.0F : 1.0F / row_sum;
  for (int d = 0; d < call.head_dim; ++d) {
    store_value(call.args.o.dtype, out, d, empty ? 0.0F : o[d * o_stride] * inverse);
  }
  if (call.args.lse) {
    *call.operands.lse(item, head, row) =
        empty ? kMinusInfinity : row_max * std::numbers::ln2_v<float> + std::log(row_sum);
  }
}

// --- Many rows
// -----------------------------------------------------------------------------------------

class ManyRows {
 public:
  explicit ManyRows(const Call& call) : call_(call) {
    const int max_rows = call.schedule.plan.outer_tile * call.schedule.shape.group_size();
    const auto stride = static_cast<std::size_t>(round_up(max_rows, call.micro.row_width));
    const auto dim = static_cast<std::size_t>(call.head_dim);
    const auto keys = static_cast<std::size_t>(call.schedule.plan.inner_tile);
    const std::size_t scratch = keys * (2 * dim + stride) + 32;
    memory_ = AlignedBuffer((2 * dim * stride + 2 * stride + scratch) * sizeof(float));
    q_ = memory_.as<float>();
    state_.o = q_ + dim * stride;
    state_.row_max = state_.o + dim * stride;
    state_.row_sum = state_.row_max + stride;
    scratch_ = state_.row_sum + stride;
  }

  void run(const WorkItem& item) {
    const PackedRows rows = call_.rows_of(item);
    const auto stride = static_cast<int>(round_up(rows.num_rows, call_.micro.row_width));
    pack(item, rows, stride);
    for (const TileEntry& tile : call_.schedule.list(item.list)) {
      call_.micro.add_tile_transposed(rows, stride, q_, call_.operands.kv_tile(item, tile.begin),
                                      call_.num_keys(item, tile), call_.bits_of(tile), scratch_,
                                      state_);
    }
    for (int row = 0; row < rows.num_rows; ++row) {
      store_row(call_, item, row, state_.o + row, stride, state_.row_max[row], state_.row_sum[row]);
    }
  }

 private:
  void pack(const WorkItem& item, const PackedRows& rows, int stride) {
    const std::int64_t size = static_cast<std::int64_t>(stride) * call_.head_dim;
    std::fill_n(state_.o, size, 0.0F);
    std::fill_n(state_.row_max, stride, kMinusInfinity);
    std::fill_n(state_.row_sum, stride, 0.0F);
    std::fill_n(q_, size, 0.0F);
    for (int row = 0; row < rows.num_rows; ++row) {
      const std::byte* q =
          call_.operands.q_row(item, item.q_head + row / rows.q_rows, row % rows.q_rows);
      for (int d = 0; d < call_.head_dim; ++d) {
        q_[d * stride + row] = load_value(call_.args.q.dtype, q, d) * call_.q_scale;
      }
    }
  }

  const Call& call_;
  AlignedBuffer memory_;
  float* q_ = nullptr;
  float* scratch_ = nullptr;
  SoftmaxState state_;
};

// --- Few rows
// ------------------------------------------------------------------------------------------

// Part of the key list of an item, and what it sums up to. Lists are cut by their own length alone,
// so that neither threads nor batch-mates change a bit.
struct FewRowsPart {
  const WorkItem* item;
  std::size_t first_tile;
  std::size_t num_tiles;
};

struct FewRowsState {
  explicit FewRowsState(int head_dim)
      : memory(sizeof(float) * kFewRows * (static_cast<std::size_t>(padded_dim(head_dim)) + 2)) {
    state.row_max = memory.as<float>();
    state.row_sum = state.row_max + kFewRows;
    state.o = state.row_sum + kFewRows;
    std::fill_n(state.row_max, kFewRows, kMinusInfinity);
    std::fill_n(state.row_sum, kFewRows * (padded_dim(head_dim) + 1), 0.0F);
  }
  AlignedBuffer memory;
  SoftmaxState state;
};

void run_few_rows(const Call& call, const FewRowsPart& part, const SoftmaxState& state) {
  const WorkItem& item = *part.item;
  const PackedRows rows = call.rows_of(item);
  const int dim = padded_dim(call.head_dim);
  alignas(64) std::array<float, kFewRows * kMaxDim> q;
  alignas(64) std::array<float, kFewRows * kTile + 4 * kMaxDim> scratch;
  for (int row = 0; row < rows.num_rows; ++row) {
    const std::byte* source =
        call.operands.q_row(item, item.q_head + row / rows.q_rows, row % rows.q_rows);
    float* packed = q.data() + row * dim;
    for (int d = 0; d < dim; ++d) {
      packed[d] =
          d < call.head_dim ? load_value(call.args.q.dtype, source, d) * call.q_scale : 0.0F;
    }
  }
  for (const TileEntry& tile :
       call.schedule.list(item.list).subspan(part.first_tile, part.num_tiles)) {
    call.micro.add_tile_rows(rows, q.data(), call.operands.kv_tile(item, tile.begin),
                             call.num_keys(item, tile), call.bits_of(tile), scratch.data(), state);
  }
}

// into += from: two online-softmax states of the same rows.
void merge(int num_rows, int dim, const SoftmaxState& from, const SoftmaxState& into) {
  for (int row = 0; row < num_rows; ++row) {
    if (from.row_sum[row] == 0.0F) continue;
    const float top = std::max(from.row_max[row], into.row_max[row]);
    const float from_scale = std::exp2(from.row_max[row] - top);
    const float into_scale = into.row_sum[row] == 0.0F ? 0.0F : std::exp2(into.row_max[row] - top);
    for (int d = row * dim; d < (row + 1) * dim; ++d) {
      into.o[d] = into.o[d] * into_scale + from.o[d] * from_scale;
    }
    into.row_sum[row] = into.row_sum[row] * into_scale + from.row_sum[row] * from_scale;
    into.row_max[row] = top;
  }
}

void run_few_row_items(const Call& call, std::span<const WorkItem* const> items,
                       ThreadPool& threads) {
  std::vector<FewRowsPart> parts;
  std::int64_t total_tiles = 0;
  for (const WorkItem* item : items) {
    const std::size_t num_tiles = call.schedule.list(item->list).size();
    total_tiles += static_cast<std::int64_t>(num_tiles);
    for (std::size_t first = 0; first == 0 || first < num_tiles; first += kSplitTiles) {
      parts.push_back({item, first, std::min<std::size_t>(kSplitTiles, num_tiles - first)});
    }
  }
  std::vector<FewRowsState> states;
  states.reserve(parts.size());
  for (std::size_t i = 0; i < parts.size(); ++i) states.emplace_back(call.head_dim);
  const auto num_parts = static_cast<std::int64_t>(parts.size());
  const auto run = [&](Range range) {
    for (auto i = static_cast<std::size_t>(range.begin); i < static_cast<std::size_t>(range.end);
         ++i) {
      run_few_rows(call, parts[i], states[i].state);
    }
  };
  if (total_tiles <= kSerialTiles) {
    run({0, num_parts});
  } else {
    threads.parallel_for(num_parts, 1, run);
  }
  const int dim = padded_dim(call.head_dim);
  for (std::size_t i = 0; i < parts.size();) {
    const SoftmaxState& state = states[i].state;
    const WorkItem& item = *parts[i].item;
    const int num_rows = item.num_heads * item.size;
    for (++i; i < parts.size() && parts[i].item == &item; ++i) {
      merge(num_rows, dim, states[i].state, state);
    }
    for (int row = 0; row < num_rows; ++row) {
      store_row(call, item, row, state.o + row * dim, 1, state.row_max[row], state.row_sum[row]);
    }
  }
}

bool supports(const AttentionSpec& spec) {
  const auto is_float = [](DType dtype) {
    return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
  };
  return is_float(spec.q_dtype) && is_float(spec.kv_dtype) && spec.head_dim >= 1 &&
         spec.head_dim <= kMaxDim;
}

Tiling tiling(const AttentionSpec& /*spec*/, Sweep /*sweep*/) {
  return {.outer_tile = kTile, .outer_part = kTile, .inner_tile = kTile};
}

void forward_entry(const AttentionArgs& args, const Schedule& schedule, Stream stream) {
  static const AttentionMicro& micro = attention_micro(best_cpu_isa());
  cpu_attention_forward(micro, args, schedule, stream);
}

}  // namespace

const AttentionMicro& attention_micro(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kScalar:
      return attention_micro_scalar();
    case CpuIsa::kAvx2:
      return attention_micro_avx2();
    case CpuIsa::kAvx512:
    case CpuIsa::kAvx512Bf16:
    case CpuIsa::kAmx:
      return attention_micro_avx512();
  }
  bug("attention_micro: unknown instruction set");
}

void cpu_attention_forward(const AttentionMicro& micro, const AttentionArgs& args,
                           const Schedule& schedule, Stream stream) {
  const auto head_dim = static_cast<int>(args.q.size(args.q.num_axes() - 1));
  const float scale =
      args.scale != 0.0F ? args.scale : 1.0F / std::sqrt(static_cast<float>(head_dim));
  const Call call{micro,    args,
                  schedule, Operands(args, schedule),
                  head_dim, scale * std::numbers::log2e_v<float>};
  // The choice is an item's own: whoever shares the batch must not change its bits.
  const auto is_few = [&](const WorkItem& item) {
    return item.num_heads * item.size <= kFewRows && schedule.plan.inner_tile <= kTile;
  };
  std::vector<const WorkItem*> few;
  std::vector<const WorkItem*> many;
  for (const WorkItem& item : schedule.items) (is_few(item) ? few : many).push_back(&item);
  stream.threads->parallel_for(static_cast<std::int64_t>(many.size()), 1, [&](Range range) {
    ManyRows rows(call);
    for (auto i = range.begin; i < range.end; ++i) rows.run(*many[static_cast<std::size_t>(i)]);
  });
  run_few_row_items(call, few, *stream.threads);
}

AttentionTable cpu_attention_table() { return {supports, tiling, forward_entry, nullptr}; }

}  // namespace perpend
