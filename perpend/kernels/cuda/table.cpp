#include "perpend/kernels/table.h"

#include "perpend/kernels/cuda/fused.h"

namespace perpend {

const KernelTable& cuda_kernels() {
  static const KernelTable table{
      .name = "cuda",
      .attention = {},
      .quantized = {},
      .fused = {cuda_rms_norm, cuda_rotary_cache, cuda_gated_mlp, cuda_vocabulary}};
  return table;
}

}  // namespace perpend
