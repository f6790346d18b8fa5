#include "perpend/kernels/cpu/row_loops.h"
#include "perpend/kernels/cpu/simd_avx512.h"

namespace perpend {

const RowMicro& row_micro_avx512() {
  static constexpr RowMicro kMicro = make_row_micro<avx512::Vec>();
  return kMicro;
}

}  // namespace perpend
