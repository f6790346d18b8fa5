#include "perpend/models/forward_pass.h"

#include <algorithm>
#include <utility>

#include "perpend/core/error.h"
#include "perpend/nn/device_scope.h"
#include "perpend/ops/any_tensor.h"
#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

constexpr std::int64_t kAlignment = 16;

std::int64_t block_bytes(const PassSize& size) {
  const std::int64_t rows_32 = 2 * size.rows + size.logit_rows + size.sequences + 1;
  const std::int64_t tables = size.kept_layers * size.sequences * size.pages;
  constexpr std::int64_t kArrays = 6;
  return 4 * (rows_32 + tables) + 8 * size.kept_layers * size.rows + kArrays * kAlignment;
}

}  // namespace

PassSize size_of(const ForwardInput& input) {
  const auto num_layers = static_cast<std::int64_t>(input.layer_masks.size());
  const KvStore& store = input.sequences.front().sequence->store();
  return {.rows = static_cast<std::int64_t>(input.tokens.size()),
          .sequences = static_cast<std::int64_t>(input.sequences.size()),
          .logit_rows = static_cast<std::int64_t>(input.logit_rows.size()),
          .layers = num_layers,
          .kept_layers = store.config().num_layers == 1 ? 1 : num_layers,
          .pages = max_pages(input.sequences)};
}

std::vector<Mask> masks_of_layer(const ForwardInput& input, std::size_t layer) {
  if (input.sequence_masks.empty()) return {input.layer_masks[layer]};
  std::vector<Mask> masks;
  for (const auto& of_layers : input.sequence_masks) masks.push_back(of_layers[layer]);
  return masks;
}

AttentionShape attention_shape(const ForwardInput& input, const ModelConfig& config) {
  AttentionShape shape;
  shape.num_q_heads = config.num_q_heads;
  shape.num_kv_heads = config.num_kv_heads;
  for (const KvRows& rows : input.sequences) {
    shape.sequences.push_back({rows.count, rows.kv_len(), rows.begin});
  }
  return shape;
}

AttentionSpec attention_spec(const ForwardInput& input, const Context& context) {
  const KvStoreConfig& store = input.sequences.front().sequence->store().config();
  return {dtype_of(context.type), store.dtype, store.head_dim,
          /*paged=*/true};
}

ForwardPass::ForwardPass(const PassSize& size, const Context& context) : size_(size) {
  const DeviceScope device(context);
  block_ = torch::empty({block_bytes(size)},
                        torch::dtype(torch::kUInt8).device(torch_device(context.device)));
  tokens_ = place({size.rows}, torch::kInt32);
  positions_ = place({size.rows}, torch::kInt32);
  logit_rows_ = place({size.logit_rows}, torch::kInt32);
  q_indptr_ = place({size.sequences + 1}, torch::kInt32);
  slots_ = place({size.kept_layers * size.rows}, torch::kInt64);
  page_tables_ = place({size.kept_layers * size.sequences * size.pages}, torch::kInt32);
}

torch::Tensor ForwardPass::place(std::initializer_list<std::int64_t> shape,
                                 torch::ScalarType type) {
  std::int64_t bytes = static_cast<std::int64_t>(c10::elementSize(type));
  for (const std::int64_t count : shape) bytes *= count;
  const std::int64_t begin = round_up(num_bytes_, kAlignment);
  num_bytes_ = begin + bytes;
  return block_.narrow(0, begin, bytes).view(type).view(shape);
}

template <class T>
T* ForwardPass::host_data(const torch::Tensor& array) const {
  const auto offset =
      static_cast<std::byte*>(array.data_ptr()) - static_cast<std::byte*>(block_.data_ptr());
  return reinterpret_cast<T*>(static_cast<std::byte*>(host_.data_ptr()) + offset);
}

