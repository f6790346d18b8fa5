#include "perpend/kernels/cpu/attention_loops.h"
#include "perpend/kernels/cpu/simd_scalar.h"

namespace perpend {

const AttentionMicro& attention_micro_scalar() {
  static constexpr AttentionMicro kMicro = make_attention_micro<scalar::Vec>();
  return kMicro;
}

}  // namespace perpend
