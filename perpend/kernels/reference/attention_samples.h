#pragma once

#include <vector>

#include "perpend/kernels/reference/attention_expectation.h"

namespace perpend {

// Holds some rows of a call's outputs against the reference, where all of them would take too long:
// `count` query rows (o, lse, dq) and as many keys (dk, dv), drawn by `random`, the last of each
// among them. Keys take o and lse as they were found. Returns the worst of each output.
std::vector<Deviation> compare_samples(const AttentionCall& call, const AttentionOutputs& outputs,
                                       bool with_gradients, int count, Random& random);

}  // namespace perpend