void ForwardPass::assign(const ForwardInput& input, const Context& context) {
  const KvStore& store = input.sequences.front().sequence->store();
  check_eq(store.config().device, context.device,
           "model: devices of the cache and of the weights "
           "differ");
  if (std::ssize(input.tokens) != size_.rows || std::ssize(input.logit_rows) > size_.logit_rows) {
    bug("model: a pass was made for other numbers of rows");
  }
  layers_ = input.layers(static_cast<int>(size_.layers));
  num_logit_rows_ = std::ssize(input.logit_rows);
  k_pages_ = store.k_pages();
  v_pages_ = store.v_pages();
  if (context.device.type == DeviceType::kCpu) {
    host_ = block_;
    write(input);
    return;
  }
  // LibTorch keeps pinned memory until what was copied from it has arrived.
  host_ = torch::empty({num_bytes_}, torch::dtype(torch::kUInt8).pinned_memory(true));
  write(input);
  block_.narrow(0, 0, num_bytes_).copy_(host_, /*non_blocking=*/true);
}

void ForwardPass::write(const ForwardInput& input) {
  std::copy(input.tokens.begin(), input.tokens.end(), host_data<std::int32_t>(tokens_));
  std::copy(input.logit_rows.begin(), input.logit_rows.end(), host_data<std::int32_t>(logit_rows_));
  auto* const first_position = host_data<std::int32_t>(positions_);
  std::int32_t* positions = first_position;
  auto* q_indptr = host_data<std::int32_t>(q_indptr_);
  *q_indptr = 0;
  for (const KvRows& rows : input.sequences) {
    for (std::int64_t row = 0; row < rows.count; ++row) {
      *positions++ = static_cast<std::int32_t>(rows.begin + row);
    }
    q_indptr[1] = q_indptr[0] + static_cast<std::int32_t>(rows.count);
    ++q_indptr;
  }
  std::copy(input.places.begin(), input.places.end(), first_position);
  std::copy(input.positions.begin(), input.positions.end(), first_position);
  auto* slots = host_data<std::int64_t>(slots_);
  auto* page_tables = host_data<std::int32_t>(page_tables_);
  // Layers that do not run may have no pages for these rows.
  const Range kept = size_.kept_layers == 1 ? Range{0, 1} : layers_;
  for (auto layer = static_cast<int>(kept.begin); layer < kept.end; ++layer) {
    write_slots(input.sequences, layer, input.places, slots + layer * size_.rows);
    write_page_tables(input.sequences, layer, size_.pages,
                      page_tables + layer * size_.sequences * size_.pages);
  }
}

void ForwardPass::set_schedules(const ForwardInput& input, const ModelConfig& config,
                                const Context& context) {
  const AttentionShape shape = attention_shape(input, config);
  const AttentionSpec spec = attention_spec(input, context);
  check_supported(spec, context.device);
  const Tiling tiling = context.kernels->attention.tiling(spec, Sweep::kRows);
  const auto first = static_cast<std::size_t>(layers_.begin);
  schedules_.resize(input.layer_masks.size());
  std::vector<Mask> masks;
  for (std::size_t i = first; i < static_cast<std::size_t>(layers_.end); ++i) {
    std::vector<Mask> before = std::exchange(masks, masks_of_layer(input, i));
    schedules_[i] =
        masks == before ? schedules_[i - 1] : context.schedules->get(masks, shape, tiling);
  }
}

AttentionInput ForwardPass::attention(int layer) const {
  const auto index = static_cast<std::size_t>(layer);
  const std::int64_t kept = size_.kept_layers == 1 ? 0 : layer;
  const Device device = k_pages_.device;
  auto* slots = static_cast<std::int64_t*>(slots_.data_ptr());
  auto* tables = static_cast<std::int32_t*>(page_tables_.data_ptr());
  const TensorView layer_slots =
      TensorView::dense(slots + kept * size_.rows, DType::kI64, {size_.rows}, device);
  const TensorView layer_tables =
      TensorView::dense(tables + kept * size_.sequences * size_.pages, DType::kI32,
                        {size_.sequences, size_.pages}, device);
  return {.positions = view_of(positions_),
          .q_indptr = view_of(q_indptr_),
          .kv = {k_pages_, v_pages_, layer_tables, layer_slots},
          .schedule = plans_.empty() ? schedules_[index].get() : nullptr,
          .plan = plans_.empty() ? nullptr : plans_[index]};
}

}  // namespace perpend
