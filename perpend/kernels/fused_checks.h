#pragma once

#include "perpend/kernels/attention_drift.h"
#include "perpend/kernels/block_scores.h"
#include "perpend/kernels/cross_entropy.h"
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
void check_attention_drift(const AttentionDriftArgs& args);
void check_add_rms_norm(const AddRmsNormArgs& args);
void check_add_rms_norm_grad(const AddRmsNormGradArgs& args);
void check_rotary_heads(const RotaryHeadsArgs& args);
void check_gated_mlp_grad(const GatedMlpGradArgs& args);
void check_cross_entropy(const CrossEntropyArgs& args);

}  // namespace perpend
