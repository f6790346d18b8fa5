#include "perpend/kernels/attention_drift.h"

#include "perpend/core/range.h"

namespace perpend {

// Of each part of the keys the largest score and the sum of exponentials for each (row, head), then
// for each (row, head) their logsumexp, and of each part what its cosines are made of.
std::int64_t drift_statistics(const AttentionDriftArgs& args) {
  const std::int64_t parts = ceil_div(args.canvas(), std::int64_t{kDriftKeys});
  const std::int64_t heads = args.num_q_heads();
  const std::int64_t rows = args.num_window() + 2 * args.num_tracked();
  const std::int64_t of_cosines = args.num_tracked() * (args.by_keys ? 3 * heads : 1);
  return args.num_layers() * (rows * heads * (2 * parts + 1) + parts * of_cosines);
}

}  // namespace perpend
