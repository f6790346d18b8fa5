#include "perpend/kernels/cuda/drift_params.h"

#include <cmath>

namespace perpend {

device::DriftParams drift_params(const AttentionDriftArgs& args) {
  const auto head_dim = static_cast<std::int32_t>(args.queries.size(3));
  const auto count = [](std::int64_t value) { return static_cast<std::int32_t>(value); };
  device::DriftParams params{};
  params.queries = args.queries.as<const std::uint16_t>();
  params.old_queries = args.old_queries.as<const std::uint16_t>();
  params.k_pages = args.k_pages.as<const std::uint16_t>();
  params.page_stride = args.k_pages.stride(0);
  params.row_stride = args.k_pages.stride(1);
  params.head_stride = args.k_pages.stride(2);
  params.page_tables = args.page_tables.as<const std::int32_t>();
  params.window = args.window.as<const std::int32_t>();
  params.num_layers = count(args.num_layers());
  params.canvas = count(args.canvas());
  params.num_window = count(args.num_window());
  params.num_tracked = count(args.num_tracked());
  params.num_q_heads = args.num_q_heads();
  params.num_kv_heads = args.num_kv_heads();
  params.head_dim = head_dim;
  params.page_size = count(args.k_pages.size(1));
  params.pages = count(args.page_tables.size(1));
  params.scale = args.scale != 0.0F ? args.scale : 1.0F / std::sqrt(static_cast<float>(head_dim));
  params.by_keys = args.by_keys;
  if (params.num_tracked > 0) {
    params.old_keys = args.old_keys.as<const std::uint16_t>();
    params.num_changed = count(args.old_keys.size(1));
    params.changed = args.changed.as<const std::int32_t>();
    params.tracked = args.tracked.as<const std::int32_t>();
  }
  const std::int64_t heads =
      std::int64_t{params.num_layers} * params.num_rows() * params.num_q_heads;
  auto* statistics = args.statistics.as<float>();
  params.parts = reinterpret_cast<device::DriftPart*>(statistics);
  params.lse = statistics + 2 * heads * params.num_parts();
  params.cosines = params.lse + heads;
  params.attended = args.attended.as<float>();
  params.similarity = args.similarity.as<float>();
  return params;
}

}  // namespace perpend
