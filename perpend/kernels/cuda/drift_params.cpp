#include "perpend/kernels/cuda/drift_params.h"

#include <cmath>
#include <numbers>

namespace perpend {
namespace {

void set_workspace(device::DriftParams& params, float* values) {
  const DriftSplit& split = params.split;
  params.parts = reinterpret_cast<device::DriftPart*>(values);
  params.products = values + split.part_values();
  params.weight_sums = params.products + split.products();
  params.old_scores = params.weight_sums + split.weight_sums();
  params.cosines = params.old_scores + split.old_scores();
  params.counters = reinterpret_cast<unsigned*>(params.cosines + split.cosines());
}

}  // namespace

device::DriftParams drift_params(const AttentionDriftArgs& args) {
  const auto head_dim = static_cast<std::int32_t>(args.queries.size(3));
  const float scale =
      args.scale != 0.0F ? args.scale : 1.0F / std::sqrt(static_cast<float>(head_dim));
  device::DriftParams params{};
  params.split = drift_split(args);
  params.queries = args.queries.as<const std::uint16_t>();
  params.old_queries = args.old_queries.as<const std::uint16_t>();
  params.k_pages = args.k_pages.as<const std::uint16_t>();
  params.page_stride = args.k_pages.stride(0);
  params.row_stride = args.k_pages.stride(1);
  params.head_stride = args.k_pages.stride(2);
  params.old_keys = args.old_keys.as<const std::uint16_t>();
  params.page_tables = args.page_tables.as<const std::int32_t>();
  params.changed = args.changed.as<const std::int32_t>();
  params.window = args.window.as<const std::int32_t>();
  params.tracked = args.tracked.as<const std::int32_t>();
  params.num_kv_heads = args.num_kv_heads();
  params.head_dim = head_dim;
  params.page_size = static_cast<std::int32_t>(args.k_pages.size(1));
  params.pages = static_cast<std::int32_t>(args.page_tables.size(1));
  params.scale = scale * std::numbers::log2e_v<float>;
  set_workspace(params, args.statistics.as<float>());
  params.attended = args.attended.as<float>();
  params.similarity = args.similarity.as<float>();
  return params;
}

}  // namespace perpend
