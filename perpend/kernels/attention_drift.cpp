#include "perpend/kernels/attention_drift.h"

#include "perpend/kernels/drift_split.h"

namespace perpend {

DriftSplit drift_split(const AttentionDriftArgs& args) {
  const auto count = [](std::int64_t value) { return static_cast<std::int32_t>(value); };
  return {.num_layers = count(args.num_layers()),
          .canvas = count(args.canvas()),
          .num_q_heads = args.num_q_heads(),
          .num_window = count(args.num_window()),
          .num_tracked = count(args.num_tracked()),
          .num_changed = args.num_tracked() > 0 ? count(args.num_changed()) : 0,
          .by_keys = args.by_keys};
}

std::int64_t drift_statistics(const AttentionDriftArgs& args) {
  return drift_split(args).num_values();
}

}  // namespace perpend
