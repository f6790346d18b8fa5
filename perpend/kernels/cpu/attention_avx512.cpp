#include "perpend/kernels/cpu/attention_loops.h"
#include "perpend/kernels/cpu/simd_avx512.h"

namespace perpend {

const AttentionMicro& attention_micro_avx512() {
  static constexpr AttentionMicro kMicro = make_attention_micro<avx512::Vec>();
  return kMicro;
}

}  // namespace perpend
