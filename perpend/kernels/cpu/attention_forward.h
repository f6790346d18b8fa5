#pragma once

#include "perpend/kernels/attention.h"
#include "perpend/kernels/cpu/tile_micro.h"

namespace perpend {

// The forward pass of the items that `takes` says, by tile products over packed panels.
template <class Real>
void attention_forward_tiles(const TileMicro<Real>& micro, const AttentionArgs& args,
                             const Schedule& schedule,
                             bool (*takes)(const Schedule&, const WorkItem&), Stream stream);

}  // namespace perpend
