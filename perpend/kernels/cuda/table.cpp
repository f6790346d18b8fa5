#include "perpend/kernels/table.h"

#include "perpend/kernels/cuda/attention.h"
#include "perpend/kernels/cuda/block_attention.h"
#include "perpend/kernels/cuda/capture.h"
#include "perpend/kernels/cuda/fused.h"
#include "perpend/kernels/cuda/graph.h"
#include "perpend/kernels/cuda/memory.h"

namespace perpend {

const KernelTable& cuda_kernels() {
  static const KernelTable table{
      .name = "cuda",
      .attention = {cuda_attention_supports, cuda_attention_tiling, cuda_attention_forward,
                    cuda_attention_backward,
                    "head_dim 1 to 256 with q, k and v all f16 or all bf16", cuda_plan_capacity,
                    cuda_make_plan, cuda_make_block_tables, cuda_make_block_plan, cuda_has_plans},
      .quantized = {},
      .fused = {cuda_rms_norm, cuda_rotary_cache, cuda_gated_mlp, cuda_vocabulary,
                cuda_few_rows_product, cuda_block_scores, cuda_attention_drift},
      .memory = cuda_memory(),
      .training = {cuda_add_rms_norm, cuda_add_rms_norm_backward, cuda_rotary_heads,
                   cuda_gated_mlp_backward, cuda_cross_entropy},
      .is_capturing =
          [](Stream stream) { return is_capturing(static_cast<cudaStream_t>(stream.cuda_stream)); },
      .capture = cuda_capture};
  return table;
}

}  // namespace perpend
