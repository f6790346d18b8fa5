#include "perpend/kernels/table.h"

namespace perpend {

const KernelTable& cuda_kernels() {
  static const KernelTable table{
      .name = "cuda", .attention = {}, .quantized = {}, .fused = {}, .memory = {}};
  return table;
}

}  // namespace perpend
