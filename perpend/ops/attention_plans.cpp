#include "perpend/ops/attention_plans.h"

#include "perpend/kernels/attention_prepare.h"
#include "perpend/kernels/table.h"
#include "perpend/ops/schedule_cache.h"

namespace perpend {

AttentionSchedules plan_attention(std::span<const Mask> masks, const AttentionShape& shape,
                                  const AttentionSpec& spec, Device device) {
  const KernelTable& table = kernels_for(device);
  const auto tiling = require(table.attention.tiling, "attention", table);
  check_supported(spec, device);
  const auto plan = [&](Sweep sweep) {
    return schedule_cache().get(masks, shape, tiling(spec, sweep), sweep);
  };
  AttentionSchedules plans{plan(Sweep::kRows), plan(Sweep::kColumns)};
  prepare_attention(spec, *plans.rows, *plans.columns, device);
  return plans;
}

}  // namespace perpend
