#pragma once

#include "perpend/kernels/block_scores.h"
#include "perpend/kernels/gated_mlp.h"
#include "perpend/kernels/norm.h"
#include "perpend/kernels/rotary.h"
#include "perpend/kernels/vocabulary.h"

namespace perpend {

// What every device demands of the arguments of the fused kernels: shapes, dtypes, contiguous last
// axes, all on one device. Values of positions, slots and indptrs are looked at where the host can
// read them. Each throws InvalidArgument.
void check_rms_norm(const RmsNormArgs& args);
void check_rotary_cache(const RotaryCacheArgs& args);
void check_gated_mlp(const GatedMlpArgs& args);
void check_vocabulary(const VocabularyArgs& args);
void check_block_scores(const BlockScoresArgs& args);

}  // namespace perpend
