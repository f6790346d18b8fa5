#include "perpend/kernels/table.h"

#include "perpend/kernels/cpu/attention.h"
#include "perpend/kernels/cpu/fused.h"
#include "perpend/kernels/cpu/linear.h"

namespace perpend {

const KernelTable& cpu_kernels() {
  static const KernelTable table{
      "cpu", cpu_attention_table(best_cpu_isa()), cpu_quantized_table(), cpu_fused_table(), {}};
  return table;
}

AttentionTable cpu_attention(CpuIsa isa) { return cpu_attention_table(isa); }

}  // namespace perpend
