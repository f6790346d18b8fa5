#pragma once

#include "perpend/kernels/table.h"

namespace perpend {

// Host side of the fused kernels: check the arguments, launch on the device of the views. Contracts
// as in the headers of the arguments. Asynchronous; allocate nothing.
void cuda_rms_norm(const RmsNormArgs& args, Stream stream);
// Positions and slots lie in device memory, so their range is asserted on the device only.
void cuda_rotary_cache(const RotaryCacheArgs& args, Stream stream);
void cuda_gated_mlp(const GatedMlpArgs& args, Stream stream);
// The summaries too lie in memory of the device (or in pinned memory that it can write).
void cuda_vocabulary(const VocabularyArgs& args, Stream stream);
void cuda_block_scores(const BlockScoresArgs& args, Stream stream);
void cuda_attention_drift(const AttentionDriftArgs& args, Stream stream);

// Of training.
void cuda_add_rms_norm(const AddRmsNormArgs& args, Stream stream);
void cuda_add_rms_norm_backward(const AddRmsNormGradArgs& args, Stream stream);
void cuda_rotary_heads(const RotaryHeadsArgs& args, Stream stream);
void cuda_gated_mlp_backward(const GatedMlpGradArgs& args, Stream stream);
void cuda_cross_entropy(const CrossEntropyArgs& args, Stream stream);

void cuda_few_rows_product(const FewRowsProductArgs& args, Stream stream);

}  // namespace perpend
