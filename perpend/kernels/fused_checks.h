#pragma once

#include "perpend/kernels/gated_mlp.h"
#include "perpend/kernels/norm.h"
#include "perpend/kernels/rotary.h"
#include "perpend/kernels/vocabulary.h"

namespace perpend {

// What every device demands of the arguments of the fused kernels: shapes, dtypes, contiguous last
// axes, all on one device. Values of positions and slots are looked at where the host can read
// them. Each throws InvalidArgument.
void check_rms_norm(const RmsNormArgs& args);
void check_rotary_cache(const RotaryCacheArgs& args);
void check_gated_mlp(const GatedMlpArgs& args);
void check_vocabulary(const VocabularyArgs& args);

}  // namespace perpend
