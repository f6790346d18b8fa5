#pragma once

#include "perpend/kernels/attention.h"

namespace perpend {

// Makes what calls of `spec`, forward and backward, derive from the schedules of a batch and keep
// beside them at the first call: their copies in the memory of `device`. From any thread, also
// while calls run, which do not wait for it nor it for them. Does nothing for a CPU. Throws as the
// calls. Defined once: in kernels/cuda/ or in kernels/no_cuda/.
void prepare_attention(const AttentionSpec& spec, const Schedule& rows, const Schedule& columns,
                       Device device);

}  // namespace perpend
