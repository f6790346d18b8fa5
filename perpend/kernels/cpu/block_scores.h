#pragma once

#include "perpend/kernels/block_scores.h"

namespace perpend {

void cpu_block_scores(const BlockScoresArgs& args, Stream stream);

}  // namespace perpend
