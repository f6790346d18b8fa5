#include "perpend/kernels/cpu/few_rows_loops.h"
#include "perpend/kernels/cpu/float_tiles.h"
#include "perpend/kernels/cpu/simd_avx2.h"

namespace perpend {

const FewRowsMicro& few_rows_micro_avx2() {
  static constexpr FewRowsMicro kMicro = make_few_rows_micro<avx2::Vec>();
  return kMicro;
}

const TileMicro<float>& tile_micro_avx2() {
  static const TileMicro<float> micro = make_float_tile_micro<avx2::Vec>();
  return micro;
}

}  // namespace perpend
