#include "perpend/kernels/cpu/row_loops.h"
#include "perpend/kernels/cpu/simd_scalar.h"

namespace perpend {

const RowMicro& row_micro_scalar() {
  static constexpr RowMicro kMicro = make_row_micro<scalar::Vec>();
  return kMicro;
}

}  // namespace perpend
