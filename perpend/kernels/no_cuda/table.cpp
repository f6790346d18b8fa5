#include "perpend/kernels/table.h"

#include "perpend/kernels/attention_prepare.h"

namespace perpend {

const KernelTable& cuda_kernels() {
  static const KernelTable table{
      .name = "cuda", .attention = {}, .quantized = {}, .fused = {}, .memory = {}};
  return table;
}

void prepare_attention(const AttentionSpec& /*spec*/, const Schedule& /*rows*/,
                       const Schedule& /*columns*/, Device /*device*/) {}

}  // namespace perpend
