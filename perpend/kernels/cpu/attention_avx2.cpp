#include "perpend/kernels/cpu/attention_loops.h"
#include "perpend/kernels/cpu/simd_avx2.h"

namespace perpend {

const AttentionMicro& attention_micro_avx2() {
  static constexpr AttentionMicro kMicro = make_attention_micro<avx2::Vec>();
  return kMicro;
}

}  // namespace perpend
