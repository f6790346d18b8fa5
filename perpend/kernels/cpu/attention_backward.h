#pragma once

#include "perpend/kernels/attention.h"
#include "perpend/kernels/cpu/tile_micro.h"

namespace perpend {

// The backward pass by tile products over packed panels: a pass over rows for dq, one over columns
// for dk and dv, seven products in all. Nothing is added to by two threads.
template <class Real>
void attention_backward_tiles(const TileMicro<Real>& micro, const AttentionGradArgs& args,
                              const Schedule& rows, const Schedule& columns, Stream stream);

}  // namespace perpend
