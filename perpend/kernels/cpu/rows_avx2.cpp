#include "perpend/kernels/cpu/row_loops.h"
#include "perpend/kernels/cpu/simd_avx2.h"

namespace perpend {

const RowMicro& row_micro_avx2() {
  static constexpr RowMicro kMicro = make_row_micro<avx2::Vec>();
  return kMicro;
}

}  // namespace perpend
