#include "perpend/models/elastic_drift.h"

#include <utility>
#include <vector>

#include <ATen/ops/from_blob.h>

#include "perpend/ops/tensor_view_of.h"

namespace perpend {
namespace {

torch::Tensor to_host(const torch::Tensor& values) {
  if (values.is_cpu()) return values;
  torch::Tensor host =
      torch::empty(values.sizes(), torch::dtype(values.scalar_type()).pinned_memory(true));
  host.copy_(values, /*non_blocking=*/true);
  return host;
}

torch::Tensor pages_tensor(const TensorView& pages) {
  return torch::from_blob(
      pages.data, {pages.size(0), pages.size(1), pages.size(2), pages.size(3)},
      {pages.stride(0), pages.stride(1), pages.stride(2), pages.stride(3)},
      torch::dtype(scalar_type_of(pages.dtype)).device(torch_device(pages.device)));
}

}  // namespace

LayerDrift::LayerDrift(const DriftOperands& operands, Range layers, Context& context)
    : layers_(layers), canvas_(operands.queries.size(1)) {
  const auto part = [&](const torch::Tensor& of_layers) {
    return view_of(of_layers.narrow(0, layers.begin, layers.size()));
  };
  // Together, so that one copy takes both to the host.
  const torch::Tensor found = torch::empty({layers.size() * (canvas_ + 1)},
                                           operands.queries.options().dtype(torch::kFloat32));
  const std::int64_t attended = layers.size() * canvas_;
  AttentionDriftArgs args{
      .queries = part(operands.queries),
      .window = view_of(operands.window),
      .k_pages = operands.k_pages,
      .page_tables = part(operands.page_tables),
      .statistics = {},
      .attended = view_of(found.narrow(0, 0, attended).view({layers.size(), canvas_})),
      .similarity = view_of(found.narrow(0, attended, layers.size())),
      .by_keys = operands.by_keys};
  if (operands.old_queries.defined()) {
    args.old_queries = part(operands.old_queries);
    args.old_keys = part(operands.old_keys);
    args.changed = view_of(operands.changed);
    args.tracked = view_of(operands.tracked);
  }
  const torch::Tensor statistics = torch::empty({drift_statistics(args)}, found.options());
  args.statistics = view_of(statistics);
  require(context.kernels->fused.attention_drift, "drift of attention", *context.kernels)(
      args, context.stream);
  found_ = to_host(found);
  if (!context.torch_stream) return;
  event_.emplace(context.torch_stream->device_type());
  event_->record(*context.torch_stream);
}

void LayerDrift::wait() {
  if (event_) event_->synchronize();
}

float LayerDrift::similarity(std::int64_t layer) const {
  return found_.data_ptr<float>()[layers_.size() * canvas_ + layer - layers_.begin];
}

std::span<const float> LayerDrift::attended(std::int64_t layer) const {
  return {found_.data_ptr<float>() + (layer - layers_.begin) * canvas_,
          static_cast<std::size_t>(canvas_)};
}

torch::Tensor on_device(std::span<const std::int32_t> values, const Context& context) {
  const bool is_gpu = context.device.type != DeviceType::kCpu;
  const torch::Tensor host =
      torch::empty({std::ssize(values)}, torch::dtype(torch::kInt32).pinned_memory(is_gpu));
  std::copy(values.begin(), values.end(), host.data_ptr<std::int32_t>());
  return host.to(torch_device(context.device), /*non_blocking=*/true);
}

torch::Tensor page_tables(const KvSequence& sequence, const Context& context) {
  const int layers = sequence.store().config().num_layers;
  std::vector<std::int32_t> tables;
  for (int layer = 0; layer < layers; ++layer) {
    const auto table = sequence.page_table(layer);
    tables.insert(tables.end(), table.begin(), table.end());
  }
  return on_device(tables, context).view({layers, -1});
}

torch::Tensor keys_of_rows(const KvSequence& sequence, std::span<const std::int32_t> rows,
                           const Context& context) {
  const KvStore& store = sequence.store();
  const int layers = store.config().num_layers;
  const int page_size = store.config().page_size;
  std::vector<std::int32_t> places;  // pages of all layers, then rows in them
  for (int layer = 0; layer < layers; ++layer) {
    const auto table = sequence.page_table(layer);
    for (const std::int32_t row : rows) {
      places.push_back(table[static_cast<std::size_t>(row / page_size)]);
    }
  }
  for (const std::int32_t row : rows) places.push_back(row % page_size);
  const torch::Tensor all = on_device(places, context).to(torch::kInt64);
  const std::int64_t count = std::ssize(rows);
  const torch::Tensor pages = all.narrow(0, 0, layers * count).view({layers, count});
  const torch::Tensor in_page = all.narrow(0, layers * count, count).view({1, count});
  return pages_tensor(store.k_pages()).index({pages, in_page}).contiguous();
}

}  // namespace perpend
