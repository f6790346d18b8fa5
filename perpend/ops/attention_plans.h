#pragma once

#include <memory>
#include <span>

#include "perpend/kernels/attention.h"
#include "perpend/mask/mask.h"
#include "perpend/schedule/schedule.h"

namespace perpend {

// The schedules of one call of attention in both directions.
struct AttentionSchedules {
  std::shared_ptr<const Schedule> rows;
  std::shared_ptr<const Schedule> columns;
};

// What attention() and its gradients take from schedule_cache() for such a call, made ahead of it
// together with what `device` keeps of it: from any thread, so that a batch is planned while the
// device computes the one before. Throws as compile() and check_supported().
AttentionSchedules plan_attention(std::span<const Mask> masks, const AttentionShape& shape,
                                  const AttentionSpec& spec, Device device);

}  // namespace perpend
